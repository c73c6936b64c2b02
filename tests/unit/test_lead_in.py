"""The silence before the first sound of a reply."""

import array
from collections.abc import AsyncIterator

import pytest

from voxthread.core.audio import PcmFrame
from voxthread.orchestrator.lead_in import KEPT_MS, without_lead_in

pytestmark = pytest.mark.unit

RATE_HZ = 16_000


def frame(quiet_ms: int, loud_ms: int) -> PcmFrame:
    samples = [50] * (quiet_ms * RATE_HZ // 1000) + [9_000] * (loud_ms * RATE_HZ // 1000)
    return PcmFrame(pcm=array.array("h", samples).tobytes(), rate_hz=RATE_HZ)


async def durations(*frames: PcmFrame) -> list[int]:
    async def spoken() -> AsyncIterator[PcmFrame]:
        for each in frames:
            yield each

    return [each.duration_ms async for each in without_lead_in(spoken())]


@pytest.mark.anyio
async def test_first_frame_begins_with_its_first_sound_and_the_next_are_left_alone() -> None:
    assert await durations(frame(70, 100), frame(70, 100)) == [100 + KEPT_MS, 170]


@pytest.mark.anyio
async def test_frame_that_begins_at_once_is_left_alone() -> None:
    assert await durations(frame(0, 100)) == [100]


@pytest.mark.anyio
async def test_long_silence_is_meant() -> None:
    assert await durations(frame(500, 100)) == [600]
