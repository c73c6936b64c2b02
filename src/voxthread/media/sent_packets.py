"""Our own packets of the last half second, for a caller who has lost one. Pure."""

from dataclasses import dataclass
from typing import Final

KEPT_MS: Final = 500
MAX_KEPT: Final = 25
"""Half a second of 20 ms packets."""

MAX_RESENT: Final = 2
"""Times a packet is sent again: a caller who asks for everything gets three times what it is sent."""


@dataclass(slots=True)
class _Sent:
    packet: bytes
    sent_ms: int
    times_resent: int = 0


class SentPackets:
    """By sequence number, the oldest forgotten first."""

    def __init__(self) -> None:
        self.resent = 0
        self._kept: dict[int, _Sent] = {}

    def add(self, sequence: int, packet: bytes, now_ms: int) -> None:
        if len(self._kept) >= MAX_KEPT:
            del self._kept[next(iter(self._kept))]
        self._kept[sequence & 0xFFFF] = _Sent(packet, now_ms)

    def again(self, sequence: int, now_ms: int) -> bytes | None:
        """The packet to send once more, if there is one that is of use yet."""
        sent = self._kept.get(sequence)
        if sent is None or now_ms - sent.sent_ms > KEPT_MS or sent.times_resent >= MAX_RESENT:
            return None
        sent.times_resent += 1
        self.resent += 1
        return sent.packet
