"""A real HTTP server on loopback that streams chat completions as providers do, and as bad ones do."""

import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

HANG = b"hang"
"""In a script: wait until the client has gone."""

BREAK = b"break"
"""In a script: drop the connection."""


def chunk(text: str | None = None, *, finish: str | None = None) -> bytes:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    event = {"object": "chat.completion.chunk", "choices": [choice]}
    return b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"


def completion(text: str) -> list[bytes]:
    words = [f"{word} " for word in text.split(" ")]
    words[-1] = words[-1].rstrip(" ")
    return [chunk(""), *map(chunk, words), chunk(finish="stop"), b"data: [DONE]\n\n"]


@dataclass(slots=True)
class CompletionsServer:
    """What it was asked, and whether a client left before the end."""

    script: Sequence[bytes]
    status: int = 200
    base_url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    abandoned: threading.Event = field(default_factory=threading.Event)

    async def answer(self, request: Request) -> Response:
        self.requests.append(await request.json())
        self.keys.append(request.headers.get("authorization"))
        if self.status != 200:
            return Response("your prompt was: secret words", status_code=self.status)
        return StreamingResponse(self._stream(), media_type="text/event-stream")

    async def _stream(self) -> AsyncIterator[bytes]:
        try:
            for part in self.script:
                if part == HANG:
                    await anyio.sleep_forever()
                if part == BREAK:
                    raise ConnectionResetError
                yield part
        except anyio.get_cancelled_exc_class():
            self.abandoned.set()
            raise


@contextmanager
def serve_completions(
    text: str = "", *, script: Sequence[bytes] = (), status: int = 200
) -> Iterator[CompletionsServer]:
    server = CompletionsServer(script or completion(text), status)
    app = Starlette(routes=[Route("/v1/chat/completions", server.answer, methods=["POST"])])
    listener = uvicorn.Config(app, port=0, log_level="critical", lifespan="off").bind_socket()
    listener.listen()  # who connects before the thread serves must wait, not be refused
    server.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    # The server has a loop of its own, in a thread: it must not share the cancellation of the test's tasks.
    uvicorn_server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=uvicorn_server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield server
    finally:
        uvicorn_server.should_exit = uvicorn_server.force_exit = True
        thread.join()
        listener.close()
