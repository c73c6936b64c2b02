"""The table of the media plane: `python benchmarks/media.py [FIGURE ...] [--times 2] [--kafka HOST:PORT]`.

Each figure is measured by the calls of `voxthread bench media` and held against what is demanded of it. Without
names all are, about 20 minutes for each table; the machine should have nothing else to do. Kafka is the broker
named, else one started as for the tests; without it that figure is left out. Fails if a figure does. Writes
benchmarks/results/media.json, and how long each figure took to standard error. Lines without a demand are there
to compare with.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
from anyio.to_thread import run_sync
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from kafka.brokers import KafkaUnavailableError, running
from voxthread.client.bench import load_average, machine
from voxthread.client.failures import BenchError
from voxthread.config import read_config
from voxthread.engines.models import ModelFiles, verify
from voxthread.media_bench.bench import measure, measure_lateness
from voxthread.media_bench.plan import Conditions, Tracks
from voxthread.media_bench.stage import Load, Stack
from voxthread.media_bench.tracks import spoken_tracks
from voxthread.media_bench.wer import Script, measure_words, prepare_words
from voxthread.observability.logs import configure_logging

RESULTS = Path(__file__).parent / "results" / "media.json"
SESSIONS = 20
SECONDS = 30
SHORT_SECONDS = 20
RUBBISH_PER_S = 20_000
CHURNED = 1_000
DELETE_S = 10
SEEDS = 5
MAX_LATE = 0.01
SEARCH: Mapping[Stack, tuple[int, int, int]] = {"voxthread": (80, 20, 5), "aiortc": (16, 8, 2)}
"""Where to begin, by how much to go on, and how finely to end."""

RANDOM_LOSS = Conditions(loss=0.1, nack=False)
BURSTY_LOSS = Conditions(loss=0.1, burst=3, nack=False)
NEAR_LINE = Conditions(loss=0.1, round_trip_ms=20)


@dataclass(frozen=True, slots=True)
class Row:
    """`passed` is None where nothing is demanded."""

    figure: str
    demand: str
    found: str
    passed: bool | None


@dataclass(slots=True)
class Setting:
    """What all tables share."""

    tracks: Tracks
    models_dir: Path
    kafka: str | None
    words: tuple[ModelFiles, Script] | None = None

    async def script(self) -> tuple[ModelFiles, Script]:
        if self.words is None:
            files = await run_sync(verify, self.models_dir)
            self.words = files, await prepare_words(files, tell)
        return self.words

    async def run(self, load: Load) -> dict[str, Any]:
        """Raises `BenchError`, also where the callers were late themselves."""
        result = await measure(load, self.tracks, tell=tell)
        for each in (result, result["compare"]):
            if each and not each["valid"]:
                raise BenchError("bench.invalid", "; ".join(each["invalid_because"]))
        return result


Figure = Callable[[Setting], AsyncIterator[Row]]


def tell(text: str) -> None:
    sys.stderr.write(text + "\n")


def at_most(figure: str, limit: float, found: float | None, unit: str = "") -> Row:
    told = "nothing" if found is None else f"{found:g}{unit}"
    return Row(figure, f"<= {limit:g}{unit}", told, found is not None and found <= limit)


def to_compare(figure: str, found: object) -> Row:
    return Row(figure, "", str(found), None)


async def largest(carries: Callable[[int], Awaitable[bool]], begin: int, step: int, grain: int) -> int:
    """The most for which it does, to within `grain`; each more is taken to be as bad at least."""
    low, high = 0, begin
    while await carries(high):
        low, high = high, high + step
    while high - low > grain:
        middle = (low + high) // 2
        low, high = (middle, high) if await carries(middle) else (low, middle)
    return low


async def carries(setting: Setting, stack: Stack, sessions: int) -> bool:
    load = Load(sessions=sessions, seconds=SHORT_SECONDS)
    try:
        figures = await measure_lateness(stack, load, setting.tracks, tell=tell)
    except BenchError as error:
        tell(f"{stack}: {sessions} sessions: {error.detail}")
        return False
    tell(f"{stack}: {sessions} sessions: {figures['late_fraction']:.2%} late, {figures['cpu_percent']} % CPU")
    return bool(figures["valid"] and figures["late_fraction"] < MAX_LATE)


async def sessions_per_core(setting: Setting) -> AsyncIterator[Row]:
    most = await largest(partial(carries, setting, "voxthread"), *SEARCH["voxthread"])
    yield Row("sessions per core, < 1 % of packets > 10 ms late", ">= 80", str(most), most >= 80)
    aiortc = await largest(partial(carries, setting, "aiortc"), *SEARCH["aiortc"])
    yield to_compare("the same of stock aiortc", aiortc)


async def cost(setting: Setting) -> AsyncIterator[Row]:
    result = await setting.run(Load(sessions=SESSIONS, seconds=SECONDS, compares_aiortc=True))
    aiortc = result["compare"]
    for name, place in result["places"].items():
        yield to_compare(f"where the {name} ran", ", ".join(f"{key} {value}" for key, value in place.items()))
    yield to_compare("late themselves the callers were, p99", f"{result['client_late_p99_ms']:g} ms")
    yield at_most(f"CPU per session at {SESSIONS}", 1.6, result["cpu_percent_per_session"], " %")
    yield to_compare("the same of stock aiortc", f"{aiortc['cpu_percent_per_session']:g} %")
    yield at_most("added receive delay, clean, median", 1, result["added_delay_ms"]["median"], " ms")
    yield to_compare("the same of stock aiortc", f"{aiortc['added_delay_ms']['median']:g} ms")
    yield at_most("POST to first media packet, median", 50, result["post_to_media_ms"]["median"], " ms")
    yield at_most("memory per extra session", 0.5, result["rss_mb_per_session"], " MB")


async def jitter(setting: Setting) -> AsyncIterator[Row]:
    conditions = Conditions(jitter_ms=30)
    load = Load(sessions=SESSIONS, seconds=SHORT_SECONDS, conditions=conditions, compares_aiortc=True)
    result = await setting.run(load)
    yield at_most("added receive delay, 30 ms jitter, median", 20, result["added_delay_ms"]["median"], " ms")
    yield to_compare("the same of stock aiortc", f"{result['compare']['added_delay_ms']['median']:g} ms")


async def loss(setting: Setting) -> AsyncIterator[Row]:
    """Stock aiortc has neither NACK for audio nor redundancy."""
    for name, limit, conditions, compares in (
        ("FEC alone", 1.5, RANDOM_LOSS, True),
        ("NACK, 20 ms round trip", 0.5, NEAR_LINE, False),
    ):
        load = Load(sessions=SESSIONS, seconds=SECONDS, conditions=conditions, compares_aiortc=compares)
        result = await setting.run(load)
        unrecovered = round(100 * result["unrecovered_fraction"], 2)
        yield at_most(f"unrecovered sound, 10 % loss, {name}", limit, unrecovered, " %")
        if compares:
            yield to_compare(
                "the same of stock aiortc", f"{100 * result['compare']['unrecovered_fraction']:.1f} %"
            )


async def words(setting: Setting) -> AsyncIterator[Row]:
    files, script = await setting.script()
    for name, limit, conditions in (
        ("10 % random loss", 1, RANDOM_LOSS),
        ("10 % in bursts of 3", 3, BURSTY_LOSS),
    ):
        load = Load(sessions=0, seconds=0, conditions=conditions, compares_aiortc=True, wer_seeds=SEEDS)
        found = await measure_words(load, script, files, tell)
        own, aiortc = found["voxthread"], found["aiortc"]
        yield at_most(f"WER increase, {name}, {_of(own)}", limit, own["increase_points"], " points")
        yield to_compare(f"the same of stock aiortc, {_of(aiortc)}", f"{aiortc['increase_points']:g} points")


def _of(found: Mapping[str, Any]) -> str:
    return f"{found['words']} words x {found['seeds']}, {found['low']:g} to {found['high']:g}"


async def leaks(setting: Setting) -> AsyncIterator[Row]:
    churn = (await setting.run(Load(sessions=2, seconds=2, churned_sessions=CHURNED)))["churn"]
    for name, count in churn["leaked"].items():
        yield at_most(f"{name} left of {CHURNED} sessions", 0, count)
    yield at_most(
        f"memory after {CHURNED} against after 300", 10, round(100 * churn["rss_growth"], 1), " % more"
    )


async def rubbish(setting: Setting) -> AsyncIterator[Row]:
    """The limits are those of calls that nobody molests."""
    load = Load(sessions=SESSIONS, seconds=SHORT_SECONDS, rubbish_per_s=RUBBISH_PER_S)
    result = await setting.run(load)
    beside = f"beside {result['rubbish_per_s']} packets/s of rubbish"
    late, unrecovered = (round(100 * result[name], 2) for name in ("late_fraction", "unrecovered_fraction"))
    yield at_most(f"late, {beside}", 100 * MAX_LATE, late, " %")
    yield at_most(f"added receive delay, median, {beside}", 1, result["added_delay_ms"]["median"], " ms")
    yield at_most(f"unrecovered sound, {beside}", 0.5, unrecovered, " %")
    yield to_compare(f"CPU of {SESSIONS} sessions, {beside}", f"{result['cpu_percent']:g} %")


async def buses(setting: Setting) -> AsyncIterator[Row]:
    """The media process is then by itself; what its log costs elsewhere is told by benchmarks/bus.py."""
    with tempfile.TemporaryDirectory(prefix="voxthread-media-") as scratch, _kafka(setting.kafka) as kafka:
        for url in (f"sqlite:{scratch}/log.db", kafka):
            if url is None:
                continue
            result = await setting.run(Load(sessions=SESSIONS, seconds=SHORT_SECONDS, bus_url=url))
            name = result["bus"]
            yield to_compare(
                f"{name}: CPU per session at {SESSIONS}", f"{result['cpu_percent_per_session']:g} %"
            )
            yield to_compare(f"{name}: late", f"{result['late_fraction']:.2%}")
            yield to_compare(
                f"{name}: added receive delay, median", f"{result['added_delay_ms']['median']:g} ms"
            )


@contextmanager
def _kafka(servers: str | None) -> Iterator[str | None]:
    prefix = f"bench-{uuid4().hex[:8]}."
    own_topics = f"?topic_prefix={prefix}"
    if servers is not None:
        try:
            yield f"kafka://{servers}{own_topics}"
        finally:
            _delete_topics(servers, prefix)
        return
    with tempfile.TemporaryDirectory(prefix="voxthread-kafka-") as scratch:
        try:
            with running(1, Path(scratch)) as cluster:
                yield f"kafka://{cluster.bootstrap}{own_topics}"
        except KafkaUnavailableError as error:
            tell(f"no Kafka: {error}")
            yield None


def _delete_topics(servers: str, prefix: str) -> None:
    admin = AdminClient({"bootstrap.servers": servers})
    made = [name for name in admin.list_topics(timeout=DELETE_S).topics if name.startswith(prefix)]
    for name, deleted in (admin.delete_topics(made, operation_timeout=DELETE_S) if made else {}).items():
        try:
            deleted.result()
        except KafkaException as error:
            tell(f"topic {name} is left: {error}")


FIGURES: Mapping[str, Figure] = {
    "sessions": sessions_per_core,
    "cost": cost,
    "jitter": jitter,
    "loss": loss,
    "words": words,
    "leaks": leaks,
    "rubbish": rubbish,
    "buses": buses,
}


async def tables(names: list[str], times: int, kafka: str | None, out: Path) -> bool:
    """Whether all of them are as demanded. Writes what there is after each."""
    config = read_config()
    setting = Setting(await spoken_tracks("auto", config.models_dir), config.models_dir, kafka)
    made: list[dict[str, Any]] = []
    for number in range(times):
        before = load_average()
        sys.stdout.write(f"table {number + 1} of {times}\n")
        rows, took_s = await table(names, setting)
        passed = all(row.passed is not False for row in rows)
        made.append(
            {
                "passed": passed,
                "rows": [asdict(row) for row in rows],
                "took_s": took_s,
                "load": [before, load_average()],
            }
        )
        report = {"command": "python benchmarks/media.py", "tables": made, "machine": machine()}
        await anyio.Path(out).write_text(json.dumps(report, indent=1) + "\n")
    return all(each["passed"] for each in made)


async def table(names: list[str], setting: Setting) -> tuple[list[Row], dict[str, int]]:
    """Its rows, and how many seconds each figure took."""
    rows: list[Row] = []
    took_s: dict[str, int] = {}
    for name in names:
        began_s = anyio.current_time()
        try:
            async for row in FIGURES[name](setting):
                rows.append(row)
                print_row(row)
        except BenchError as error:
            rows.append(Row(name, "to be measured", error.detail, False))
            print_row(rows[-1])
        took_s[name] = round(anyio.current_time() - began_s)
        tell(f"{name}: took {took_s[name]} s")
    tell(f"all: took {sum(took_s.values())} s")
    return rows, took_s


def print_row(row: Row) -> None:
    verdict = {True: "ok", False: "FAILED", None: ""}[row.passed]
    sys.stdout.write(f"{row.figure:<66} {row.demand:<14} {row.found:<16} {verdict}\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=f"of {', '.join(FIGURES)}")
    parser.add_argument("--times", type=int, default=2, help="how often the table is made")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="a broker that runs already")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if unknown := set(arguments.figures) - FIGURES.keys():
        parser.error(f"no figure {', '.join(unknown)}")
    configure_logging("error")
    names = arguments.figures or [*FIGURES]
    passed = anyio.run(tables, names, arguments.times, arguments.kafka, arguments.out)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
