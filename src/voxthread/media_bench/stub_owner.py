"""The sessions' owner, without an agent: to every caller who is there it says the same reply over and over, and
it keeps what it hears with the instant it came."""

from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

import anyio
from anyio.abc import TaskStatus

from voxthread.core.audio import PACKET_MS
from voxthread.core.events import SessionClosed
from voxthread.media_bench.plan import PACKET_TICKS, Arrived, Heard, instant_us
from voxthread.observability.clock import now_ms
from voxthread.wire.audio import is_audio
from voxthread.wire.events import Envelope, encode_event
from voxthread.wire.facts import EndCommand, PeerConnected, PeerLost, decode_in_fact
from voxthread.wire.log import Bus, Record, StoredRecord, Stream
from voxthread.wire.stamp import Stamp

_RECORD_PACKETS: Final = 10
"""200 ms, as an orchestrator writes them."""

_AHEAD_US: Final = 1_000_000
_LOOK_S: Final = 0.02
_TURN_ID: Final = 1


class _Reply:
    """What is said to one caller."""

    def __init__(self, session_id: str, packets: Sequence[bytes]) -> None:
        self._stamp = Stamp(session_id, epoch=1)
        self._packets = packets
        self._began_us = instant_us()
        self._written = 0

    async def write(self, bus: Bus, partition: int) -> None:
        """What is due by now."""
        due = (instant_us() - self._began_us + _AHEAD_US) // (PACKET_MS * 1000)
        while self._written < due:
            begin = self._written
            packets = tuple(
                self._packets[number % len(self._packets)] for number in range(begin, begin + _RECORD_PACKETS)
            )
            self._written += _RECORD_PACKETS
            record = self._stamp.audio(packets, timestamp=begin * PACKET_TICKS, turn_id=_TURN_ID)
            await bus.append(Stream.OUT, partition, record)


class StubOwner:
    """Of all partitions. Without `keeps_heard` it forgets what it hears."""

    def __init__(self, bus: Bus, reply: Sequence[bytes], *, keeps_heard: bool) -> None:
        self._bus = bus
        self._reply = reply
        self._keeps_heard = keeps_heard
        self._replies: list[dict[str, _Reply]] = [{} for _ in range(bus.partitions)]
        # Three lists, because the garbage collector would look at tuples, in the process that is measured.
        self._sessions: list[str] = []
        self._at_us: list[int] = []
        self._values: list[bytes] = []

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as tasks:
            for partition in range(self._bus.partitions):
                await tasks.start(self._listen, partition)
                tasks.start_soon(self._speak, partition)
            task_status.started()

    def take_heard(self) -> Heard:
        """All since the last time."""
        records: dict[str, list[Arrived]] = {}
        for session_id, at_us, value in zip(self._sessions, self._at_us, self._values, strict=True):
            records.setdefault(session_id, []).append(Arrived(at_us, value))
        for kept in (self._sessions, self._at_us, self._values):
            kept.clear()
        return Heard(records=records)

    async def _listen(self, partition: int, *, task_status: TaskStatus[None]) -> None:
        position = await self._bus.head(Stream.IN, partition)
        task_status.started()
        async with aclosing(self._bus.read(Stream.IN, partition, position)) as records:
            async for stored in records:
                await self._take(partition, stored)

    async def _take(self, partition: int, stored: StoredRecord) -> None:
        session_id, value = stored.record.key, stored.record.value
        if is_audio(value):
            if self._keeps_heard:
                self._at_us.append(instant_us())
                self._sessions.append(session_id)
                self._values.append(value)
            return
        match decode_in_fact(value).fact:
            case PeerConnected():
                self._replies[partition][session_id] = _Reply(session_id, self._reply)
            case PeerLost():
                self._replies[partition].pop(session_id, None)
            case EndCommand(reason=reason):
                self._replies[partition].pop(session_id, None)
                await self._bus.append(Stream.EVENTS, partition, _closed(session_id, reason))
            case _:
                pass

    async def _speak(self, partition: int) -> None:
        while True:
            for reply in [*self._replies[partition].values()]:
                await reply.write(self._bus, partition)
            await anyio.sleep(_LOOK_S)


def _closed(session_id: str, reason: str) -> Record:
    """What lets a media process forget a session."""
    return encode_event(
        Envelope(
            session_id=session_id,
            frontend_session_id=session_id,
            epoch=1,
            seq=1,
            at_ms=now_ms(),
            event=SessionClosed(reason=reason),
        )
    )
