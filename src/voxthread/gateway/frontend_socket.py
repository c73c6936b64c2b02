"""One socket of a frontend, from its first message to its close, and what it needs of the house."""

from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import Protocol

import anyio
import msgspec
import structlog
from anyio.abc import TaskGroup
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from voxthread.core.events import SessionBound
from voxthread.core.failures import SessionError, VoiceError
from voxthread.core.ids import Dialect
from voxthread.gateway.door import OpenedSession, SessionDoor
from voxthread.gateway.following import TOO_SLOW, Following, error_text
from voxthread.gateway.hub import EventHub
from voxthread.observability.clock import now_ms
from voxthread.observability.logs import get_logger
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.wire.commands import (
    BindSession,
    EndSession,
    FrontendMessage,
    Interrupt,
    Ping,
    SendText,
    decode_frontend_message,
)
from voxthread.wire.events import EVENT_VERSION
from voxthread.wire.facts import EndCommand, InFact, InterruptCommand, TextCommand

_CLOSE_WAIT_S = 5.0
_POLICY_VIOLATION = 1008

log = get_logger(__name__)


class Commands(Protocol):
    async def send(self, session_id: str, fact: InFact) -> None:
        """Put a fact on the session's `voxthread.in`. Raises `VoiceError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketLimits:
    max_sockets: int = 1_000
    bind_ms: int = 10_000
    """A socket that has not bound by then is closed."""
    send_ms: int = 10_000
    """One event that takes longer to hand to the network ends a socket as too slow."""
    messages_per_s: int = 20
    burst_messages: int = 40


class RateCap:
    """A bucket of `burst` messages that refills with `per_s`."""

    __slots__ = ("_burst", "_left", "_now_ms", "_per_s")

    def __init__(self, per_s: int, burst: int, now: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = float(burst)
        self._now_ms = now

    def admits(self, now: int) -> bool:
        self._left = min(self._burst, self._left + (now - self._now_ms) * self._per_s / 1000)
        self._now_ms = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class FrontendSocket:
    """One accepted socket: unbound, then bound to one session until either side closes."""

    def __init__(
        self,
        websocket: WebSocket,
        hub: EventHub,
        door: SessionDoor,
        commands: Commands,
        invalid_ids: InvalidIds,
        principal: str,
        limits: SocketLimits,
    ) -> None:
        self._websocket = websocket
        self._hub = hub
        self._door = door
        self._commands = commands
        self._invalid_ids = invalid_ids
        self._principal = principal
        self._limits = limits
        self._session: OpenedSession | None = None

    async def converse(self) -> None:
        """Ends when the socket is closed by either side."""
        async with AsyncExitStack() as while_open, anyio.create_task_group() as tasks:
            tasks.start_soon(self._close_if_unbound, tasks)
            try:
                await self._listen(tasks, while_open)
            except (WebSocketDisconnect, WebSocketDisconnected):
                log.info("socket.lost")
            tasks.cancel_scope.cancel()

    async def _close_if_unbound(self, tasks: TaskGroup) -> None:
        await anyio.sleep(self._limits.bind_ms / 1000)
        if self._session is None:
            await self._close(tasks, _POLICY_VIOLATION, "no session.bind came")

    async def _listen(self, tasks: TaskGroup, while_open: AsyncExitStack) -> None:
        rate = RateCap(self._limits.messages_per_s, self._limits.burst_messages, now_ms())
        while True:
            received = await self._websocket.receive()
            if received["type"] == "websocket.disconnect":
                return
            try:
                if not rate.admits(now_ms()):
                    # Reading no faster than the cap leaves the rest of a flood to TCP's flow control.
                    await anyio.sleep(1 / self._limits.messages_per_s)
                    raise SessionError(
                        "message.too_fast",
                        f"at most {self._limits.messages_per_s} messages a second",
                        retryable=True,
                    )
                text = received.get("text")
                if text is None:
                    raise SessionError("message.not_text", "a message is a text frame")
                await self._obey(decode_frontend_message(text), tasks, while_open)
            except VoiceError as error:
                log.info("socket.message_refused", code=error.code)
                session_id = self._session.session_id if self._session else None
                await self._websocket.send_text(error_text(error.failure, session_id))

    async def _obey(self, message: FrontendMessage, tasks: TaskGroup, while_open: AsyncExitStack) -> None:
        match message:
            case Ping(id=ping_id):
                await self._send_json({"type": "pong", "id": ping_id})
            case BindSession():
                await self._bind(message, tasks, while_open)
            case SendText(text=text):
                await self._command(TextCommand(text=text))
            case Interrupt():
                await self._command(InterruptCommand())
            case EndSession():
                await self._command(EndCommand(reason="ended_by_frontend"))

    async def _command(self, fact: InFact) -> None:
        if self._session is None:
            raise SessionError("session_not_bound", "send session.bind first")
        await self._commands.send(self._session.session_id, fact)

    async def _bind(self, message: BindSession, tasks: TaskGroup, while_open: AsyncExitStack) -> None:
        if self._session is not None:
            raise SessionError("session_already_bound", "a socket follows one session")
        session = await self._open(message)
        self._session = session
        structlog.contextvars.bind_contextvars(
            session_id=session.session_id, frontend_session_id=session.frontend_session_id
        )
        following = while_open.enter_context(
            self._hub.follow(session.session_id, session.partition, message.last_event_id)
        )
        log.info("socket.bound", after_seq=message.last_event_id)
        await self._send_json(
            {
                "type": SessionBound.TYPE,
                "v": EVENT_VERSION,
                "session_id": session.session_id,
                "frontend_session_id": session.frontend_session_id,
                "token": session.token,
            }
        )
        tasks.start_soon(self._send_events, following, tasks)

    async def _open(self, message: BindSession) -> OpenedSession:
        if message.session_id is not None:
            # A name to check against the token, never a permission.
            self._invalid_ids.check(message.session_id, component="ws", dialect=Dialect.MEDIA)
            if message.token is None:
                raise SessionError("token_missing", "an id opens no session, its token does")
        session = await self._door.open(
            frontend_session_id=message.frontend_session_id,
            principal=self._principal,
            session_token=message.token,
            agent=message.agent,
            via="ws",
        )
        if session.is_new:
            self._hub.expect(session.session_id, session.partition)
        if message.session_id not in (None, session.session_id, session.frontend_session_id):
            raise SessionError("session_mismatch", "session_id names another session than the token opens")
        return session

    async def _send_events(self, following: Following, tasks: TaskGroup) -> None:
        try:
            async with aclosing(following.events()) as events:
                async for text in events:
                    with anyio.fail_after(self._limits.send_ms / 1000):
                        await self._websocket.send_text(text)
            ending = following.ending
        except TimeoutError:
            ending = TOO_SLOW
        except WebSocketDisconnect:
            tasks.cancel_scope.cancel()
            return
        log.info("socket.closing", code=ending.code)
        await self._close(tasks, ending.code, ending.reason)

    async def _close(self, tasks: TaskGroup, code: int, reason: str) -> None:
        """Bounded: a peer that reads nothing does not take the close frame either."""
        with anyio.move_on_after(_CLOSE_WAIT_S):
            await self._websocket.close(code, reason)
        tasks.cancel_scope.cancel()

    async def _send_json(self, message: dict[str, object]) -> None:
        await self._websocket.send_text(msgspec.json.encode(message).decode())
