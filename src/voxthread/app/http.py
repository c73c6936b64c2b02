"""The HTTP server of a process: uvicorn inside a task group, on a socket bound before anything is loaded."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio
import uvicorn
from starlette.types import ASGIApp

from voxthread.app.http_protocol import TimedHttpProtocol
from voxthread.config import HttpConfig
from voxthread.core.failures import VoiceError

_GRACE_S = 3
"""For requests under way when the server stops."""

_KEEP_ALIVE_S = 20
"""Longer than clients keep a connection (httpx: 5 s): one that is closed just as a DELETE comes loses it."""

_HSTS = ("Strict-Transport-Security", "max-age=31536000")

_MAX_SOCKET_MESSAGE_BYTES = 1024 * 1024
"""More than any message may have, so that one that is too large is answered rather than cut off."""


class ListenError(VoiceError):
    stage = "http"


class _Server(uvicorn.Server):
    """Signals belong to the process, not to its HTTP server, which says when it answers."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.answers = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.answers.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def bind(config: HttpConfig) -> socket.socket:
    """A bound socket that does not listen yet. Raises `ListenError` in one clear line."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((config.host, config.port))
    except OSError as error:
        bound.close()
        raise ListenError(
            "http.cannot_listen",
            f"cannot listen on {config.host}:{config.port}: {error.strerror or error}; "
            "stop what listens there or choose another --port",
        ) from None
    return bound


def url_of(config: HttpConfig, bound: socket.socket) -> str:
    return url_at(config, bound.getsockname()[1])


def url_at(config: HttpConfig, port: int) -> str:
    host = config.host if config.host not in ("0.0.0.0", "::", "") else "127.0.0.1"
    scheme = "https" if config.tls_cert else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


@asynccontextmanager
async def open_http(app: ASGIApp, config: HttpConfig, bound: socket.socket) -> AsyncIterator[None]:
    """Serve inside the block; on the way out requests under way have a few seconds to end."""
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            http=TimedHttpProtocol,
            headers=[_HSTS] if config.tls_cert else [],
            proxy_headers=bool(config.trusted_proxies),
            forwarded_allow_ips=[*config.trusted_proxies],
            ws="websockets-sansio",
            ws_max_size=_MAX_SOCKET_MESSAGE_BYTES,
            ssl_certfile=config.tls_cert,
            ssl_keyfile=config.tls_key,
            timeout_graceful_shutdown=_GRACE_S,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [bound])
        await server.answers.wait()
        try:
            yield
        finally:
            server.should_exit = True
