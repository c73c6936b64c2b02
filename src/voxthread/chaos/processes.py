"""Processes of this machine, looked at and struck from outside. What it reads of them needs /proc."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from voxthread.chaos.tally import Footprint

PROC = Path("/proc")


def kill(pid: int) -> None:
    """SIGKILL. Raises `ProcessLookupError` when it is not there."""
    os.kill(pid, signal.SIGKILL)


def footprint(pid: int) -> Footprint | None:
    """None when it is gone, or this machine does not tell."""
    try:
        fds = len(list((PROC / str(pid) / "fd").iterdir()))
        pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return Footprint(fds=fds, rss_bytes=pages * os.sysconf("SC_PAGESIZE"))


def having_environment(entry: str) -> list[int]:
    """The living processes of this user that were started with `NAME=value`."""
    wanted = entry.encode()
    found = []
    for pid in _pids():
        with suppress(OSError):
            if wanted in (PROC / str(pid) / "environ").read_bytes().split(b"\0") and not _is_zombie(pid):
                found.append(pid)
    return found


def listening_at(host: str, port: int) -> int | None:
    """The process that listens there, if it is on this machine and this user's."""
    addresses = {info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    if not any(_is_local(str(address)) for address in addresses):
        return None
    inodes = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for pid in _pids():
        with suppress(OSError):
            if any(os.readlink(fd) in inodes for fd in (PROC / str(pid) / "fd").iterdir()):
                return pid
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """How a process was started, to start it again."""

    argv: tuple[str, ...]
    cwd: Path
    env: dict[str, str]


def command_of(pid: int) -> Command:
    """Raises `OSError`."""
    home = PROC / str(pid)
    argv = (home / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
    env = (entry.partition(b"=") for entry in (home / "environ").read_bytes().split(b"\0") if entry)
    return Command(
        argv=tuple(map(os.fsdecode, argv)),
        cwd=(home / "cwd").readlink(),
        env={os.fsdecode(name): os.fsdecode(value) for name, _, value in env},
    )


def _pids() -> Iterator[int]:
    with suppress(OSError):
        yield from (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())


def _is_zombie(pid: int) -> bool:
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"


def _listening_inodes(port: int) -> Iterator[str]:
    """proc_net(5): field 1 is the local address, 3 the state (0A: listening), 9 the inode."""
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in (PROC / "net" / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                    yield fields[9]


def _is_local(address: str) -> bool:
    """Whether one can listen there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
