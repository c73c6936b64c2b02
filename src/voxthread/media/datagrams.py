"""What arrives at a media port, told apart by its first bytes (RFC 7983), and how much strangers may send.

Pure. Everybody can send to a media port; what costs something to look at is looked at without limit only
when it comes from where the peer is known to send.
"""

from enum import Enum
from typing import Final

from voxthread.media.rtp import is_rtcp

STRANGERS_PER_S: Final = 200
"""Four times the packets of a call, so that a peer whose address changes is heard at once."""

STRANGERS_BURST: Final = 100

_ONE: Final = 1_000_000
"""What is left is counted in millionths, so that a microsecond allows a whole number of them."""


class Kind(Enum):
    STUN = "stun"
    DTLS = "dtls"
    RTP = "rtp"
    RTCP = "rtcp"
    OTHER = "other"


def kind_of(data: bytes) -> Kind:
    first = data[0] if data else 255
    if 128 <= first <= 191:
        return Kind.RTCP if is_rtcp(data) else Kind.RTP
    if first <= 3:
        return Kind.STUN
    return Kind.DTLS if 20 <= first <= 63 else Kind.OTHER


class Allowance:
    """So many at once, and so many a second."""

    def __init__(self, per_s: int = STRANGERS_PER_S, burst: int = STRANGERS_BURST) -> None:
        self._per_s = per_s
        self._most = burst * _ONE
        self._left = self._most
        self._at_us: int | None = None

    def takes(self, now_us: int) -> bool:
        """Whether one more is allowed now."""
        elapsed_us = now_us - self._at_us if self._at_us is not None else 0
        self._at_us = now_us
        self._left = min(self._most, self._left + max(0, elapsed_us) * self._per_s)
        if self._left < _ONE:
            return False
        self._left -= _ONE
        return True
