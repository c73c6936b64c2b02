"""`make bench`: start a server with the `chat` agent, measure it, and write benchmarks/latency.json.

The server is what users run: a media process and two orchestrators, one of them a spare. Beside `voxthread
bench latency` it records how long the server took to be ready and what memory all its processes hold after the
last turn.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

VOXTHREAD = str(Path(sys.executable).with_name("voxthread"))
RESULT = Path("benchmarks/latency.json")
READY_TIMEOUT_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_ready(url: str, server: subprocess.Popen[bytes]) -> float:
    """Seconds until `/readyz` is 200."""
    began = time.monotonic()
    while time.monotonic() - began < READY_TIMEOUT_S and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/readyz", timeout=1):
                return time.monotonic() - began
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.05)
    sys.exit("bench: the server did not become ready; its log is above")


def memory_mb(server: psutil.Process) -> float:
    """Proportional set size of the server and its children; resident size where that is unknown."""
    total = 0
    for process in (server, *server.children(recursive=True)):
        memory = process.memory_full_info()
        total += getattr(memory, "pss", memory.rss)
    return total / 1e6


def main(arguments: list[str]) -> int:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    state_dir = tempfile.mkdtemp(prefix="voxthread-bench-")
    server = subprocess.Popen(
        [VOXTHREAD, "serve", "examples/chat.py", "--port", str(port)],
        env={**os.environ, "VOXTHREAD_STATE_DIR": state_dir},
        stdout=subprocess.DEVNULL,
    )
    try:
        ready_s = wait_until_ready(url, server)
        bench = subprocess.run(
            [VOXTHREAD, "bench", "latency", "--url", url, "--json", *arguments],
            stdout=subprocess.PIPE,
            check=False,
        )
        memory = memory_mb(psutil.Process(server.pid))
    finally:
        server.terminate()
        server.wait(timeout=30)
        shutil.rmtree(state_dir)
    if bench.returncode:
        return bench.returncode
    result = {**json.loads(bench.stdout), "ready_s": round(ready_s, 1), "memory_mb": round(memory)}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    voice_to_voice = result["v2v_ms"]
    print(f"voice to voice: median {voice_to_voice['median']} ms, p95 {voice_to_voice['p95']} ms")
    print(f"ready after {ready_s:.1f} s, memory {memory:.0f} MB; written to {RESULT}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
