"""Taking a partition over: what the log says of the sessions whose owner is gone.

    voxthread.state    newest snapshot of each session, and how far the owner had read   (folded from the start)
    voxthread.events   inputs of the turn machine after the snapshot, and what was published of them
    voxthread.out      how much audio of the live reply was sent
    voxthread.in       the audio the open utterance is made of, up to where the owner had read

The same inputs give the same machine, so the session goes on exactly where the log ends.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

import msgspec

from voxthread.core import effects as do
from voxthread.core import events, inputs
from voxthread.core.audio import RTP_CLOCK_HZ
from voxthread.core.events import Event
from voxthread.core.replay import drive
from voxthread.core.turn_state import TurnPolicy, TurnSnapshot
from voxthread.core.turns import TurnMachine
from voxthread.observability.logs import get_logger
from voxthread.wire.audio import AudioRecord, MalformedRecordError, decode_audio, is_audio
from voxthread.wire.events import decode_event, is_public
from voxthread.wire.facts import RewindPlayout, SessionOpened, decode_out_fact
from voxthread.wire.inputs import decode_input
from voxthread.wire.log import Bus, StoredRecord, Stream
from voxthread.wire.snapshots import (
    NewerSnapshotError,
    SessionSnapshot,
    decode_progress,
    decode_snapshot,
    is_progress,
)
from voxthread.wire.stamp import Fence

log = get_logger(__name__)

_TOLD_BY_THE_SHELL = (
    events.SessionCreated,
    events.SessionBound,
    events.SessionConnected,
    events.SessionDisconnected,
    events.OrchestratorTakeover,
)
"""Events no input of the turn machine gives rise to."""


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
    sent_ms: int = 0
    """Audio of the live reply on the log."""

    @property
    def opened(self) -> SessionOpened:
        return self.snapshot.opened

    @property
    def frontend_session_id(self) -> str | None:
        return self.snapshot.frontend_session_id

    def fold_rewind(self, stored: StoredRecord) -> None:
        """What was sent before a rewind was not heard. Raises `MalformedRecordError`."""
        fact = decode_out_fact(stored.record.value).fact
        reply = self.turn.reply
        if isinstance(fact, RewindPlayout) and reply is not None and fact.turn_id == reply.turn_id:
            self.sent_ms = fact.to_ms


@dataclass(slots=True)
class Recovery:
    sessions: dict[str, Recovered]
    closed: set[str]
    """Sessions that are not to be begun again: they have ended, or a newer version goes on with them."""
    in_position: int
    """Every session opened before it has a snapshot; 0 for a partition that nobody has owned."""


class _Folding:
    """One session while the tail of its events is folded."""

    def __init__(self, snapshot: SessionSnapshot, policy: TurnPolicy) -> None:
        self.snapshot = snapshot
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
                self._published += not isinstance(envelope.event, _TOLD_BY_THE_SHELL)
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
        return Recovered(snapshot, self._machine.snapshot(), unpublished=self._due[self._published :])


async def recover(bus: Bus, partition: int, policy: TurnPolicy) -> Recovery:
    """Read what the owners before left behind. Raises `BusError`."""
    snapshots, closed, in_position = await _read_state(bus, partition)
    foldings = {session_id: _Folding(snapshot, policy) for session_id, snapshot in snapshots.items()}
    if not foldings:
        return Recovery({}, closed, in_position)
    first = min(snapshot.events_position for snapshot in snapshots.values())
    async for stored in until_now(bus, Stream.EVENTS, partition, first):
        if (folding := foldings.get(stored.record.key)) is not None:
            _tolerating(folding.fold, stored)
    sessions = {session_id: folding.recovered() for session_id, folding in foldings.items()}
    await _read_sent_audio(bus, partition, sessions)
    await _read_heard_audio(bus, partition, sessions)
    return Recovery(sessions, closed, in_position)


async def _read_state(bus: Bus, partition: int) -> tuple[dict[str, SessionSnapshot], set[str], int]:
    snapshots: dict[str, SessionSnapshot] = {}
    closed: set[str] = set()
    in_position = 0
    async for stored in until_now(bus, Stream.STATE, partition, 0):
        key, value = stored.record.key, stored.record.value
        try:
            if is_progress(key):
                in_position = decode_progress(value).in_position
            elif not value:
                closed.add(key)
                snapshots.pop(key, None)
            else:
                snapshot = decode_snapshot(value)
                # A snapshot of an older owner may come late; it is no news.
                if key not in closed and (key not in snapshots or snapshot.epoch >= snapshots[key].epoch):
                    snapshots[key] = snapshot
        except NewerSnapshotError as error:
            log.error("session.left_alone", session_id=key, reason=str(error))
            closed.add(key)
            snapshots.pop(key, None)
        except MalformedRecordError as error:
            log.warning("record.malformed", session_id=key, stream=Stream.STATE, reason=str(error))
    return snapshots, closed, in_position


async def _read_sent_audio(bus: Bus, partition: int, sessions: dict[str, Recovered]) -> None:
    speaking = {
        session_id: session for session_id, session in sessions.items() if session.turn.reply is not None
    }
    if not speaking:
        return
    first = min(session.snapshot.out_position for session in speaking.values())
    async for stored in until_now(bus, Stream.OUT, partition, first):
        session = speaking.get(stored.record.key)
        if session is None or session.turn.reply is None:
            continue
        if not is_audio(stored.record.value):
            _tolerating(session.fold_rewind, stored)
            continue
        audio = decode_audio(stored.record.value)
        if audio.turn_id == session.turn.reply.turn_id:
            session.sent_ms = max(session.sent_ms, audio.timestamp // _TICKS_PER_MS + audio.duration_ms)


async def _read_heard_audio(bus: Bus, partition: int, sessions: dict[str, Recovered]) -> None:
    if not sessions:
        return
    first = min(session.snapshot.audio_position for session in sessions.values())
    async for stored in until_now(bus, Stream.IN, partition, first):
        session = sessions.get(stored.record.key)
        if session is None or not is_audio(stored.record.value):
            continue
        snapshot = session.snapshot
        if snapshot.audio_position <= stored.position <= snapshot.in_position:
            session.audio.append((stored.position, decode_audio(stored.record.value)))


async def until_now(bus: Bus, stream: Stream, partition: int, first: int) -> AsyncGenerator[StoredRecord, None]:
    """Every record kept from `first` to the present end of the stream."""
    head = await bus.head(stream, partition)
    start = max(first, await bus.oldest(stream, partition))
    if start >= head:
        return
    async with aclosing(bus.read(stream, partition, start)) as records:
        async for stored in records:
            if stored.position >= head:
                return
            yield stored
            if stored.position == head - 1:
                return


def _tolerating(fold: Callable[[StoredRecord], None], stored: StoredRecord) -> None:
    try:
        fold(stored)
    except MalformedRecordError as error:
        log.warning("record.malformed", session_id=stored.record.key, reason=str(error))
