"""A server to measure: started as users start it, with what all its processes cost."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

VOXTHREAD = str(Path(sys.executable).with_name("voxthread"))
READY_TIMEOUT_S = 60


@dataclass(frozen=True)
class Served:
    """`voxthread serve` with its roles: a media process and two orchestrators, one of them a spare."""

    url: str
    ready_s: float
    process: psutil.Process

    def processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def memory_mb(self) -> float:
        """Proportional set size of all processes; resident size where that is unknown."""
        total = 0
        for process in self.processes():
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss)
        return total / 1e6

    def cpu_s(self) -> float:
        """CPU seconds that all processes have used so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self.processes())


@contextmanager
def serving(*options: str, command: Sequence[str] = (VOXTHREAD,)) -> Iterator[Served]:
    """`options` are those of `voxthread serve`. Exits if the server does not become ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    state_dir = tempfile.mkdtemp(prefix="voxthread-bench-")
    server = subprocess.Popen(
        [*command, "serve", *options, "--port", str(port)],
        env={**os.environ, "VOXTHREAD_STATE_DIR": state_dir},
        stdout=subprocess.DEVNULL,
    )
    try:
        yield Served(url, _wait_until_ready(url, server), psutil.Process(server.pid))
    finally:
        server.terminate()
        server.wait(timeout=30)
        shutil.rmtree(state_dir)


def _wait_until_ready(url: str, server: "subprocess.Popen[bytes]") -> float:
    """Seconds until `/readyz` is 200."""
    began = time.monotonic()
    while time.monotonic() - began < READY_TIMEOUT_S and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=1):
                return time.monotonic() - began
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.05)
    sys.exit("bench: the server did not become ready; its log is above")
