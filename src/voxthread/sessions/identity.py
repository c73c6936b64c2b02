"""Minting session ids. The clock and the randomness come from outside, so that tests choose them."""

import secrets
from collections.abc import Callable
from string import ascii_lowercase, digits

from voxthread.core.ids import FrontendSessionId, MediaSessionId
from voxthread.observability import clock

_BASE36 = digits + ascii_lowercase
_FRONTEND_RANDOM_CHARS = 9


class SessionIdMint:
    """Mints ids of both dialects.

    `random_bytes(n)` returns n bytes. A minted id is unlikely to be taken, not unable to be:
    the log grants it (`SessionRegistry`).
    """

    __slots__ = ("_now_ms", "_now_us", "_random_bytes")

    def __init__(
        self,
        *,
        now_us: Callable[[], int] = clock.now_us,
        now_ms: Callable[[], int] = clock.now_ms,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._now_us = now_us
        self._now_ms = now_ms
        self._random_bytes = random_bytes

    def media_session_id(self) -> MediaSessionId:
        """`session_{microseconds}_{8 lower-case hex digits}`"""
        return MediaSessionId(f"session_{self._now_us()}_{self._random_bytes(4).hex()}")

    def frontend_session_id(self) -> FrontendSessionId:
        """`session_{milliseconds}_{9 base-36 characters}`, as the page does in `session-id.js`."""
        rest = int.from_bytes(self._random_bytes(16), "big")  # so many bits that the remainders are even
        random_part = ""
        for _ in range(_FRONTEND_RANDOM_CHARS):
            rest, digit = divmod(rest, 36)
            random_part += _BASE36[digit]
        return FrontendSessionId(f"session_{self._now_ms()}_{random_part}")
