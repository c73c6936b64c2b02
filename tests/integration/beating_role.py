"""A role that beats on the log: `beating_role.py FILE NAME`. SIGUSR1: begin to write there, and stop."""

import json
import os
import signal
import sqlite3
import sys
from pathlib import Path

import anyio

from voxthread.app.pulse import beating
from voxthread.bus.sqlite import SqliteBus


async def main(file: Path, name: str, worker_id: str) -> None:
    async with SqliteBus(file) as bus, beating(bus, worker_id):
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGUSR1) as signals:
            words = {"event": "began", "name": name, "worker_id": worker_id, "pid": os.getpid()}
            os.write(2, json.dumps(words).encode() + b"\n")
            async for received in signals:
                if received == signal.SIGTERM:
                    break
                sqlite3.connect(file, isolation_level=None).execute("BEGIN IMMEDIATE")
                os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2], os.environ["VOXTHREAD_WORKER_ID"])
