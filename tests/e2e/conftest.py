"""One server for all end-to-end tests; its log is shown with whatever fails."""

from collections.abc import Generator, Iterator

import pytest

from conftest import SkipLoudly
from e2e.browser import find_chromium
from e2e.served import Served, serve
from spoken import bundled_models
from voxthread.engines.models import ModelFiles

_LOG_LINES = 60


@pytest.fixture(scope="session")
def models(skip_loudly: SkipLoudly) -> ModelFiles:
    return bundled_models(skip_loudly)


@pytest.fixture(scope="session")
def server(models: ModelFiles) -> Iterator[Served]:
    """`voxthread serve` with the bundled models and the example agents."""
    with serve() as served:
        yield served


@pytest.fixture(scope="session")
def chromium(skip_loudly: SkipLoudly) -> str:
    return find_chromium(skip_loudly)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    served = getattr(item, "funcargs", {}).get("server")
    if report.failed and isinstance(served, Served):
        report.sections.append(("log of the server", "".join(served.log[-_LOG_LINES:])))
    return report
