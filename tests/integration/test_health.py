import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette

from voxthread.gateway.health import create_health_routes

pytestmark = pytest.mark.integration


def client(app: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://voxthread.test")


@pytest.mark.anyio
async def test_readyz_follows_what_its_components_say() -> None:
    reasons: dict[str, str | None] = {"models": "still loading", "events": None}
    components = {name: lambda name=name: reasons[name] for name in reasons}
    async with client(Starlette(routes=create_health_routes(components))) as http:
        unready = await http.get("/readyz")
        assert (unready.status_code, unready.json()) == (
            503,
            {"ready": False, "reasons": {"models": "still loading"}},
        )
        assert unready.headers["retry-after"]
        assert (await http.get("/healthz")).status_code == 200
        reasons["models"] = None
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()) == (200, {"ready": True})
        assert ready.headers["cache-control"] == "no-store"


@pytest.mark.anyio
async def test_metrics_is_prometheus_text_of_the_registry() -> None:
    registry = CollectorRegistry()
    Counter("voxthread_tests", "Tests run.", registry=registry).inc()
    async with client(Starlette(routes=create_health_routes({}, registry))) as http:
        metrics = await http.get("/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=")
    assert "voxthread_tests_total 1.0" in metrics.text.splitlines()
