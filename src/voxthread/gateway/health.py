"""Is it alive, does it take calls, how is it: for supervisors, load balancers and Prometheus."""

from collections.abc import Callable, Mapping

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

_NOT_STORED = {"Cache-Control": "no-store"}

Unready = Callable[[], str | None]
"""Why a component takes no calls now, for an operator's eyes; None when it does. Must not block."""


def create_health_routes(
    components: Mapping[str, Unready], registry: CollectorRegistry = REGISTRY
) -> list[BaseRoute]:
    """`/healthz` is 200 while the loop runs; `/readyz` 200 once no component objects, else 503 with reasons."""

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n", headers=_NOT_STORED)

    async def readyz(_request: Request) -> Response:
        reasons = {name: reason for name, unready in components.items() if (reason := unready()) is not None}
        if reasons:
            return JSONResponse({"ready": False, "reasons": reasons}, 503, _NOT_STORED | {"Retry-After": "1"})
        return JSONResponse({"ready": True}, headers=_NOT_STORED)

    async def metrics(_request: Request) -> Response:
        return Response(
            generate_latest(registry), headers=_NOT_STORED | {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        )

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
