"""The page at `/`: plain files beside this one, served as they are, with no build step."""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # A new server may come with new files: browsers ask each time and are mostly told 304.
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    headers: dict[str, str]


def create_page_routes() -> list[BaseRoute]:
    """`/` and what it links to under `/page/`, read from the package once."""
    pages = {entry.name: entry for entry in files(__name__).iterdir()}
    return [
        _route("/" if name == "index.html" else f"/page/{name}", _read(entry.read_bytes(), media_type))
        for name, entry in sorted(pages.items())
        if (media_type := _MEDIA_TYPES.get("." + name.rpartition(".")[2])) is not None
    ]


def _read(content: bytes, media_type: str) -> _File:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    return _File(content, {**_HEADERS, "Content-Type": media_type, "ETag": etag})


def _route(path: str, file: _File) -> Route:
    async def serve(request: Request) -> Response:
        asked = request.headers.get("if-none-match", "")
        if file.headers["ETag"] in {tag.strip().removeprefix("W/") for tag in asked.split(",")}:
            headers = {name: value for name, value in file.headers.items() if name != "Content-Type"}
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=file.headers)

    return Route(path, serve)
