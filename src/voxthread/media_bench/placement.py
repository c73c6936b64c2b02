"""Where a process runs and how it is scheduled: a core of its own, before everything else on it."""

import os
import sys
from contextlib import suppress
from typing import Any, Final

_PRIORITY: Final = 10
"""Of SCHED_FIFO: any is before all that is not real-time."""


def cores() -> tuple[int | None, int | None]:
    """For the server, and for the callers. None where there are not two, or none can be chosen (macOS)."""
    if sys.platform != "linux":
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[-1], allowed[0]) if len(allowed) > 1 else (None, None)


def take_place(core: int | None, *, is_realtime: bool) -> dict[str, Any]:
    """Move this process there, and say what has become of it."""
    if sys.platform != "linux":
        return {"core": None, "realtime": False}
    if core is not None:
        os.sched_setaffinity(0, {core})
    if is_realtime:
        with suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(_PRIORITY))
    return {"core": core, "realtime": os.sched_getscheduler(0) == os.SCHED_FIFO}
