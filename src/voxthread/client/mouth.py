"""The caller's microphone: one packet each 20 ms on an absolute schedule, speech or silence, until hung up."""

from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from voxthread.client.levels import SILENT_LEVEL
from voxthread.client.speech import CALL_RATE_HZ
from voxthread.client.utterance import PACKET_SAMPLES, SILENT_PACKET, Utterance
from voxthread.core.audio import PACKET_MS
from voxthread.observability.clock import now_us

_PACKET_US = PACKET_MS * 1000
_REPORT_TICKS = 50


class Outlet(Protocol):
    """Where packets go."""

    def send(self, payload: bytes, level: int) -> bool:
        """`level` is how loud it is, in dB below overload.

        False if there is nobody to hear it now; its time has passed all the same.
        """
        ...

    def send_report(self) -> None: ...


@dataclass(slots=True)
class Spoken:
    """An utterance on its way out. Instants are Unix microseconds.

    A packet leaves when a microphone would have filled it, so its last sample is spoken at the instant it is
    sent and the others as much earlier as they lie before it.
    """

    utterance: Utterance
    sent_us: list[int] = field(default_factory=list)
    ended: anyio.Event = field(default_factory=anyio.Event)

    @property
    def first_sound_us(self) -> int | None:
        """When its first sample above the level of silence was spoken; None before that."""
        return None if self.utterance.sound is None else self._instant_us(self.utterance.sound.first)

    @property
    def last_sound_us(self) -> int | None:
        """When its last sample above the level of silence was spoken; None before that."""
        return None if self.utterance.sound is None else self._instant_us(self.utterance.sound.last)

    def _instant_us(self, sample: int) -> int | None:
        packet, position = divmod(sample, PACKET_SAMPLES)
        if packet >= len(self.sent_us):
            return None
        return self.sent_us[packet] - (PACKET_SAMPLES - 1 - position) * 1_000_000 // CALL_RATE_HZ


class Mouth:
    """Speaks over a line, and sends its sender reports. What is said while the line is away is lost."""

    def __init__(self, line: Outlet) -> None:
        self._line = line
        self._ticks = 0
        self._waiting: deque[Spoken] = deque()
        self.spoken: list[Spoken] = []
        """Everything said or being said, in order."""
        self.lateness_us: list[int] = []
        """How long after its due instant each packet of speech left."""
        self.unheard_packets = 0
        """Packets of speech said while the line was away."""

    def say(self, utterance: Utterance) -> Spoken:
        """Queue an utterance behind what is being said. It starts at the next packet."""
        spoken = Spoken(utterance)
        self._waiting.append(spoken)
        self.spoken.append(spoken)
        return spoken

    async def run(self) -> None:
        """Send until cancelled. A stall is made up for at once: the schedule never shifts."""
        due_us = now_us()
        while True:
            await anyio.sleep(max(0, due_us - now_us()) / 1_000_000)
            self._send_next(due_us)
            due_us += _PACKET_US

    def _send_next(self, due_us: int) -> None:
        if self._ticks % _REPORT_TICKS == 0:
            self._line.send_report()
        self._ticks += 1
        if not self._waiting:
            self._line.send(SILENT_PACKET, SILENT_LEVEL)
            return
        spoken = self._waiting[0]
        number = len(spoken.sent_us)
        if not self._line.send(spoken.utterance.packets[number], spoken.utterance.levels[number]):
            self.unheard_packets += 1
        sent_us = now_us()
        spoken.sent_us.append(sent_us)
        self.lateness_us.append(sent_us - due_us)
        if len(spoken.sent_us) == len(spoken.utterance.packets):
            self._waiting.popleft()
            spoken.ended.set()
