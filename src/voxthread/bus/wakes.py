"""Unix datagrams among the processes that have one file open: "there is something new in these places".

A datagram is a hint and may be lost, so whoever waits also looks now and then by itself.
"""

import os
import select
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Final

_ADDRESS_MAX_BYTES: Final = 100  # sun_path holds 104 on macOS, 108 on Linux
_DATAGRAM_MAX_BYTES: Final = 4_096
_CLOCK_STEP_NS: Final = 1_000_000_000
"""A directory changed so recently may change again without a new time, which is that of a coarse clock."""


class Wakes:
    """One listener: a socket in `directory`, beside those of all others. `ring` and `tell` never block."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, exist_ok=True)
        self._directory = directory
        self._alias = _short_alias(directory)
        self._root = str(self._alias or directory)
        self._name = f"{os.getpid()}-{token_hex(3)}"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._listener.bind(f"{self._root}/{self._name}")
        self._listener.setblocking(False)
        self._awaited = select.poll()
        self._awaited.register(self._listener, select.POLLIN)
        self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sender.setblocking(False)
        self._others: list[str] = []
        self._others_at_ns = 0

    def ring(self) -> None:
        """Wake this process's own listener."""
        with suppress(OSError):  # full, so it is awake already
            self._sender.sendto(b"", f"{self._root}/{self._name}")

    def tell(self, hint: bytes) -> None:
        """Wake every other listener; sockets that dead processes left are removed."""
        changed_at_ns = os.stat(self._root).st_mtime_ns
        if changed_at_ns != self._others_at_ns or time.time_ns() - changed_at_ns < _CLOCK_STEP_NS:
            self._others_at_ns = changed_at_ns
            self._others = [f"{self._root}/{n}" for n in os.listdir(self._root) if n != self._name]
        for address in self._others:
            try:
                self._sender.sendto(hint, address)
            except (ConnectionRefusedError, FileNotFoundError):
                with suppress(FileNotFoundError):
                    os.unlink(address)
            except OSError:
                continue  # its queue is full or its owner stopped; it looks by itself

    def listen(self, timeout_s: float) -> list[bytes]:
        """The hints that came; waits for the first at most `timeout_s`."""
        hints: list[bytes] = []
        if not self._awaited.poll(timeout_s * 1000):
            return hints
        try:
            while True:
                hints.append(self._listener.recv(_DATAGRAM_MAX_BYTES))
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


def _short_alias(directory: Path) -> Path | None:
    """A symbolic link to a directory whose own path is too long for the address of a socket."""
    if len(os.fsencode(directory)) + 24 <= _ADDRESS_MAX_BYTES:
        return None
    alias = Path(tempfile.mkdtemp(prefix="vx-")) / "w"
    alias.symlink_to(directory.resolve(), target_is_directory=True)
    return alias
