"""The caller's end of a call: one media connection after another, all of one session."""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import anyio

from voxthread.client.failures import CallError
from voxthread.client.peer import Peer
from voxthread.client.whip import WhipAnswer, WhipClient
from voxthread.media.rtp import RtpPacket

_REDIAL_CONNECT_MS = 5_000

_POLL_MS = 250
_SILENT_POLLS = 16
_SILENT_POLLS_IN_SPEECH = 6
"""Without a packet for 4 s, 1.5 s while the agent speaks, a connection is doubted: servers send one each 400 ms
also in silence. Polls are counted, not time, so that a stall of this process is not held against the server."""


@dataclass(slots=True, kw_only=True)
class Reconnect:
    """A loss of the line. `at_ms` is Unix time. `gap_ms` is from the loss, as it was noticed, to the next media
    connection; None while there is none."""

    at_ms: int
    reason: str
    gap_ms: int | None = None


class Line:
    """Made by `dial`, moved by `redial`; what is sent in between is lost."""

    def __init__(self, url: str, whip: WhipClient, *, on_packet: Callable[[RtpPacket, int], None]) -> None:
        self.is_away = False
        """Set by whoever mends the line while it does."""
        self._url = url
        self._whip = whip
        self._on_packet = on_packet
        self.answer: WhipAnswer | None = None
        """The server's newest: its tokens are those that count. None before anything was answered."""
        self._connection: _Connection | None = None
        self._is_in_doubt = False
        """Whether a resume has been asked for of which no answer came."""

    async def __aenter__(self) -> "Line":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        if self._connection is not None:
            await self._connection.peer.close()

    @property
    def session_token(self) -> str:
        """Binds a socket to the session, until the next `redial`. A secret."""
        assert self.answer is not None, "the line was not dialled"
        return self.answer.session_token

    @property
    def may_redial(self) -> bool:
        return self.answer is not None and self.answer.resume_token is not None

    async def dial(self, *, agent: str | None, frontend_session_id: str | None, timeout_ms: int) -> None:
        """Begin a session. Raises `CallError`."""
        connection = _Connection(self._url, self._on_packet)
        try:
            offer = await connection.peer.offer()
            self.answer = await self._whip.place(offer, agent=agent, frontend_session_id=frontend_session_id)
            await connection.peer.connect(self.answer.sdp, timeout_ms=timeout_ms)
        except BaseException:
            await connection.peer.close()
            raise
        self._connection = connection

    async def redial(self) -> None:
        """Move the session to a new connection; the old one is used until then. Raises `CallError`."""
        connection = _Connection(self._url, self._on_packet)
        try:
            self.answer = await self._resume(await connection.peer.offer())
            await connection.peer.connect(self.answer.sdp, timeout_ms=_REDIAL_CONNECT_MS)
        except BaseException:
            await connection.peer.close()
            raise
        left, self._connection = self._connection, connection
        if left is not None:
            await left.peer.close()

    async def _resume(self, offer: str) -> WhipAnswer:
        """Show the resume token. One that is refused, and was shown before without a word of what became of it,
        we may have used up ourselves: then the session token tells. Raises `CallError`."""
        assert self.answer is not None, "the line was not dialled"
        assert self.answer.resume_token is not None, "the server gave nothing to resume with"
        try:
            answer = await self._whip.resume(offer, self.answer.resume_token)
        except CallError as error:
            if self._is_in_doubt and error.code == "resume_token_invalid":
                return await self._whip.rejoin(offer, self.answer.session_token)
            self._is_in_doubt = True
            raise
        # Not so after a rejoin: an earlier one that hangs may still be granted, and use the newest token up.
        self._is_in_doubt = False
        return answer

    async def lost(self, agent_is_speaking: Callable[[], bool]) -> str:
        """Return why, once the connection is lost or has been silent for too long."""
        connection = self._connection
        assert connection is not None, "the line was not dialled"
        async with anyio.create_task_group() as tasks:
            if self.may_redial:
                tasks.start_soon(connection.doubt_silence, agent_is_speaking)
            await connection.lost.wait()
            tasks.cancel_scope.cancel()
        return connection.reason

    def send(self, payload: bytes, level: int) -> bool:
        assert self._connection is not None, "the line was not dialled"
        return self._connection.peer.link.send(payload, level=level) and not self.is_away

    def send_report(self) -> None:
        assert self._connection is not None, "the line was not dialled"
        self._connection.peer.link.send_report()


class _Connection:
    """One media connection, and whether it is lost."""

    def __init__(self, url: str, on_packet: Callable[[RtpPacket, int], None]) -> None:
        self.peer = Peer(url, on_packet=on_packet, on_lost=self._lose)
        self.lost = anyio.Event()
        self.reason = ""

    async def doubt_silence(self, agent_is_speaking: Callable[[], bool]) -> None:
        silent_polls, received = 0, 0
        while silent_polls < (_SILENT_POLLS_IN_SPEECH if agent_is_speaking() else _SILENT_POLLS):
            await anyio.sleep(_POLL_MS / 1000)
            before, received = received, self.peer.link.received_packets
            silent_polls = silent_polls + 1 if received == before else 0
        self._lose("silent")

    def _lose(self, state: str) -> None:
        self.reason = self.reason or f"media_{state}"
        self.lost.set()
