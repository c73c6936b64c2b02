"""One session at this media process: its playout, and its peer while it has one."""

from typing import Final, Protocol

import anyio
from anyio.abc import TaskGroup, TaskStatus
from structlog.contextvars import bind_contextvars, bound_contextvars

from voxthread.core.audio import PACKET_MS
from voxthread.core.failures import MediaError
from voxthread.media.leg_log import LegLog
from voxthread.media.leg_peer import LegPeer
from voxthread.media.line import Line
from voxthread.media.link import RtpLink
from voxthread.media.owed import Owed
from voxthread.media.peer import open_peer
from voxthread.media.playout import Played, PlayoutQueue
from voxthread.media.rtp import RtpPacket
from voxthread.media.sdp import Offer
from voxthread.media.settings import MediaSettings
from voxthread.media.tally import tally_of_session
from voxthread.media.uplink import Uplink
from voxthread.media.voice_hint import VoiceHint
from voxthread.observability.clock import now_ms
from voxthread.observability.logs import get_logger
from voxthread.wire.audio import AudioRecord
from voxthread.wire.facts import (
    CloseLeg,
    EndCommand,
    FrontendBound,
    InFact,
    LegResumed,
    PeerConnected,
    PeerHeard,
    SessionOpened,
)

BATCH_MS: Final = 60

BATCH_WHILE_SPEAKING_MS: Final = 20
"""A caller who speaks over the agent must be noticed sooner."""

_SAY_EACH_MS: Final = 30_000
"""Of a session whose peer is there and says nothing its owner would otherwise hear nothing, and give it up."""

_LAST_WORDS_S: Final = 5.0
"""A log that takes nothing any more must not keep an ended session for ever."""

log = get_logger(__name__)


class LegWatch(Protocol):
    """Who wants to know of the peers of sessions, to let sessions without one expire."""

    def peer_connected(self, session_id: str) -> None: ...

    def peer_lost(self, session_id: str) -> None:
        """The session's newest peer is gone."""
        ...

    async def leg_ended(self, session_id: str, reason: str) -> None:
        """The session is over here. May raise `VoiceError`, which is logged."""
        ...


class Leg:
    """Serves one session: `run` while it lasts, `tick` every 20 ms, `take` for each of its records."""

    def __init__(
        self,
        leg_log: LegLog,
        first: SessionOpened | LegResumed,
        settings: MediaSettings,
        watch: LegWatch,
        *,
        frontend_session_id: str | None,
    ) -> None:
        """`first` is the first record from here: of a new session, or of one that was elsewhere before."""
        self.session_id = leg_log.session_id
        self.ended = anyio.Event()
        """Set by whoever runs the leg, when nothing of it is left."""
        self.goes_on = False
        """Once it has ended here: whether the session lives, for another media process."""
        self._log = leg_log
        self._first = first
        self._watch = watch
        self._settings = settings
        self._playout = PlayoutQueue()
        self._owed = Owed()
        self._uplink = Uplink()
        self._hint = VoiceHint()
        self._tally = tally_of_session(self._uplink, self._playout)
        self._tasks: TaskGroup | None = None
        self._end_reason: str | None = None
        self._peer: LegPeer | None = None
        self._line: Line | None = None
        self._frontend_session_id = frontend_session_id or self.session_id
        self._heard = Played(None, None)
        self._had_peer = isinstance(first, LegResumed)

    @property
    def is_closed(self) -> bool:
        """Whether it has ended, but for its last records."""
        return self._end_reason is not None

    async def run(self, *, task_status: TaskStatus[None]) -> str:
        """Announce the session, serve it until its last record is on the log, and return why it ended."""
        bind_contextvars(**self._ids)
        self.say(self._first)
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            task_status.started()
            await self._log.run()
            tasks.cancel_scope.cancel()
        return self._end_reason or "cancelled"

    async def connect(self, offer: Offer) -> LegPeer:
        """Answer an offer; a peer there was before is disconnected. Raises `MediaError`."""
        if self._tasks is None or self.is_closed:
            raise MediaError("media.session_ended", "The session has ended; start a new one.")
        peer: LegPeer = await self._tasks.start(self._serve_peer, offer)
        return peer

    def say(self, fact: InFact) -> None:
        """Put a fact on the log, after everything said and heard before."""
        if isinstance(fact, FrontendBound):
            self._frontend_session_id = fact.frontend_session_id
        self._log.say(fact)

    def end(self, reason: str) -> None:
        """The session is over: say so, disconnect, and finish once that is written."""
        if not self.is_closed:
            self.say(EndCommand(reason=reason))
            self.close(reason)

    def hand_over(self, reason: str) -> None:
        """Leave the session to another media process: say how much of it was heard, disconnect and finish."""
        if not self.is_closed:
            if self._line is not None:
                self._lose_line(self._line, reason)
            self.move(reason)

    def move(self, reason: str) -> None:
        """Another media process has the session: disconnect and finish without a word."""
        if not self.is_closed:
            self.goes_on = True
            self.close(reason)

    def close(self, reason: str) -> None:
        """Disconnect and finish without a word: the session's owner knows."""
        if self.is_closed:
            return
        self._end_reason = reason
        if self._peer is not None:
            self._peer.lose(reason)
        if self._tasks is not None:
            self._tasks.cancel_scope.deadline = anyio.current_time() + _LAST_WORDS_S
        self._log.close()
        with bound_contextvars(**self._ids):  # whoever closes it, its session's task or another
            log.info("leg.closed", reason=reason)

    def take(self, value: bytes) -> None:
        """A record of `voxthread.out` for this session. Raises `MalformedRecordError`."""
        content = self._log.read(value)
        if content is None:
            return
        self._owed.received()
        match content:
            case AudioRecord():
                self._playout.add(content)
            case CloseLeg(reason=reason):
                self.close(reason)
            case _:
                self._playout.command(content)

    def tick(self, ticks: int) -> None:
        """`ticks` times 20 ms have passed since the last tick; more than one after a stall."""
        now = now_ms()
        # What is due before the next tick is done now, so that no wait exceeds its limit.
        self._log.publish(self._uplink.handle_deadline(now + PACKET_MS, batch_ms=self._batch_ms))
        if self._line is not None:
            self._attend(self._line, now)
        packet = None
        if is_listened_to := self._is_listened_to(now):
            packet = self._playout.next_packet()
            if packet is None and self._playout.is_starved:
                packet = b""
        else:
            self._playout.pause()
        if self._owed.is_overdue(is_starved=is_listened_to and self._playout.is_starved, now_ms=now):
            self._suspect_owner()
        if self._line is not None:
            self._line.send(packet, ticks)
        for report in self._playout.take_reports():
            self.say(report if self._line is None else self._line.measured(report))
        self._tally.count()

    @property
    def _batch_ms(self) -> int:
        return BATCH_WHILE_SPEAKING_MS if self._playout.is_playing else BATCH_MS

    def _is_listened_to(self, now: int) -> bool:
        """Whether the caller listens, or there never was one: then time alone says what they would have heard.

        One whose connection is being set up is to hear the reply from its start, one who was lost the rest.
        """
        if self._line is not None:
            return self._line.is_listening(now)
        return self._peer is None and not self._had_peer

    def _attend(self, line: Line, now: int) -> None:
        news = line.attend(now, self._playout.played)
        if news is None and now - self._log.said_at_ms >= _SAY_EACH_MS:
            news = PeerHeard()
        if news is not None:
            self.say(news)
        if self._peer is not None and (trouble := line.trouble(now)):
            self._peer.lose(trouble)

    def _suspect_owner(self) -> None:
        if self._settings.suspects_owners and self._tasks is not None:
            self._tasks.start_soon(self._log.suspect_owner)

    async def _serve_peer(self, offer: Offer, *, task_status: TaskStatus[LegPeer]) -> None:
        bind_contextvars(**self._ids)
        async with open_peer(offer, self._settings) as peer:
            connection = LegPeer(self, peer)
            if self._peer is not None:
                self._peer.lose("replaced")
            self._peer = connection
            task_status.started(connection)
            link: RtpLink | None = None
            with connection.scope:
                try:
                    with anyio.fail_after(self._settings.setup_timeout_ms / 1000):
                        link = await peer.connect(self._hear)
                except TimeoutError:
                    connection.lose("never_connected")
                except MediaError as error:
                    connection.lose(error.code)
                else:
                    self._attach(link, receives_audio=peer.receives_audio)
                    connection.lose(await peer.lost())
            self._detach(connection, link)

    def _attach(self, link: RtpLink, *, receives_audio: bool) -> None:
        heard = self._heard if self._had_peer else self._playout.played
        self._line = Line(link, self._settings, receives_audio=receives_audio, heard=heard)
        self._had_peer = True
        self.say(PeerConnected(receives_audio=receives_audio))
        self._watch.peer_connected(self.session_id)
        bind_contextvars(**self._ids)
        log.info("peer.connected", receives_audio=receives_audio)

    def _detach(self, connection: LegPeer, link: RtpLink | None) -> None:
        reason = connection.lost_reason or "cancelled"
        if link is not None:
            link.detach()
            if self._line is not None and self._line.is_over(link):
                self._lose_line(self._line, reason)
        bind_contextvars(**self._ids)
        log.info("peer.lost", reason=reason, was_connected=link is not None)
        if self._peer is connection:
            self._peer = None
            if not self._had_peer:
                self.end("never_connected")
            elif not self.is_closed:
                self._watch.peer_lost(self.session_id)

    def _lose_line(self, line: Line, reason: str) -> None:
        """Nothing is sent to the caller, or played to nobody, from now on."""
        now = now_ms()
        line.attend(now, self._playout.played)
        self._heard, self._line = line.heard, None
        self._log.publish(self._uplink.end_source(now))
        self.say(line.lost(reason))

    def _hear(self, packet: RtpPacket, arrival_us: int) -> None:
        if packet.level is not None and self._hint.heard(packet.level):
            self._playout.give_way()
        self._log.publish(self._uplink.handle(packet, arrival_us // 1000, batch_ms=self._batch_ms))

    @property
    def _ids(self) -> dict[str, str]:
        """What every log line of the session carries."""
        return {"session_id": self.session_id, "frontend_session_id": self._frontend_session_id}
