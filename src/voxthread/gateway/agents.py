"""GET /v1/agents: which agents a caller may ask for."""

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route


def create_agents_routes(names: Sequence[str]) -> list[BaseRoute]:
    """`names`: the first is the default."""

    async def agents(_request: Request) -> Response:
        return JSONResponse({"agents": list(names), "default": names[0]}, headers={"Cache-Control": "no-store"})

    return [Route("/v1/agents", agents)]
