"""Unix datagrams among the processes that have one file open: "there is something new in these places".

A datagram is a hint and may be lost, so whoever waits also looks now and then by itself. The name of a socket
says what its listener waits for, so that a call's audio wakes the owner of the call and nobody else.
"""

import os
import select
import socket
import tempfile
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

_ADDRESS_MAX_BYTES: Final = 100  # sun_path holds 104 on macOS, 108 on Linux
_NAME_MAX_BYTES: Final = 40
_DATAGRAM_MAX_BYTES: Final = 4_096
_PLACE_BYTES: Final = 2
_INTERESTS: Final = 96
"""Places share so many bits of a name; who is woken for another's place finds nothing."""
_CLOCK_STEP_NS: Final = 1_000_000_000
"""A directory changed so recently may change again without a new time, which is that of a coarse clock."""


class Wakes:
    """One listener: a socket in `directory`, beside those of all others. `ring` and `tell` never block.

    Places are numbers that all processes give alike. One thread calls `listen` and `await_place`.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory
        self._alias = _short_alias(directory)
        self._root = str(self._alias or directory)
        self._id = f"{os.getpid()}-{token_hex(3)}"
        self._interests = 0
        self._name = self._named(self._interests)
        self._naming = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._listener.bind(f"{self._root}/{self._name}")
        self._listener.setblocking(False)
        self._awaited = select.poll()
        self._awaited.register(self._listener, select.POLLIN)
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._others: list[tuple[str, int]] = []
        self._others_at_ns = 0

    def ring(self) -> None:
        """Wake this process's own listener."""
        with self._naming, suppress(OSError):  # full, so it is awake already
            self._sender.sendto(b"", f"{self._root}/{self._name}")

    def await_place(self, place: int) -> None:
        """Be woken for it from now on; without the directory, as before."""
        interests = self._interests | _interest(place)
        if interests != self._interests:
            name = self._named(interests)
            with self._naming, suppress(OSError):
                os.rename(f"{self._root}/{self._name}", f"{self._root}/{name}")
                self._name, self._interests = name, interests

    def _named(self, interests: int) -> str:
        return f"{self._id}-{interests:x}"

    def tell(self, places: Collection[int]) -> None:
        """Wake the others who wait for any of the places; sockets that dead processes left are removed.

        Whoever lost the directory is alone, and is found by nobody: all of them look by themselves.
        """
        hint = b"".join(place.to_bytes(_PLACE_BYTES, "little") for place in places)
        interests = sum({_interest(place) for place in places})
        for address, awaited in self._reachable():
            if not awaited & interests:
                continue
            try:
                self._sender.sendto(hint, address)
            except (ConnectionRefusedError, FileNotFoundError):
                with suppress(FileNotFoundError):
                    os.unlink(address)
            except OSError:
                continue  # its queue is full or its owner stopped; it looks by itself

    def _reachable(self) -> list[tuple[str, int]]:
        """The addresses of the others, and what they wait for."""
        try:
            changed_at_ns = os.stat(self._root).st_mtime_ns
            if changed_at_ns != self._others_at_ns or time.time_ns() - changed_at_ns < _CLOCK_STEP_NS:
                self._others = self._found()
                self._others_at_ns = changed_at_ns
        except FileNotFoundError:
            return []
        return self._others

    def _found(self) -> list[tuple[str, int]]:
        names = [name for name in os.listdir(self._root) if not name.startswith(f"{self._id}-")]
        return [(f"{self._root}/{name}", _interests(name)) for name in names]

    def listen(self, timeout_s: float) -> list[list[int]]:
        """The hints that came, each its places; waits for the first at most `timeout_s`."""
        hints: list[list[int]] = []
        if not self._awaited.poll(timeout_s * 1000):
            return hints
        try:
            while True:
                hints.append(_places(self._listener.recv(_DATAGRAM_MAX_BYTES)))
        except BlockingIOError:
            return hints

    def close(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(f"{self._root}/{self._name}")
        self._listener.close()
        self._sender.close()
        if self._alias is not None:
            self._alias.unlink(missing_ok=True)
            self._alias.parent.rmdir()


def _interest(place: int) -> int:
    return 1 << place % _INTERESTS


def _interests(name: str) -> int:
    """Everything, for a name of another form."""
    try:
        return int(name.rsplit("-", 1)[1], 16)
    except (IndexError, ValueError):
        return (1 << _INTERESTS) - 1


def _places(hint: bytes) -> list[int]:
    ends = range(_PLACE_BYTES, len(hint) + 1, _PLACE_BYTES)
    return [int.from_bytes(hint[end - _PLACE_BYTES : end], "little") for end in ends]


def _short_alias(directory: Path) -> Path | None:
    """A symbolic link to a directory whose own path is too long for the address of a socket."""
    if len(os.fsencode(directory)) + 1 + _NAME_MAX_BYTES <= _ADDRESS_MAX_BYTES:
        return None
    alias = Path(tempfile.mkdtemp(prefix="vx-")) / "w"
    alias.symlink_to(directory.resolve(), target_is_directory=True)
    return alias
