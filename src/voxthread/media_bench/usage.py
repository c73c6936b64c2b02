"""What this process takes of the machine."""

import asyncio
import os
import time
from pathlib import Path

from voxthread.media_bench.plan import Usage, instant_us

_SELF = Path("/proc/self")


def usage() -> Usage:
    """Of this moment. Called in an event loop, it counts the loop's tasks too."""
    is_linux = _SELF.exists()
    try:
        tasks = len(asyncio.all_tasks())
    except RuntimeError:
        tasks = 0
    return Usage(
        at_us=instant_us(),
        cpu_s=time.process_time(),
        rss_bytes=_rss_bytes() if is_linux else 0,
        threads=len(os.listdir(_SELF / "task")) if is_linux else 0,
        sockets=_sockets() if is_linux else 0,
        tasks=tasks,
    )


def _rss_bytes() -> int:
    pages = int((_SELF / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _sockets() -> int:
    held = 0
    for descriptor in os.listdir(_SELF / "fd"):
        try:
            held += os.readlink(_SELF / "fd" / descriptor).startswith("socket:")
        except FileNotFoundError:  # that of the listing itself
            continue
    return held
