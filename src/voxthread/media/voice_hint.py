"""Whether a caller seems to begin to speak, by how loud their packets say they are (RFC 6464). Pure.

A hint, three packets after the first sound; what was heard is for the orchestrator to say. The sender's own
voice bit is not asked: browsers set it for every packet.
"""

from typing import Final

LOUD_LEVEL: Final = 40
"""In dB below overload. Speech into a microphone with automatic gain is at 20 to 30."""

ABOVE_NOISE_DB: Final = 15
"""How much louder than the room."""

LOUD_PACKETS: Final = 3
"""A click is shorter."""

QUIET_PACKETS: Final = 10
"""200 ms without a loud packet: what is loud after that is a new beginning."""

_QUIETEST: Final = 70
"""A room that is quieter, or a microphone that is off, is taken for as loud as this."""

_RISE_DB: Final = 1 / 16
"""A packet: noise that begins is the room's after some seconds."""


class VoiceHint:
    """One caller."""

    def __init__(self) -> None:
        self._noise: float = _QUIETEST
        self._loud = 0
        self._quiet = QUIET_PACKETS
        self._is_told = False

    def heard(self, level: int) -> bool:
        """Note a packet of so many dB below overload; true once for each beginning."""
        is_loud = level <= LOUD_LEVEL and level <= self._noise - ABOVE_NOISE_DB
        self._noise = min(max(self._noise - _RISE_DB, level), _QUIETEST)
        if not is_loud:
            self._loud = 0
            self._quiet += 1
            self._is_told = self._is_told and self._quiet < QUIET_PACKETS
            return False
        self._loud += 1
        self._quiet = 0
        if self._is_told or self._loud < LOUD_PACKETS:
            return False
        self._is_told = True
        return True
