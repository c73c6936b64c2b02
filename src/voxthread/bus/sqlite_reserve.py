"""Room kept for last words: a file beside the log that is given up when the disk is full.

As long as it is not there, whoever took it and whatever process looks, the log is about to close. It comes back
by itself when there is room again.
"""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from voxthread.bus.policies import MIB

RESERVE_BYTES: Final = 8 * MIB
"""Fifty callers who are told goodbye for ten seconds write half of it."""

ROOM_BYTES: Final = 32 * MIB
"""What must be free beside the reserve before it is made."""


class Reserve:
    def __init__(self, file: Path, size_bytes: int = RESERVE_BYTES, room_bytes: int = ROOM_BYTES) -> None:
        self._log = file
        self._file = file.with_name(f"{file.name}-reserve")
        self._size_bytes = size_bytes
        self._room_bytes = room_bytes

    def closing(self) -> str | None:
        """Why the log is about to take no more records, or None."""
        if self._file.exists():
            return None
        return f"no room left for {self._log}; make room, calls are then taken again by themselves"

    def spend(self) -> bool:
        """Give the room to the log; False when that was done already."""
        try:
            self._file.unlink()
        except OSError:
            return False
        return True

    def make(self) -> bool:
        """Take the room if it is not taken and if there is enough; return whether that has changed anything."""
        if self._file.exists() or self._is_scarce():
            return False
        unfinished = self._file.with_name(f"{self._file.name}-unfinished")
        try:
            unfinished.write_bytes(bytes(self._size_bytes))
            unfinished.replace(self._file)
        except OSError:
            with suppress(OSError):
                unfinished.unlink()
            return False
        return True

    def _is_scarce(self) -> bool:
        try:
            return shutil.disk_usage(self._log.parent).free < self._size_bytes + self._room_bytes
        except OSError:
            return True
