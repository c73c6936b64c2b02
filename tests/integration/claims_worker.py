"""A worker that claims partitions until it is killed: `claims_worker.py FILE WORKER_ID`.

It prints "granted PARTITION EPOCH NOW_MS" and "lost PARTITION NOW_MS", and drains when its input ends.
"""

import sys
from pathlib import Path

import anyio

from voxthread.bus.sqlite import SqliteBus
from voxthread.observability.clock import now_ms
from voxthread.observability.logs import configure_logging
from voxthread.orchestrator.claims import PartitionClaims


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def main(file: str, worker_id: str) -> None:
    async with SqliteBus(Path(file)) as bus, anyio.create_task_group() as tasks:
        claims = PartitionClaims(
            bus,
            worker_id,
            on_granted=lambda partition, epoch, is_orphan: say("granted", partition, epoch, now_ms()),
            on_lost=lambda partition: say("lost", partition, now_ms()),
            sessions=dict,
        )
        await tasks.start(claims.run)
        claims.set_ready(True)
        await anyio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
        await claims.drain()
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    configure_logging("error")
    anyio.run(main, sys.argv[1], sys.argv[2])
