"""What owners died of, put aside: an utterance, a reply, a record, audio, or a session as a whole.

Done before the session runs, in the name of its new owner: what the turn machine is told goes on the log, and
the recovered session then stands behind it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import anyio
import msgspec

from voxthread.core import effects as do
from voxthread.core import events
from voxthread.core.attempts import give_up
from voxthread.core.effects import Effect
from voxthread.core.inputs import Input, SessionEnded
from voxthread.core.replay import MachineStarted, Told, drive
from voxthread.core.turn_state import TurnPolicy, TurnSnapshot
from voxthread.core.turns import TurnMachine
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import POISON
from voxthread.orchestrator.journal import Journal
from voxthread.orchestrator.log_writer import append_patiently, patiently
from voxthread.orchestrator.recovery import Recovered, until_now
from voxthread.orchestrator.session import Host, Place
from voxthread.orchestrator.session_log import SessionLog
from voxthread.wire import facts
from voxthread.wire.audio import AudioRecord, MalformedRecordError, decode_audio, encode_audio, is_audio
from voxthread.wire.claims import SessionRelease, encode_claim
from voxthread.wire.dead_letter import (
    POISON_AUDIO,
    POISON_RECORD,
    POISON_REPLY,
    POISON_SESSION,
    POISON_UTTERANCE,
    dead_letter,
)
from voxthread.wire.log import Record, StoredRecord, Stream
from voxthread.wire.snapshots import encode_attempt, encode_snapshot, encode_tombstone
from voxthread.wire.stamp import Fence, Stamp

log = get_logger(__name__)

QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class _Letter:
    """What goes to the dead letters, and why."""

    stream: Stream
    stored: StoredRecord
    error: str


@dataclass(frozen=True, slots=True)
class Skip:
    """A session's work is given up: where it then stands, and what its machine was told to get there."""

    now: int
    turn: TurnSnapshot
    steps: tuple[tuple[Told, tuple[Effect, ...]], ...]


def plan_skip(past: Recovered, policy: TurnPolicy, now: int) -> Skip:
    started = MachineStarted(policy=policy)
    machine, resumed = drive(TurnMachine(policy, past.turn), started, now)
    steps: list[tuple[Told, tuple[Effect, ...]]] = [(started, tuple(resumed))]

    def tell(fact: Input) -> TurnSnapshot:
        steps.append((fact, tuple(machine.handle(fact, now))))
        return machine.snapshot()

    give_up(past.turn, tell, apology=policy.apology)
    return Skip(now, machine.snapshot(), tuple(steps))


async def carry_out_skip(host: Host, place: Place, past: Recovered, skip: Skip, *, is_audio: bool) -> int:
    """Put the work aside, which may be no more than audio, and let `past` stand behind it. Returns the place on
    `voxthread.in` from which on its audio is heard. Raises `BusError`.
    """
    if is_audio:
        letter, audio_position = _Letter(Stream.IN, _joined(place, past.unheard), POISON_AUDIO), 0
        past.snapshot = msgspec.structs.replace(past.snapshot, in_position=past.unheard[-1][0])
    elif past.turn.utterance is None and past.turn.reply is None and past.command is not None:
        letter, audio_position = _Letter(Stream.IN, past.command, POISON_RECORD), 0
        past.snapshot = msgspec.structs.replace(past.snapshot, in_position=past.command.position)
    else:
        audio_position = await patiently(Stream.IN, lambda: host.bus.head(Stream.IN, place.partition))
        letter = await _letter_of(host, place, past)
    await _put_aside(host, place, letter)
    async with _writing(host, place, past) as (_, journal):
        for told, effects in skip.steps:
            await journal.record(told, skip.now, past.snapshot.in_position, effects)
            past.unpublished += _published(effects)
    past.turn, past.audio, past.sent_ms = skip.turn, [], 0
    past.snapshot = msgspec.structs.replace(past.snapshot, input_seq=journal.input_seq)
    return audio_position


async def quarantine(host: Host, place: Place, past: Recovered) -> None:
    """End the session without going on with it, and give its names back. Raises `BusError`."""
    session_id, now = place.session_id, host.now()
    await _put_aside(host, place, _snapshot_of(past, POISON_SESSION))
    started = MachineStarted(policy=host.turn)
    machine, resumed = drive(TurnMachine(host.turn, past.turn), started, now)
    fact = SessionEnded(reason=QUARANTINED)
    effects = machine.handle(fact, now)
    async with _writing(host, place, past) as (session_log, journal):
        await journal.record(started, now, past.snapshot.in_position, resumed)
        await journal.record(fact, now, past.snapshot.in_position, effects)
        for event in [*past.unpublished, *_published(effects)]:
            await journal.publish(event)
        stamp = Stamp(session_id, epoch=place.epoch)
        await session_log.out.put(stamp.out_fact(facts.CloseLeg(reason=QUARANTINED)))
    release = SessionRelease(session_id=session_id, reason=QUARANTINED, at_ms=now, epoch=place.epoch)
    await append_patiently(host.bus, Stream.CLAIMS, 0, encode_claim(release))
    for end in (encode_tombstone(session_id, place.epoch), encode_attempt(session_id, None)):
        await append_patiently(host.bus, Stream.STATE, place.partition, end)


@asynccontextmanager
async def _writing(host: Host, place: Place, past: Recovered) -> AsyncIterator[tuple[SessionLog, Journal]]:
    """All that is written inside is on the log behind it."""
    session_log = SessionLog(host.bus, place.partition, past.snapshot)
    await session_log.open()
    journal = Journal(
        session_log.events,
        session_id=place.session_id,
        frontend_session_id=past.snapshot.frontend_session_id,
        principal=past.opened.principal,
        epoch=place.epoch,
        now=host.now,
        event_seq=past.snapshot.event_seq,
        input_seq=past.snapshot.input_seq,
    )
    async with anyio.create_task_group() as writers:
        writers.start_soon(session_log.run)
        try:
            yield session_log, journal
        finally:
            session_log.close()


def _published(effects: tuple[Effect, ...] | list[Effect]) -> list[events.Event]:
    return [effect.event for effect in effects if isinstance(effect, do.Publish)]


async def _letter_of(host: Host, place: Place, past: Recovered) -> _Letter:
    """The words of the utterance if they are known, else its audio; the session where it is about neither."""
    utterance, reply = past.turn.utterance, past.turn.reply
    text = utterance.text if utterance is not None and utterance.is_final else None
    if text is None and reply is not None:
        text = reply.utterance
    error = POISON_REPLY if utterance is None else POISON_UTTERANCE
    if text:
        command = Stamp(place.session_id, epoch=0, next_seq=0).in_fact(facts.TextCommand(text=text))
        return _Letter(Stream.IN, StoredRecord(past.snapshot.audio_position, command), error)
    audio = None if utterance is None else await _read_audio(host, place, past)
    return _snapshot_of(past, error) if audio is None else _Letter(Stream.IN, audio, error)


async def _read_audio(host: Host, place: Place, past: Recovered) -> StoredRecord | None:
    """All audio of the session since the utterance began, as one record; None if none is kept."""
    records: list[tuple[int, AudioRecord]] = []
    fence, first = Fence(), past.snapshot.audio_position
    async for stored in until_now(host.bus, Stream.IN, place.partition, first):
        if stored.record.key != place.session_id or not is_audio(stored.record.value):
            continue
        try:
            audio = decode_audio(stored.record.value)
        except MalformedRecordError:
            continue  # put aside by whoever read it first
        if fence.admits(audio.epoch, audio.seq):
            records.append((stored.position, audio))
    return _joined(place, records) if records else None


def _joined(place: Place, audio: Sequence[tuple[int, AudioRecord]]) -> StoredRecord:
    first, begin = audio[0]
    packets = tuple(packet for _, record in audio for packet in record.packets)
    return StoredRecord(first, Record(place.session_id, encode_audio(replace(begin, packets=packets))))


def _snapshot_of(past: Recovered, error: str) -> _Letter:
    return _Letter(Stream.STATE, StoredRecord(past.position, encode_snapshot(past.snapshot)), error)


async def _put_aside(host: Host, place: Place, letter: _Letter) -> None:
    POISON.labels(kind=letter.error.removeprefix("poison.")).inc()
    log.error("poison.put_aside", error=letter.error, position=letter.stored.position)
    record = dead_letter(
        letter.stored,
        stream=letter.stream,
        partition=place.partition,
        error=letter.error,
        at_ms=host.now(),
    )
    await append_patiently(host.bus, Stream.DLQ, 0, record)
