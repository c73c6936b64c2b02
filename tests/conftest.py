"""Rules every test lives by: one kind each, no silent skip, the same property examples in CI each time."""

import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest
import structlog
from hypothesis import settings

from kafka.brokers import Cluster, KafkaUnavailableError, running

KINDS = ("unit", "contract", "replay", "integration", "e2e")
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}
ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.toml")

pytest.register_assert_rewrite("contract")

SkipLoudly = Callable[[str, str], NoReturn]

settings.register_profile("default", max_examples=20, deadline=None)
settings.register_profile("deep", max_examples=2_000, deadline=None)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if IN_CI else "default"))

_loud_skips: set[str] = set()


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """A test that runs a command configures the logs of its process; the next tests do not inherit it."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture(scope="session")
def skip_loudly() -> SkipLoudly:
    """`skip_loudly(what, reason)` skips because this machine lacks `what`, and says so at the end.

    In CI it fails, unless `allowed_skips.toml` gives `what` a reason.
    """
    allowed: dict[str, str] = tomllib.loads(ALLOWED_SKIPS.read_text())

    def skip(what: str, reason: str) -> NoReturn:
        if IN_CI and not allowed.get(what):
            pytest.fail(f"{what}: {reason}. CI must run this; a skip needs its reason in {ALLOWED_SKIPS.name}")
        _loud_skips.add(f"{what}: {reason}")
        pytest.skip(f"{what}: {reason}")

    return skip


@pytest.fixture(scope="session")
def start_kafka(skip_loudly: SkipLoudly) -> Callable[..., AbstractContextManager[Cluster]]:
    """`kafka.brokers.running`, for tests that stop and kill brokers of their own."""

    @contextmanager
    def start(count: int, directory: Path, **more: Mapping[str, str]) -> Iterator[Cluster]:
        with ExitStack() as started:
            try:
                cluster = started.enter_context(running(count, directory, **more))
            except KafkaUnavailableError as error:
                skip_loudly("kafka", str(error))
            yield cluster

    return start


@pytest.fixture(scope="session")
def kafka_bootstrap(
    tmp_path_factory: pytest.TempPathFactory, start_kafka: Callable[..., AbstractContextManager[Cluster]]
) -> Iterator[str]:
    """Where a real Kafka answers: the one of VOXTHREAD_TEST_KAFKA, else one for all these tests."""
    if named := os.environ.get("VOXTHREAD_TEST_KAFKA"):
        yield named
        return
    with start_kafka(1, tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster.bootstrap


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    wrong = {item.location[0] for item in items if not _is_of_one_kind(item)}
    if wrong:
        raise pytest.UsageError(
            f"each test module needs `pytestmark = pytest.mark.<its directory>`: {', '.join(sorted(wrong))}"
        )


def _is_of_one_kind(item: pytest.Item) -> bool:
    """A module in a directory of a kind is of that kind; one beside this file chooses its own."""
    kinds = {mark.name for mark in item.iter_markers()} & set(KINDS)
    return len(kinds) == 1 if item.path.parent == Path(__file__).parent else kinds == {item.path.parent.name}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _loud_skips:
        terminalreporter.section("NOT TESTED ON THIS MACHINE", sep="!", red=True, bold=True)
        for line in sorted(_loud_skips):
            terminalreporter.line(line, red=True)
