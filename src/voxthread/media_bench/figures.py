"""From what the processes saw to the figures of `voxthread bench media`. Pure."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeVar

import numpy as np

from voxthread.media.rtp import OPUS_CLOCK_PER_MS, unwrap
from voxthread.media_bench.hearing import Placing
from voxthread.media_bench.plan import (
    PACKET_TICKS,
    PACKET_US,
    Arrived,
    Call,
    Frame,
    Heard,
    Measured,
    Tracks,
    Usage,
)
from voxthread.wire.audio import decode_audio

LATE_US: Final = 10_000
"""Against the 20 ms schedule a packet that comes later than this is late."""

MAX_CLIENT_LATE_MS: Final = 2.0
"""Above this at the 99th percentile callers measure themselves."""

Came = TypeVar("Came", Arrived, Frame)


def spread(values: Sequence[float]) -> dict[str, float | None]:
    if not values:
        return {"median": None, "p95": None}
    return {
        "median": round(float(np.median(values)), 2),
        "p95": round(float(np.percentile(values, 95)), 2),
    }


def lateness(measured: Measured) -> dict[str, Any]:
    """Of the replies' packets. One that never came, or came empty, is late too."""
    expected = (measured.ended_us - measured.began_us) // PACKET_US
    due, on_time, behind_ms = 0, 0, list[float]()
    for call in measured.calls:
        came = [
            late_us
            for due_us, late_us in _schedule(call)
            if measured.began_us <= due_us < measured.began_us + expected * PACKET_US
        ]
        due += expected
        on_time += sum(late_us <= LATE_US for late_us in came)
        behind_ms += [late_us / 1000 for late_us in came]
    p99 = round(float(np.percentile(behind_ms, 99)), 2) if behind_ms else None
    return {
        "late_fraction": round(max(0.0, 1 - on_time / due), 5) if due else None,
        "late_p99_ms": p99,
        "received_per_s": round(len(behind_ms) * 1e6 / (measured.ended_us - measured.began_us), 1),
    }


def _schedule(call: Call) -> Iterator[tuple[float, float]]:
    """When each packet was due, and by how much it was late: the one that came soonest was in time."""
    if not call.heard_us:
        return
    ticks, near = [], call.heard_ticks[0]
    for each in call.heard_ticks:
        near = unwrap(each, near, 32)
        ticks.append(near)
    sent_us = np.array(ticks, np.float64) * 1000 / OPUS_CLOCK_PER_MS
    transit_us = np.array(call.heard_us, np.float64) - sent_us
    best_us = transit_us.min()
    yield from zip((sent_us + best_us).tolist(), (transit_us - best_us).tolist(), strict=True)


def client_late_p99_ms(measured: Measured) -> float:
    return round(float(np.percentile(measured.late_us, 99)) / 1000, 2) if measured.late_us else 0.0


def added_delays_ms(measured: Measured, heard: Heard, tracks: Tracks) -> list[float]:
    """From the instant a packet went onto the line to the record that it completed in its reader's hands. The
    packets before it in a record wait for it, which is batching and not counted."""
    delays = []
    for call in measured.calls:
        placing = Placing(tracks.callers[call.track])
        for arrived in _within(measured, heard.records.get(call.session_id, [])):
            record = decode_audio(arrived.value)
            number = placing.numbers(record)[-1]
            if number is not None and record.packets[-1] and number < len(call.sent_us):
                delays.append((arrived.at_us - call.sent_us[number]) / 1000)
        for frame in _within(measured, heard.frames.get(call.session_id, [])):
            number = frame.ticks // PACKET_TICKS
            if number < len(call.sent_us):
                delays.append((frame.at_us - call.sent_us[number]) / 1000)
    return delays


def _within(measured: Measured, arrived: Sequence[Came]) -> Iterator[Came]:
    return (each for each in arrived if measured.began_us <= each.at_us < measured.ended_us)


def cost(before: Usage, after: Usage, sessions: int) -> dict[str, Any]:
    """Of the media process between two moments."""
    busy = (after.cpu_s - before.cpu_s) / ((after.at_us - before.at_us) / 1e6)
    return {
        "cpu_percent": round(100 * busy, 1),
        "cpu_percent_per_session": round(100 * busy / sessions, 2),
    }


def invalid_because(measured: Measured) -> list[str]:
    late_ms = client_late_p99_ms(measured)
    if late_ms > MAX_CLIENT_LATE_MS:
        return [f"the callers sent {late_ms} ms late themselves (p99; at most {MAX_CLIENT_LATE_MS:.0f})"]
    return []
