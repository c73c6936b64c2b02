"""The table of what survives which kill: `python benchmarks/chaos.py [sqlite | kafka] [--calls N] [--seed S]`.

Runs `voxthread chaos --table` on a SQLite bus, on one Kafka broker, and on three of which the leader is killed,
and writes benchmarks/results/chaos_<bus>.json. Kafka is started as for the tests. Fails if a row does.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from kafka.brokers import Cluster, KafkaUnavailableError, running
from voxthread.chaos.processes import listening_at

RESULTS = Path(__file__).with_name("results")
TEXTS = ("history", "user_text", "heard_text")


def chaos(options: list[str]) -> dict[str, Any]:
    """What `voxthread chaos` measured, whether it passed or not."""
    command = [sys.executable, "-m", "voxthread", "chaos", *options, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if not done.stdout:
        sys.exit("chaos: nothing was measured; the reason is above")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


@contextmanager
def brokers(count: int) -> Iterator[str]:
    with (
        tempfile.TemporaryDirectory(prefix="voxthread-kafka-") as scratch,
        running(count, Path(scratch)) as started,
    ):
        try:
            yield f"kafka://{started.bootstrap}"
        finally:
            kill_all(started)


def kill_all(cluster: Cluster) -> None:
    """Also those that were killed and started again, of which the cluster does not know."""
    for broker in cluster.brokers:
        host, _, port = broker.address.rpartition(":")
        if pid := listening_at(host, int(port)):
            os.kill(pid, signal.SIGKILL)


def write(bus: str, result: dict[str, Any]) -> bool:
    result.pop("log", None)  # a path of this machine, as that of a row made by itself
    for row in result["rows"]:
        row.pop("log", None)
        row["runs"] = [{k: v for k, v in run.items() if k not in TEXTS} for run in row["runs"]]
    path = RESULTS / f"chaos_{bus}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    sys.stdout.write(f"written to {path}\n")
    return bool(result["passed"])


def on_kafka(options: list[str]) -> dict[str, Any]:
    with brokers(1) as bus:
        result = chaos(["--table", "--bus", bus, *options])
    with brokers(3) as bus:
        leader = chaos(["--kill", "broker", "--bus", bus, *options])
    result["rows"].append({**leader, "row": "kill broker, the leader of three"})
    result["passed"] = result["passed"] and leader["passed"]
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bus", nargs="?", choices=["sqlite", "kafka"], help="both, if not given")
    parser.add_argument("--calls", default="20")
    parser.add_argument("--seed", default="1")
    arguments = parser.parse_args()
    options = ["--calls", arguments.calls, "--seed", arguments.seed]
    passed = []
    if arguments.bus != "kafka":
        passed.append(write("sqlite", chaos(["--table", *options])))
    if arguments.bus != "sqlite":
        try:
            passed.append(write("kafka", on_kafka(options)))
        except KafkaUnavailableError as error:
            sys.exit(f"chaos: {error}")
    return 0 if all(passed) else 1


if __name__ == "__main__":
    sys.exit(main())
