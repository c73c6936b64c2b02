"""How long a record is under way and what it costs: `python benchmarks/bus.py [--kafka HOST:PORT]`.

For each bus and rate a writer appends records of a caller's 60 ms (228 bytes) to eight partitions at even
intervals and a reader follows them all; on SQLite and Kafka they are two processes. A hop is from the call of
`append` to the record in the reader's hands, by the clock both share. CPU is that of a whole process, less what
the same writer takes with a bus that does nothing. From it follows what the bus takes in the two processes of a
session when a hundred are listened to, and when the agent speaks in a hundred. Kafka is the broker named, else
one started as for the tests.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from pathlib import Path
from uuid import uuid4

import anyio

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from kafka.brokers import KafkaUnavailableError, running
from voxthread.bus.open import open_bus
from voxthread.client.bench import load_average, machine
from voxthread.config import BusConfig
from voxthread.observability.logs import configure_logging
from voxthread.wire.log import Bus, Record, StoredRecord, Stream

SESSIONS = 100
LISTENING = 17 * SESSIONS
"""Records a second of as many callers' audio."""
EVENTS = 5 * SESSIONS
"""The way back meanwhile, counted in calls."""
SPEAKING = 55 * SESSIONS
"""The same while the agent speaks: a record each 20 ms, and what was played each 200 ms."""
ANSWERING = LISTENING
"""The way back then: 6 records of audio a second and 11 events, counted in calls."""
RATES = (50, EVENTS, LISTENING, SPEAKING)
SECONDS = 5
PARTITIONS = 8
KEY = "session_1753590741399040_5cc15fe6"
PADDING = bytes(220)
TARGET_HOP_MS = {"memory": 1.0, "sqlite": 1.0, "kafka": 10.0}
TARGET_CPU_PERCENT = {"listening": 0.5, "speaking": 1.0}


class NoBus:
    """Takes records and forgets them: what the benchmark itself costs."""

    partitions = PARTITIONS
    closing = None

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        await anyio.lowlevel.checkpoint()
        return 0

    def read(self, stream: Stream, partition: int, from_position: int) -> AsyncGenerator[StoredRecord, None]:
        raise NotImplementedError

    async def oldest(self, stream: Stream, partition: int) -> int:
        return 0

    async def head(self, stream: Stream, partition: int) -> int:
        return 0


def tell(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def write(bus: Bus, rate: int) -> float:
    """Append for `SECONDS` and return the share of a core that this process took."""
    began_cpu, began = time.process_time(), time.perf_counter()
    async with anyio.create_task_group() as appends:
        for n in range(rate * SECONDS):
            await anyio.sleep(max(0.0, began + n / rate - time.perf_counter()))
            value = time.monotonic_ns().to_bytes(8, "little") + PADDING
            appends.start_soon(bus.append, Stream.IN, n % PARTITIONS, Record(KEY, value))
    return (time.process_time() - began_cpu) / (time.perf_counter() - began)


async def read(bus: Bus, rate: int, ready: anyio.Event) -> dict[str, float]:
    hops_ms: list[float] = []
    starts = [await bus.head(Stream.IN, partition) for partition in range(PARTITIONS)]

    async def follow(partition: int) -> None:
        left = len(range(partition, rate * SECONDS, PARTITIONS))
        async with aclosing(bus.read(Stream.IN, partition, starts[partition])) as records:
            async for stored in records:
                sent_ns = int.from_bytes(stored.record.value[:8], "little")
                hops_ms.append((time.monotonic_ns() - sent_ns) / 1e6)
                left -= 1
                if not left:
                    return

    began_cpu, began = time.process_time(), time.perf_counter()
    async with anyio.create_task_group() as followers:
        for partition in range(PARTITIONS):
            followers.start_soon(follow, partition)
        ready.set()
    share = (time.process_time() - began_cpu) / (time.perf_counter() - began)
    hops_ms.sort()
    return {
        "hop_ms_p50": round(hops_ms[len(hops_ms) // 2], 3),
        "hop_ms_p95": round(hops_ms[int(len(hops_ms) * 0.95)], 3),
        "reader_cpu_percent": round(100 * share, 2),
    }


async def write_here(url: str, rate: int) -> None:
    async with open_bus(url, BusConfig(partitions=PARTITIONS)) as bus:
        await anyio.sleep(1)  # connections are made, caches warm
        tell(json.dumps({"writer_cpu_percent": round(100 * await write(bus, rate), 2)}))


async def in_two_processes(url: str, rate: int) -> dict[str, float]:
    result: dict[str, float] = {}

    async def start_writer(ready: anyio.Event) -> None:
        await ready.wait()
        command = [sys.executable, __file__, "--write", url, "--rate", str(rate)]
        written = await anyio.run_process(command, stderr=None)
        result.update(json.loads(written.stdout))

    async with open_bus(url, BusConfig(partitions=PARTITIONS)) as bus, anyio.create_task_group() as tasks:
        ready = anyio.Event()
        tasks.start_soon(start_writer, ready)
        result |= await read(bus, rate, ready)
    return result


async def in_one_process(url: str, rate: int) -> dict[str, float]:
    result: dict[str, float] = {}

    async def keep(bus: Bus, ready: anyio.Event) -> None:
        result.update(await read(bus, rate, ready))

    async with open_bus(url, BusConfig(partitions=PARTITIONS)) as bus, anyio.create_task_group() as tasks:
        ready = anyio.Event()
        tasks.start_soon(keep, bus, ready)
        await ready.wait()
        result["writer_cpu_percent"] = round(100 * await write(bus, rate), 2)
    result["reader_cpu_percent"] = 0.0  # it is the same process
    return result


async def idle_share(url: str) -> float:
    """What a process takes that follows every partition while nothing is appended."""
    async with open_bus(url, BusConfig(partitions=PARTITIONS)) as bus, anyio.create_task_group() as followers:
        for partition in range(PARTITIONS):
            head = await bus.head(Stream.IN, partition)
            followers.start_soon(anext, bus.read(Stream.IN, partition, head))
        await anyio.sleep(1)
        began_cpu, began = time.process_time(), time.perf_counter()
        await anyio.sleep(5)
        share = (time.process_time() - began_cpu) / (time.perf_counter() - began)
        followers.cancel_scope.cancel()
    return share


@contextmanager
def urls(kafka: str | None) -> Iterator[dict[str, str]]:
    with ExitStack() as opened:
        scratch = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="voxthread-bus-")))
        found = {"memory": "memory", "sqlite": f"sqlite:{scratch}/log.db"}
        try:
            servers = kafka or opened.enter_context(running(1, scratch / "kafka")).bootstrap
            found["kafka"] = f"kafka://{servers}?topic_prefix=bench-{uuid4().hex[:8]}."
        except KafkaUnavailableError as error:
            sys.stderr.write(f"no Kafka: {error}\n")
        yield found


def measured(name: str, url: str, rate: int, own_percent: float) -> dict[str, float]:
    """Hop and CPU on one bus, without the `own_percent` that the benchmark itself takes to write."""
    run = in_one_process if name == "memory" else in_two_processes
    result = anyio.run(run, url, rate, backend_options={"use_uvloop": True})
    result["writer_cpu_percent"] = round(max(0.0, result["writer_cpu_percent"] - own_percent), 2)
    return result


def cpu_per_session(at: dict[int, dict[str, float]]) -> dict[str, dict[str, float]]:
    """What the bus takes of a core in a session's two processes, added up from what each rate took."""

    def share(written: int, read: int) -> float:
        return round((at[written]["writer_cpu_percent"] + at[read]["reader_cpu_percent"]) / SESSIONS, 3)

    return {
        "listening": {"media": share(LISTENING, EVENTS), "owner": share(EVENTS, LISTENING)},
        "speaking": {"media": share(SPEAKING, ANSWERING), "owner": share(ANSWERING, SPEAKING)},
    }


def measure(kafka: str | None) -> dict[str, object]:
    uvloop = {"use_uvloop": True}
    own = {rate: 100 * anyio.run(write, NoBus(), rate, backend_options=uvloop) for rate in RATES}
    results = []
    with urls(kafka) as named:
        for name, url in named.items():
            idle = anyio.run(idle_share, url, backend_options=uvloop)
            at = {}
            for rate in RATES:
                at[rate] = measured(name, url, rate, own[rate])
                sys.stderr.write(json.dumps({"bus": name, "records_per_s": rate, **at[rate]}) + "\n")
            cpu = cpu_per_session(at)
            is_quick = all(at[rate]["hop_ms_p50"] <= TARGET_HOP_MS[name] for rate in RATES)
            is_cheap = all(max(cpu[state].values()) <= TARGET_CPU_PERCENT[state] for state in cpu)
            results.append(
                {
                    "bus": name,
                    "at": [{"records_per_s": rate, **at[rate]} for rate in RATES],
                    "idle_cpu_percent": round(100 * idle, 2),
                    "cpu_percent_per_session": cpu,
                    "ok": is_quick and is_cheap,
                }
            )
            sys.stderr.write(json.dumps(results[-1]) + "\n")
    return {
        "results": results,
        "sessions": SESSIONS,
        "benchmark_cpu_percent": {str(rate): round(share, 2) for rate, share in own.items()},
        "target_hop_ms_p50": TARGET_HOP_MS,
        "target_cpu_percent_per_session": TARGET_CPU_PERCENT,
        "machine": machine(),
        "load": load_average(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kafka", metavar="HOST:PORT", help="a broker that runs already")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "bus.json")
    parser.add_argument("--write", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--rate", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    configure_logging("warning")
    if arguments.write:
        anyio.run(write_here, arguments.write, arguments.rate, backend_options={"use_uvloop": True})
        return 0
    report = measure(arguments.kafka)
    text = json.dumps(report, indent=1)
    tell(text)
    arguments.out.write_text(text + "\n")
    results = report["results"]
    assert isinstance(results, list)
    return 0 if all(result["ok"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
