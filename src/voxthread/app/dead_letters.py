"""`voxthread dlq`: what was put aside, looked at and appended to its stream again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import msgspec

from voxthread.app.shared_bus import open_standing_bus
from voxthread.config import Config
from voxthread.core.failures import BusError
from voxthread.core.ids import refusal
from voxthread.orchestrator.recovery import until_now
from voxthread.wire.audio import MalformedRecordError, decode_audio, encode_audio, is_audio
from voxthread.wire.dead_letter import (
    DeadLetter,
    RetryNote,
    read_dead_letter,
    retry_note,
    retry_of,
)
from voxthread.wire.events import format_instant
from voxthread.wire.facts import decode_in_fact
from voxthread.wire.log import Bus, Record, Stream
from voxthread.wire.snapshots import SessionSnapshot, decode_snapshot

_RETRY_PACKETS: Final = 25
"""Of an utterance in one record: half a second, as if it were spoken now."""

_WHOSE = {
    Stream.OUT: "what a session says is made again by its owner",
    Stream.EVENTS: "an event tells what has happened, which does not happen again",
    Stream.STATE: "a session goes on from its newest snapshot, and this one is older",
    Stream.CLAIMS: "a claim counts where it lies; whoever made it makes another",
    Stream.CONTROL: "it told of a moment that has passed",
    Stream.DLQ: "it is no record of another stream",
}


class DeadLetterError(BusError):
    """A dead letter that is not there, or not to be tried again."""


class DeadLetters:
    """Those of one log."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def listed(self) -> list[dict[str, Any]]:
        """Oldest first, without their values. Raises `BusError`."""
        letters, retried = await self._read()
        return [_row(position, letter, retried.get(position)) for position, letter in letters.items()]

    async def shown(self, position: int, *, is_revealed: bool) -> dict[str, Any]:
        """One, with what is known of its value; words only if `is_revealed`. Raises `BusError`."""
        letter, note = await self._letter(position)
        return {**_row(position, letter, note), "content": _content(letter, is_revealed=is_revealed)}

    async def retry(self, position: int) -> dict[str, Any]:
        """Append the record to its stream again and note it. Raises `DeadLetterError`, `BusError`."""
        letter, note = await self._letter(position)
        if note is not None:
            raise DeadLetterError("dlq.retried_already", f"it was, as {note.positions} on {letter.stream}")
        await self._refuse_hopeless(letter)
        key, partition = letter.record.key, letter.partition
        positions = [
            await self._bus.append(letter.stream, partition, retry_of(record, position))
            for record in _pieces(letter.record)
        ]
        note = RetryNote(retried=position, positions=tuple(positions))
        await self._bus.append(Stream.DLQ, 0, retry_note(key, note))
        return _row(position, letter, note)

    async def _read(self) -> tuple[dict[int, DeadLetter], dict[int, RetryNote]]:
        letters: dict[int, DeadLetter] = {}
        notes: dict[int, RetryNote] = {}
        async for stored in until_now(self._bus, Stream.DLQ, 0, 0):
            try:
                read = read_dead_letter(stored.record)
            except MalformedRecordError as error:
                read = _unreadable(stored.record, stored.position, str(error))
            if isinstance(read, DeadLetter):
                letters[stored.position] = read
            else:
                notes[read.retried] = read
        return letters, notes

    async def _letter(self, position: int) -> tuple[DeadLetter, RetryNote | None]:
        letters, notes = await self._read()
        if position not in letters:
            raise DeadLetterError("dlq.unknown", f"there is no dead letter {position}; see voxthread dlq ls")
        return letters[position], notes.get(position)

    async def _refuse_hopeless(self, letter: DeadLetter) -> None:
        if letter.stream is not Stream.IN:
            raise DeadLetterError("dlq.not_retryable", _WHOSE[letter.stream])
        if not letter.is_whole:
            raise DeadLetterError("dlq.not_whole", f"only a part was kept of its {letter.size_bytes} bytes")
        if (rule := refusal(letter.record.key)) is not None:
            raise DeadLetterError("dlq.no_session", f"its key is no session id: {rule.value}")
        try:
            _checked(letter.record)
        except MalformedRecordError as error:
            raise DeadLetterError("dlq.malformed", f"it would be put aside again: {error}") from None
        if not await self._is_live(letter):
            raise DeadLetterError("dlq.session_ended", f"session {letter.record.key} is over: nobody hears it")

    async def _is_live(self, letter: DeadLetter) -> bool:
        is_live = False
        async for stored in until_now(self._bus, Stream.STATE, letter.partition, 0):
            if stored.record.key == letter.record.key:
                is_live = bool(stored.record.value)
        return is_live


@asynccontextmanager
async def open_dead_letters(config: Config) -> AsyncIterator[DeadLetters]:
    """Raises `BusError`."""
    async with open_standing_bus(config) as bus:
        yield DeadLetters(bus)


def _unreadable(record: Record, position: int, error: str) -> DeadLetter:
    return DeadLetter(
        error=error,
        stream=Stream.DLQ,
        partition=0,
        position=position,
        size_bytes=len(record.value),
        at_ms=0,
        record=record,
    )


def _row(position: int, letter: DeadLetter, note: RetryNote | None) -> dict[str, Any]:
    return {
        "position": position,
        "at": format_instant(letter.at_ms),
        "session_id": letter.record.key,
        "error": letter.error,
        "stream": letter.stream.value,
        "partition": letter.partition,
        "from_position": letter.position,
        "size_bytes": letter.size_bytes,
        "retried_as": None if note is None else list(note.positions),
    }


def _content(letter: DeadLetter, *, is_revealed: bool) -> dict[str, Any]:
    value = letter.record.value
    content: dict[str, Any] = {"kind": "unreadable"}
    try:
        if is_audio(value):
            audio = decode_audio(value)
            return {"kind": "audio", "duration_ms": audio.duration_ms, "packets": len(audio.packets)}
        if letter.stream is Stream.STATE:
            snapshot: SessionSnapshot = decode_snapshot(value)
            content = {"kind": "snapshot", "epoch": snapshot.epoch, "state": snapshot.turn.state.value}
        else:
            fact = decode_in_fact(value).fact
            content = {"kind": str(msgspec.to_builtins(fact)["kind"])}
    except MalformedRecordError:
        pass
    if is_revealed:
        content["text"] = value.decode(errors="replace")
    return content


def _checked(record: Record) -> None:
    if is_audio(record.value):
        decode_audio(record.value)
    elif decode_in_fact(record.value).session_id != record.key:
        raise MalformedRecordError("the record's session is not its key")


def _pieces(record: Record) -> list[Record]:
    """A whole utterance is spoken bit by bit."""
    if not is_audio(record.value):
        return [record]
    audio = decode_audio(record.value)
    pieces = [
        replace(audio, packets=audio.packets[start : start + _RETRY_PACKETS])
        for start in range(0, len(audio.packets), _RETRY_PACKETS)
    ]
    return [Record(record.key, encode_audio(piece), record.headers) for piece in pieces]
