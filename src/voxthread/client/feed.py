"""The events of a call as they come over `/ws`, and waiting for what they tell."""

from collections.abc import Callable
from enum import Enum

import anyio
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from voxthread.client.failures import CallError
from voxthread.client.story import Story
from voxthread.client.whip import tls_context
from voxthread.observability.clock import now_us
from voxthread.observability.logs import get_logger
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.commands import BindSession
from voxthread.wire.events import Envelope, decode_event

log = get_logger(__name__)

_OPEN_TIMEOUT_SECONDS = 10
_CLOSE_TIMEOUT_SECONDS = 1
_SOCKET_ERRORS = (OSError, TimeoutError, InvalidHandshake, InvalidURI, msgspec.MsgspecError)


class FeedEnd(Enum):
    """Why events stop coming; a feed that is left early, `RESTARTING` or `SLOW`, may be followed again."""

    OVER = "events_over"
    RESTARTING = "events_restarting"
    SLOW = "events_slow"
    LOST = "events_lost"


_END_BY_CODE = {1012: FeedEnd.RESTARTING, 1013: FeedEnd.SLOW}


class EventFeed:
    """`on_event` sees each new event once, after `story` took it in."""

    def __init__(self, on_event: Callable[[Envelope], None] | None = None) -> None:
        self.story = Story()
        self._on_event = on_event
        self._failure: CallError | None = None
        self._changed = anyio.Event()
        self._is_bound = False

    @property
    def is_over(self) -> bool:
        return self._failure is not None

    @property
    def is_bound(self) -> bool:
        """Whether the newest socket got as far as being bound."""
        return self._is_bound

    async def follow(self, url: str, session_token: str) -> FeedEnd:
        """Take events in from the server at `url`, those the story has not seen, until they end; return why.

        Raises `CallError` with the server's code if the token opens nothing.
        """
        bind = BindSession(token=session_token, last_event_id=self.story.last_seq)
        address = url.rstrip("/").replace("http", "ws", 1) + "/ws"
        tls = tls_context() if address.startswith("wss:") else None
        self._is_bound = False
        try:
            socket = await connect(
                address, ssl=tls, compression=None, proxy=None, open_timeout=_OPEN_TIMEOUT_SECONDS
            )
            try:
                await socket.send(msgspec.json.encode(bind).decode())
                await self._take_in(socket)
            finally:
                # A feed ends by being cancelled, in which the closing handshake would be cut short.
                with anyio.move_on_after(_CLOSE_TIMEOUT_SECONDS, shield=True):
                    await socket.close()
                socket.transport.abort()
        except ConnectionClosed as closed:
            return _END_BY_CODE.get(closed.rcvd.code if closed.rcvd else 0, FeedEnd.LOST)
        except _SOCKET_ERRORS as error:
            log.debug("events.lost", address=address, reason=str(error))
            return FeedEnd.LOST
        return FeedEnd.OVER

    async def until(self, is_so: Callable[[Story], bool]) -> None:
        """Wait until the story is so. Raises `CallError` once it can no longer become so."""
        while not is_so(self.story):
            if self._failure is not None:
                raise self._failure
            await self._changed.wait()

    async def bound(self, *, timeout_ms: int) -> None:
        """Wait until the server has bound the feed to the session. Raises `CallError`."""
        try:
            with anyio.fail_after(timeout_ms / 1000):
                await self.until(lambda _: self._is_bound)
        except TimeoutError:
            raise CallError("call.events_lost", f"/ws did not bind within {timeout_ms} ms") from None

    def fail(self, error: CallError) -> None:
        """Nothing more will come: whoever waits for it is told why. The first reason stays."""
        self._failure = self._failure or error
        self._notify()

    async def _take_in(self, socket: ClientConnection) -> None:
        async for message in socket:
            data = message.encode() if isinstance(message, str) else message
            self._receive(data, now_us())

    def _receive(self, data: bytes, arrival_us: int) -> None:
        fields = msgspec.json.decode(data, type=dict[str, object])
        if "seq" in fields:
            self._receive_event(data, arrival_us)
        elif fields.get("type") == "session.bound":
            self._is_bound = True
        elif fields.get("type") == "error" and not self._is_bound:
            detail = f"the server refused the events: {fields.get('message')}"
            raise CallError(str(fields.get("code")), detail)
        self._notify()

    def _receive_event(self, data: bytes, arrival_us: int) -> None:
        try:
            envelope = decode_event(data)
        except MalformedRecordError as error:
            # A newer server tells of things this client does not know.
            log.debug("event.not_understood", reason=str(error))
            return
        if not self.story.add(envelope, arrival_us):
            return
        if self.story.closed_because is not None:
            self.fail(CallError("call.closed", f"the server ended the call: {self.story.closed_because}"))
        if self._on_event is not None:
            self._on_event(envelope)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()
