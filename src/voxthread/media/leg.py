"""One session at this media process: its place on the log, its playout, and its peer while it has one."""

from collections.abc import Iterable
from typing import Final, Protocol

import anyio
import msgspec
from anyio.abc import TaskGroup, TaskStatus
from structlog.contextvars import bind_contextvars, bound_contextvars

from voxthread.core.audio import PACKET_MS
from voxthread.core.failures import MediaError
from voxthread.media.downlink import Downlink
from voxthread.media.fragment import parse_fragment
from voxthread.media.link import RtpLink
from voxthread.media.outbox import Outbox
from voxthread.media.peer import Peer, open_peer
from voxthread.media.playout import PlayoutQueue
from voxthread.media.rtp import RtpPacket
from voxthread.media.sdp import Offer
from voxthread.media.settings import MediaSettings
from voxthread.media.tally import Tally
from voxthread.media.uplink import Batch, Uplink
from voxthread.observability.clock import now_ms
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import BUS_RECORDS_FENCED
from voxthread.wire.audio import AudioRecord, MalformedRecordError, decode_audio, encode_audio, is_audio
from voxthread.wire.facts import (
    CloseLeg,
    EndCommand,
    FrontendBound,
    InFact,
    PeerConnected,
    PeerLost,
    PlayoutProgress,
    SessionOpened,
    decode_out_fact,
)
from voxthread.wire.log import Bus, Record, Stream
from voxthread.wire.stamp import Fence, Stamp

BATCH_MS: Final = 60

BATCH_WHILE_SPEAKING_MS: Final = 20
"""A caller who speaks over the agent must be noticed sooner."""

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


class LegPeer:
    """A caller's connection, as the door that answered it holds it."""

    def __init__(self, leg: "Leg", peer: Peer) -> None:
        self.answer = peer.answer
        self.scope = anyio.CancelScope()
        self.lost_reason: str | None = None
        self._leg = leg
        self._peer = peer

    @property
    def is_closed(self) -> bool:
        return self.lost_reason is not None

    def is_restart(self, fragment: str) -> bool:
        """Whether the fragment asks for an ICE restart. Raises `OfferError` if it is malformed."""
        return self._peer.is_restart(parse_fragment(fragment))

    async def trickle(self, fragment: str) -> None:
        """Raises `OfferError` if the fragment is malformed."""
        await self._peer.trickle(parse_fragment(fragment))

    def lose(self, reason: str) -> None:
        """Disconnect; the session goes on without this peer."""
        if self.lost_reason is None:
            self.lost_reason = reason
        self.scope.cancel()

    async def close(self, reason: str) -> None:
        """The caller hung up: end the session. Returns when its sockets are free and all is told."""
        self._leg.end(reason)
        await self._leg.ended.wait()


class Leg:
    """Serves one session: `run` while it lasts, `tick` every 20 ms, `take` for each of its records."""

    def __init__(
        self, bus: Bus, session_id: str, partition: int, settings: MediaSettings, watch: LegWatch
    ) -> None:
        self.session_id = session_id
        self.ended = anyio.Event()
        """Set by whoever runs the leg, when nothing of it is left."""
        self._watch = watch
        self._settings = settings
        self._stamp = Stamp(session_id, epoch=0)
        self._fence = Fence()
        self._outbox = Outbox(bus, partition)
        self._playout = PlayoutQueue()
        self._uplink = Uplink()
        self._tally = Tally(self._uplink, self._playout)
        self._tasks: TaskGroup | None = None
        self._end_reason: str | None = None
        self._peer: LegPeer | None = None
        self._downlink: Downlink | None = None
        self._frontend_session_id = session_id
        self._heard_at_ms = 0
        self._had_peer = False

    async def run(self, opened: SessionOpened, *, task_status: TaskStatus[None]) -> str:
        """Announce the session, serve it until its last record is on the log, and return why it ended."""
        self._frontend_session_id = opened.frontend_session_id or self.session_id
        bind_contextvars(**self._ids)
        self.say(opened)
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            task_status.started()
            await self._outbox.run()
            tasks.cancel_scope.cancel()
        return self._end_reason or "cancelled"

    async def connect(self, offer: Offer) -> LegPeer:
        """Answer an offer; a peer there was before is disconnected. Raises `MediaError`."""
        if self._tasks is None or self._end_reason is not None:
            raise MediaError("media.session_ended", "The session has ended; start a new one.")
        peer: LegPeer = await self._tasks.start(self._serve_peer, offer)
        return peer

    def say(self, fact: InFact) -> None:
        """Put a fact on the log, after everything said and heard before."""
        if isinstance(fact, FrontendBound):
            self._frontend_session_id = fact.frontend_session_id
        self._outbox.put(self._stamp.in_fact(fact))

    def end(self, reason: str) -> None:
        """The session is over: say so, disconnect, and finish once that is written."""
        if self._end_reason is None:
            self.say(EndCommand(reason=reason))
            self.close(reason)

    def close(self, reason: str) -> None:
        """Disconnect and finish without a word: the session's owner knows."""
        if self._end_reason is not None:
            return
        self._end_reason = reason
        if self._peer is not None:
            self._peer.lose(reason)
        if self._tasks is not None:
            self._tasks.cancel_scope.deadline = anyio.current_time() + _LAST_WORDS_S
        self._outbox.close()
        with bound_contextvars(**self._ids):  # whoever closes it, its session's task or another
            log.info("leg.closed", reason=reason)

    def take(self, value: bytes) -> None:
        """A record of `voxthread.out` for this session. Raises `MalformedRecordError`."""
        if is_audio(value):
            audio = decode_audio(value)
            if self._admits(audio.epoch, audio.seq):
                self._playout.add(audio)
            return
        record = decode_out_fact(value)
        if record.session_id != self.session_id:
            raise MalformedRecordError("the record's session is not its key")
        if not self._admits(record.epoch, record.seq):
            return
        if isinstance(record.fact, CloseLeg):
            self.close(record.fact.reason)
        else:
            self._playout.command(record.fact)

    def tick(self, ticks: int) -> None:
        """`ticks` times 20 ms have passed since the last tick; more than one after a stall."""
        now = now_ms()
        # What is due before the next tick is done now, so that no wait exceeds its limit.
        self._publish(self._uplink.handle_deadline(now + PACKET_MS, batch_ms=self._batch_ms))
        # A caller whose connection is being set up is to hear the reply from its start.
        is_connecting = self._peer is not None and self._downlink is None
        packet = None if is_connecting else self._playout.next_packet()
        if self._downlink is not None:
            self._downlink.tick(packet, ticks)
            if now - self._heard_at_ms >= self._settings.silence_timeout_ms and self._peer is not None:
                self._peer.lose("no_rtp")
        for report in self._playout.take_reports():
            self.say(self._with_line_quality(report))
        self._tally.count()

    @property
    def _batch_ms(self) -> int:
        return BATCH_WHILE_SPEAKING_MS if self._playout.is_playing else BATCH_MS

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
        self._downlink = Downlink(link, receives_audio=receives_audio)
        self._heard_at_ms = now_ms()
        self._had_peer = True
        self.say(PeerConnected(receives_audio=receives_audio))
        self._watch.peer_connected(self.session_id)
        bind_contextvars(**self._ids)
        log.info("peer.connected", receives_audio=receives_audio)

    def _detach(self, connection: LegPeer, link: RtpLink | None) -> None:
        reason = connection.lost_reason or "cancelled"
        if link is not None:
            link.detach()
            if self._downlink is not None and self._downlink.link is link:
                self._downlink = None
            self._publish(self._uplink.end_source(now_ms()))
            self.say(PeerLost(reason=reason))
        bind_contextvars(**self._ids)
        log.info("peer.lost", reason=reason, was_connected=link is not None)
        if self._peer is connection:
            self._peer = None
            if not self._had_peer:
                self.end("never_connected")
            elif self._end_reason is None:
                self._watch.peer_lost(self.session_id)

    def _hear(self, packet: RtpPacket, arrival_us: int) -> None:
        self._heard_at_ms = arrival_us // 1000
        self._publish(self._uplink.handle(packet, self._heard_at_ms, batch_ms=self._batch_ms))

    def _publish(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            record = AudioRecord(
                epoch=self._stamp.epoch,
                seq=self._stamp.take_seq(),
                timestamp=batch.timestamp,
                packets=batch.packets,
                packet_ms=batch.packet_ms,
            )
            self._outbox.put(Record(self.session_id, encode_audio(record)), audio_ms=record.duration_ms)

    def _admits(self, epoch: int, seq: int) -> bool:
        if self._fence.admits(epoch, seq):
            return True
        BUS_RECORDS_FENCED.labels(Stream.OUT).inc()
        return False

    def _with_line_quality(self, report: PlayoutProgress) -> PlayoutProgress:
        if self._downlink is None:
            return report
        link = self._downlink.link
        return msgspec.structs.replace(
            report, loss_fraction=link.loss_fraction, round_trip_ms=link.round_trip_ms
        )

    @property
    def _ids(self) -> dict[str, str]:
        """What every log line of the session carries."""
        return {"session_id": self.session_id, "frontend_session_id": self._frontend_session_id}
