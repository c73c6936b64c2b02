"""`voxthread bench media` measures what it says, on a load that any machine carries."""

import numpy as np
import pytest

from voxthread.client.utterance import encode_utterance
from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.media_bench.bench import measure, measure_lateness, measure_stack
from voxthread.media_bench.plan import Conditions, Tracks
from voxthread.media_bench.stage import Load, Stack

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


def tracks() -> Tracks:
    """Noise that comes and goes as syllables do."""
    times = np.arange(3 * SPEECH_RATE_HZ) / SPEECH_RATE_HZ
    noise = np.random.default_rng(1).normal(0, 3_000, len(times))
    pcm = (noise * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * times))).astype("<i2").tobytes()
    packets = list(encode_utterance(PcmFrame(pcm=pcm, rate_hz=SPEECH_RATE_HZ)).packets)
    return Tracks(callers=[packets, packets[40:] + packets[:40]], reply=packets)


async def test_three_calls_on_a_bad_line_are_measured() -> None:
    conditions = Conditions(loss=0.1, jitter_ms=10, round_trip_ms=10)
    result = await measure(Load(sessions=3, seconds=2, conditions=conditions), tracks())
    packets = result["packets"]
    assert result["sessions"] == 3
    assert result["cpu_percent_per_session"] > 0
    assert result["received_per_s"] == pytest.approx(150, rel=0.2)
    assert result["added_delay_ms"]["median"] >= 10
    assert (
        0
        < packets["counted"]
        == packets["arrived"] + packets["restored_by_fec"] + packets["guessed"] + (packets["missing"])
    )
    assert packets["sent_again"] > 0
    assert result["unrecovered_fraction"] < 0.1
    assert result["post_to_media_ms"]["median"] > 0
    assert result["valid"] == (not result["invalid_because"])


async def test_calls_beside_a_stranger_who_sends_rubbish_are_measured() -> None:
    result = await measure_stack("voxthread", Load(sessions=2, seconds=1, rubbish_per_s=2_000), tracks())
    assert result["rubbish_per_s"] == pytest.approx(2_000, rel=0.2)
    assert result["packets"]["arrived"] == result["packets"]["counted"] > 0


@pytest.mark.parametrize("stack", ["voxthread", "aiortc"])
async def test_lateness_alone_is_measured_of_either_stack(stack: Stack) -> None:
    result = await measure_lateness(stack, Load(sessions=2, seconds=1), tracks())
    assert result["received_per_s"] == pytest.approx(100, rel=0.2)
    assert result["late_fraction"] is not None
