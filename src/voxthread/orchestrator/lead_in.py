"""The first sound of a reply at its very beginning: voices breathe in for 50 to 80 ms, and the caller waits."""

from collections.abc import AsyncIterator
from typing import Final

from voxthread.core.audio import PcmFrame
from voxthread.orchestrator.streams import closing

KEPT_MS: Final = 10
"""Before the first sound: a consonant begins below any threshold."""

LONGEST_MS: Final = 150
"""A voice that is silent for longer means it."""

_QUIET: Final = 200
"""Of 32,767; Piper's breath stays below 100, its softest onsets cross this within 10 ms."""


async def without_lead_in(frames: AsyncIterator[PcmFrame]) -> AsyncIterator[PcmFrame]:
    """The frames, with the silence at their beginning cut down to `KEPT_MS`."""
    async with closing(frames) as original:
        first = True
        async for frame in original:
            yield _trimmed(frame) if first else frame
            first = False


def _trimmed(frame: PcmFrame) -> PcmFrame:
    samples = memoryview(frame.pcm).cast("h")
    longest = min(len(samples), LONGEST_MS * frame.rate_hz // 1000)
    onset = next((n for n in range(longest) if abs(samples[n]) > _QUIET), 0)
    kept_from = max(0, onset - KEPT_MS * frame.rate_hz // 1000)
    return PcmFrame(pcm=frame.pcm[2 * kept_from :], rate_hz=frame.rate_hz, start_ms=frame.start_ms)
