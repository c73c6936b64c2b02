"""Taking a partition over: what the log says of the sessions whose owner is gone.

    voxthread.state    newest snapshot of each session, and how far the owner had read   (folded from the start)
    voxthread.events   inputs of the turn machine after the snapshot, and what was published of them
    voxthread.out      how much audio of the live reply was sent
    voxthread.in       the audio the open utterance is made of, up to where the owner had read

The same inputs give the same machine, so the session goes on exactly where the log ends.
"""

import math
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio
import msgspec
from anyio.lowlevel import checkpoint

from voxthread.core import effects as do
from voxthread.core import inputs
from voxthread.core.attempts import Attempt
from voxthread.core.audio import RTP_CLOCK_HZ
from voxthread.core.events import Event, OwnerEvent
from voxthread.core.ids import refusal
from voxthread.core.replay import drive
from voxthread.core.turn_state import TurnPolicy, TurnSnapshot
from voxthread.core.turns import TurnMachine
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import BUS_RECORDS_MALFORMED
from voxthread.orchestrator.ear import decode_audible
from voxthread.orchestrator.log_writer import patiently
from voxthread.sessions.invalid_ids import quote
from voxthread.wire.audio import AudioRecord, MalformedRecordError, decode_audio, is_audio
from voxthread.wire.dead_letter import is_retry
from voxthread.wire.events import decode_event, is_public
from voxthread.wire.facts import (
    IdRefused,
    PlayoutProgress,
    RewindPlayout,
    SessionOpened,
    decode_in_fact,
    decode_out_fact,
)
from voxthread.wire.inputs import decode_input
from voxthread.wire.log import Bus, StoredRecord, Stream
from voxthread.wire.snapshots import (
    NewerSnapshotError,
    SessionSnapshot,
    decode_attempt,
    decode_progress,
    decode_snapshot,
    decode_snapshot_head,
    is_attempt,
    is_progress,
    tombstone_epoch,
)
from voxthread.wire.stamp import Fence

log = get_logger(__name__)

_IDLE_FACTS = (SessionOpened, PlayoutProgress, IdRefused)
"""Of which a session that has nothing to do makes nothing."""

_BATCH_RECORDS = 64
"""A reader that catches up lets other tasks run this often."""

_KEPT_SNAPSHOTS = 4
"""Of each session, should the newest turn out to be malformed."""

_TICKS_PER_MS = RTP_CLOCK_HZ // 1000


@dataclass(frozen=True, slots=True)
class Opening:
    """A session that begins, and where on `voxthread.in` it does."""

    position: int
    opened: SessionOpened

    @property
    def frontend_session_id(self) -> str | None:
        return self.opened.frontend_session_id


@dataclass(slots=True)
class Recovered:
    """A session as the log has it. `snapshot.turn` is folded up to the last input on the log."""

    snapshot: SessionSnapshot
    turn: TurnSnapshot
    unpublished: list[Event] = field(default_factory=list)
    """Events of the last inputs that their owner did not live to publish."""
    audio: list[tuple[int, AudioRecord]] = field(default_factory=list)
    """Already dealt with, but the models that heard it are gone."""
    unheard: list[tuple[int, AudioRecord]] = field(default_factory=list)
    """Not dealt with yet."""
    sent_ms: int = 0
    """Audio of the live reply on the log."""
    position: int = 0
    """Of the snapshot on `voxthread.state`."""
    attempt: Attempt | None = None
    """What is held against the session since owners died while it was at work."""
    command: StoredRecord | None = None
    """The oldest record on `voxthread.in` that makes the session do something and has not been dealt with."""
    _unheard_fence: Fence = field(default_factory=Fence)

    @property
    def opened(self) -> SessionOpened:
        return self.snapshot.opened

    @property
    def frontend_session_id(self) -> str | None:
        return self.snapshot.frontend_session_id

    def fold_sent(self, stored: StoredRecord) -> None:
        """A record of `voxthread.out`. Raises `MalformedRecordError`."""
        reply = self.turn.reply
        if reply is None:
            return
        if is_audio(stored.record.value):
            audio = decode_audio(stored.record.value)
            if audio.turn_id == reply.turn_id:
                self.sent_ms = max(self.sent_ms, audio.timestamp // _TICKS_PER_MS + audio.duration_ms)
            return
        fact = decode_out_fact(stored.record.value).fact
        if isinstance(fact, RewindPlayout) and fact.turn_id == reply.turn_id:
            self.sent_ms = fact.to_ms  # what was sent before was not heard

    def fold_arrived(self, stored: StoredRecord) -> None:
        """A record of `voxthread.in`. Raises `MalformedRecordError`."""
        snapshot, value = self.snapshot, stored.record.value
        is_past = stored.position <= snapshot.in_position
        if is_audio(value):
            if not is_past:
                self._fold_unheard(stored)
            elif stored.position >= snapshot.audio_position:
                self.audio.append((stored.position, decode_audible(value)))
        elif not is_past and self.command is None and not isinstance(decode_in_fact(value).fact, _IDLE_FACTS):
            self.command = stored

    def _fold_unheard(self, stored: StoredRecord) -> None:
        audio = decode_audible(stored.record.value)
        if is_retry(stored.record) or self._unheard_fence.admits(audio.epoch, audio.seq):
            self.unheard.append((stored.position, audio))


@dataclass(frozen=True, slots=True)
class _Kept:
    """What `voxthread.state` has of a session, and where."""

    position: int
    snapshot: SessionSnapshot
    attempt: Attempt | None = None


@dataclass(slots=True)
class Recovery:
    sessions: dict[str, Recovered]
    closed: set[str]
    """Sessions that are not to be begun again: they have ended, or a newer version goes on with them."""
    in_position: int
    """Every session opened before it has a snapshot; 0 for a partition that nobody has owned."""


class _Folding:
    """One session while the tail of its events is folded."""

    def __init__(self, kept: "_Kept", policy: TurnPolicy) -> None:
        snapshot = self.snapshot = kept.snapshot
        self._position = kept.position
        self._attempt = kept.attempt
        self._machine = TurnMachine(policy, snapshot.turn)
        self._inputs = Fence(epoch=snapshot.epoch, seq=snapshot.input_seq)
        self._events = Fence(epoch=snapshot.epoch, seq=snapshot.event_seq)
        self._event_seq = snapshot.event_seq
        self._input_seq = snapshot.input_seq
        self._in_position = snapshot.in_position
        self._has_greeted = snapshot.has_greeted
        self._due: list[Event] = []
        self._published = 0

    def fold(self, stored: StoredRecord) -> None:
        if is_public(stored.record):
            envelope = decode_event(stored.record.value)
            if self._events.admits(envelope.epoch, envelope.seq):
                self._event_seq = envelope.seq
                self._published += not isinstance(envelope.event, OwnerEvent)
            return
        record, told = decode_input(stored.record.value)
        if not self._inputs.admits(record.epoch, record.seq):
            return
        self._machine, done = drive(self._machine, told, record.now)
        self._due += [effect.event for effect in done if isinstance(effect, do.Publish)]
        self._input_seq = record.seq
        self._in_position = max(self._in_position, record.in_position)
        self._has_greeted |= isinstance(told, inputs.SpeechRequested)

    def recovered(self) -> Recovered:
        snapshot = msgspec.structs.replace(
            self.snapshot,
            event_seq=self._event_seq,
            input_seq=self._input_seq,
            in_position=self._in_position,
            has_greeted=self._has_greeted,
        )
        return Recovered(
            snapshot,
            self._machine.snapshot(),
            unpublished=self._due[self._published :],
            position=self._position,
            attempt=self._attempt,
        )


async def recover(bus: Bus, partition: int, policy: TurnPolicy) -> Recovery:
    """Read what the owners before left behind. Raises `BusError`."""
    state = await _read_state(bus, partition)
    kept = await state.kept()
    if not kept:
        return Recovery({}, state.closed, state.in_position)
    tails = await _read_tails(bus, partition, [each.snapshot for each in kept.values()])
    foldings = {session_id: _Folding(each, policy) for session_id, each in kept.items()}
    async for stored in _in_turns(tails[Stream.EVENTS]):
        if (folding := foldings.get(stored.record.key)) is not None:
            _tolerating(folding.fold, stored, Stream.EVENTS)
    sessions = {session_id: folding.recovered() for session_id, folding in foldings.items()}
    async for stored in _in_turns(tails[Stream.OUT]):
        if (session := sessions.get(stored.record.key)) is not None:
            _tolerating(session.fold_sent, stored, Stream.OUT)
    async for stored in _in_turns(tails[Stream.IN]):
        if (session := sessions.get(stored.record.key)) is not None:
            _tolerating(session.fold_arrived, stored, Stream.IN)
    return Recovery(sessions, state.closed, state.in_position)


async def _read_tails(
    bus: Bus, partition: int, snapshots: Sequence[SessionSnapshot]
) -> dict[Stream, list[StoredRecord]]:
    """What was written behind the snapshots, side by side: each first answer of a broker takes its time."""
    first = {
        Stream.EVENTS: min(snapshot.events_position for snapshot in snapshots),
        Stream.OUT: min(snapshot.out_position for snapshot in snapshots),
        Stream.IN: min(snapshot.audio_position for snapshot in snapshots),
    }
    tails: dict[Stream, list[StoredRecord]] = {stream: [] for stream in first}

    async def read(stream: Stream) -> None:
        tails[stream] += [stored async for stored in until_now(bus, stream, partition, first[stream])]

    async with anyio.create_task_group() as readers:
        for stream in first:
            readers.start_soon(read, stream)
    return tails


class _State:
    """What `voxthread.state` has. A session's snapshots are many, of which only the newest are read whole."""

    def __init__(self) -> None:
        self.in_position = 0
        self._closed: dict[str, float] = {}
        """The epoch of the owner that ended the session."""
        self._attempts: dict[str, Attempt | None] = {}
        self._newest: dict[str, deque[StoredRecord]] = {}
        self._epochs: dict[str, int] = {}

    @property
    def closed(self) -> set[str]:
        return set(self._closed)

    def fold(self, stored: StoredRecord) -> None:
        """Raises `MalformedRecordError`."""
        key, value = stored.record.key, stored.record.value
        if is_progress(key):
            self.in_position = decode_progress(value).in_position
        elif is_attempt(key):
            session_id, attempt = decode_attempt(stored.record)
            self._attempts[session_id] = attempt
        elif not value:
            epoch = tombstone_epoch(stored.record)
            self._close(key, math.inf if epoch is None else epoch)
        else:
            self._fold_snapshot(key, stored)

    def _fold_snapshot(self, key: str, stored: StoredRecord) -> None:
        try:
            head = decode_snapshot_head(stored.record.value)
        except NewerSnapshotError as error:
            if key not in self._closed:
                log.error("session.left_alone", session_id=quote(key), reason=str(error))
            self._close(key, math.inf)
            return
        if head.session_id != key or refusal(key) is not None:
            raise MalformedRecordError("a snapshot under a key that is not its session's, or is no session id")
        # A snapshot of an older owner may come late; it is no news.
        if head.epoch > self._closed.get(key, -1) and head.epoch >= self._epochs.get(key, 0):
            self._closed.pop(key, None)
            self._epochs[key] = head.epoch
            self._newest.setdefault(key, deque(maxlen=_KEPT_SNAPSHOTS)).append(stored)

    def _close(self, key: str, epoch: float) -> None:
        if epoch >= self._epochs.get(key, 0):  # an owner that was succeeded ends nothing
            self._closed[key] = max(epoch, self._closed.get(key, -1))
            self._newest.pop(key, None)

    async def kept(self) -> dict[str, _Kept]:
        """Of each session that is not over, the newest snapshot that can be read."""
        kept: dict[str, _Kept] = {}
        for key, newest in self._newest.items():
            await checkpoint()
            for stored in reversed(newest):
                try:
                    snapshot = decode_snapshot(stored.record.value)
                except MalformedRecordError as error:
                    _count_malformed(Stream.STATE, stored, error)
                    continue
                kept[key] = _Kept(stored.position, snapshot, self._attempts.get(key))
                break
        return kept


async def _read_state(bus: Bus, partition: int) -> _State:
    state = _State()
    async for stored in until_now(bus, Stream.STATE, partition, 0):
        try:
            state.fold(stored)
        except MalformedRecordError as error:
            _count_malformed(Stream.STATE, stored, error)
    return state


async def until_now(bus: Bus, stream: Stream, partition: int, first: int) -> AsyncGenerator[StoredRecord, None]:
    """Every record kept from `first` to the present end of the stream."""
    head = await patiently(stream, lambda: bus.head(stream, partition))
    start = max(first, await patiently(stream, lambda: bus.oldest(stream, partition)))
    if start >= head:
        return
    async with aclosing(bus.read(stream, partition, start)) as records:
        async for stored in records:
            if stored.position >= head:
                return
            yield stored
            if stored.position == head - 1:
                return
            if stored.position % _BATCH_RECORDS == 0:
                await checkpoint()


async def _in_turns(records: Sequence[StoredRecord]) -> AsyncGenerator[StoredRecord, None]:
    """Folding takes its time, in which heartbeats are due."""
    for index, stored in enumerate(records):
        if index % _BATCH_RECORDS == 0:
            await checkpoint()
        yield stored


def _tolerating(fold: Callable[[StoredRecord], None], stored: StoredRecord, stream: Stream) -> None:
    try:
        fold(stored)
    except Exception as error:  # noqa: BLE001 - what a machine refuses was never told to it before: a forged record
        _count_malformed(stream, stored, error)


def _count_malformed(stream: Stream, stored: StoredRecord, error: Exception) -> None:
    BUS_RECORDS_MALFORMED.labels(stream=stream).inc()
    reason = str(error) if isinstance(error, MalformedRecordError) else type(error).__name__
    log.warning("record.malformed", session_id=quote(stored.record.key), stream=stream, reason=reason)
