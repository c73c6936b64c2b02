"""The one place that reads the clock."""

import time

_UNIX_MINUS_MONOTONIC_NS = time.time_ns() - time.monotonic_ns()


def now_ms() -> int:
    """Unix time in milliseconds that never runs backwards within a process."""
    return (time.monotonic_ns() + _UNIX_MINUS_MONOTONIC_NS) // 1_000_000


def now_us() -> int:
    """Unix time in microseconds that never runs backwards within a process."""
    return (time.monotonic_ns() + _UNIX_MINUS_MONOTONIC_NS) // 1_000
