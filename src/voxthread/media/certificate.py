"""The certificate by which callers know this process: one for all of them, a new one each day."""

from functools import lru_cache
from typing import Final

from voxthread.media.aiortc_seams import SharedCertificate
from voxthread.observability.clock import now_ms

ROTATION_MS: Final = 24 * 3_600_000
"""A certificate is valid for 30 days and no call lasts longer than a day."""


def current_certificate() -> SharedCertificate:
    """Making one takes as long as all the rest of an answer, so calls share it."""
    return _certificate(now_ms() // ROTATION_MS)


@lru_cache(maxsize=1)
def _certificate(_day: int) -> SharedCertificate:
    return SharedCertificate.generateCertificate()
