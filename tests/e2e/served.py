"""A real `voxthread serve` in a process of its own, and the command line beside it."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

VOXTHREAD = str(Path(sys.executable).with_name("voxthread"))
READY_S = 60
STOP_S = 20


@dataclass(slots=True)
class Served:
    """`log` grows while the server runs; `url` is empty until it is ready."""

    process: subprocess.Popen[str]
    url: str = ""
    log: list[str] = field(default_factory=list)
    settled: threading.Event = field(default_factory=threading.Event)

    def read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if '"server.ready"' in line:
                self.url = json.loads(line)["url"]
                self.settled.set()
        self.settled.set()

    @property
    def errors(self) -> list[str]:
        return [line for line in self.log if '"level": "error"' in line]


@contextmanager
def serve(*arguments: str, **environment: str) -> Iterator[Served]:
    """A server on a free port, ready, with all its roles. It must stop when asked to, and have nothing to
    complain of."""
    with tempfile.TemporaryDirectory(prefix="voxthread-") as state_dir:
        process = subprocess.Popen(
            [VOXTHREAD, "serve", "--port", "0", *arguments],
            env={**os.environ, "VOXTHREAD_STATE_DIR": state_dir, **environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        with _read(process) as served:
            yield served


@contextmanager
def _read(process: "subprocess.Popen[str]") -> Iterator[Served]:
    served = Served(process)
    reader = threading.Thread(target=served.read_log)
    reader.start()
    try:
        served.settled.wait(READY_S)
        assert served.url, f"the server did not get ready:\n{''.join(served.log)}"
        yield served
    except BaseException as error:
        error.add_note("".join(["log of the server:\n", *served.log[-60:]]))
        raise
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        finally:
            process.kill()
            reader.join()
            process.stderr.close()  # type: ignore[union-attr]
    assert process.returncode == 0, "".join(served.log[-20:])
    assert served.errors == []
