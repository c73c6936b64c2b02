"""From options to figures: a server, its questions, and one row, all rows, or a storm."""

import secrets
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from voxthread.bus.open import kafka_settings
from voxthread.chaos.caller import Question
from voxthread.chaos.failures import ChaosError
from voxthread.chaos.outcome import Heard, Run
from voxthread.chaos.plan import How, Phase, Target
from voxthread.chaos.rows import Lab
from voxthread.chaos.server import ChaosServer, open_chaos_server
from voxthread.chaos.storm import Storm
from voxthread.chaos.table import Row, row_json, row_of, rows_of_table, summary
from voxthread.chaos.tally import tally_json
from voxthread.client.bench import load_average, machine
from voxthread.client.script import prepare
from voxthread.config import Config

ASKED: Final = (
    ("hotel", "Is the wireless internet free?"),
    ("hotel", "When is breakfast served?"),
    ("chat", "What is the capital of France?"),
    ("hotel", "How much does parking cost?"),
    ("hotel", "Do you have wheelchair access?"),
    ("chat", "How many days are there in a year?"),
)
"""Agent and question, short ones: a row is twenty calls."""


class Watcher(Protocol):
    """Is told how it goes."""

    def began(self, server_url: str, log_file: Path, seed: int) -> None: ...
    def undisturbed(self, question: Question, heard: Heard) -> None: ...
    def row(self, row: Row) -> None: ...
    def ran(self, run: Run) -> None: ...
    def news(self, text: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosOptions:
    """`agent` None asks both; `phases` empty means those that the table has for the target."""

    config: Config
    seed: int
    calls: int = 20
    agent: str | None = None
    bus_url: str | None = None
    """None is a SQLite file of its own."""
    phases: Sequence[Phase] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    server: ChaosServer
    lab: Lab
    broker_count: int
    questions: Sequence[Question]


async def run_kill(options: ChaosOptions, target: Target, how: How, watcher: Watcher) -> dict[str, Any]:
    """The calls of one kill, as the JSON of `voxthread chaos`. Raises `ChaosError`, `CallError`."""
    async with _sit(options, watcher) as sitting:
        if target is Target.BROKER and not sitting.broker_count:
            raise ChaosError("chaos.no_brokers", "a broker to kill takes --bus kafka://HOST:PORT,...")
        row = row_of(target, how, options.phases, sitting.broker_count)
        return {**_about(options, sitting), **row_json(row, await _run_row(sitting, row, options, watcher))}


async def run_table(options: ChaosOptions, watcher: Watcher) -> dict[str, Any]:
    """Every row there is for this bus; the figures beside `rows` are of all calls."""
    async with _sit(options, watcher) as sitting:
        rows = [
            (row, await _run_row(sitting, row, options, watcher)) for row in rows_of_table(sitting.broker_count)
        ]
        told = [row_json(row, runs) for row, runs in rows]
        every = [run for _, runs in rows for run in runs]
        return {
            **_about(options, sitting),
            **summary(every),
            "calls": len(every),
            "passed": all(row["passed"] for row in told),
            "rows": told,
        }


async def run_random(options: ChaosOptions, callers: int, minutes: float, watcher: Watcher) -> dict[str, Any]:
    """So many callers for so long, and what was left behind. Raises `ChaosError`, `CallError`."""
    async with _sit(options, watcher) as sitting:
        calm = {question.text: await sitting.lab.undisturbed(question) for question in sitting.questions}
        storm = Storm(sitting.server, sitting.questions, calm, watcher.news)
        tally = await storm.rage(callers=callers, minutes=minutes, seed=options.seed)
        tally.left = await sitting.server.stop()
        return {**_about(options, sitting), **tally_json(tally)}


async def _run_row(sitting: Sitting, row: Row, options: ChaosOptions, watcher: Watcher) -> list[Run]:
    watcher.row(row)
    return await sitting.lab.run(row, options.calls, options.seed, watcher.ran)


@asynccontextmanager
async def _sit(options: ChaosOptions, watcher: Watcher) -> AsyncIterator[Sitting]:
    asked = [(agent, text) for agent, text in ASKED if options.agent in (None, agent)]
    utterances = await prepare([text for _, text in asked], models_dir=options.config.models_dir)
    questions = [
        Question(agent=agent, text=text, utterance=utterance)
        for (agent, text), utterance in zip(asked, utterances, strict=True)
    ]
    scratch = Path(tempfile.mkdtemp(prefix="voxthread-chaos-"))
    async with AsyncExitStack() as stack:
        bus_url, brokers = options.bus_url or f"sqlite:{scratch / 'log.db'}", None
        if bus_url == "memory":
            raise ChaosError(
                "chaos.bus", "a log in memory dies with its process: take sqlite:FILE or kafka://..."
            )
        if bus_url.startswith("kafka"):
            from voxthread.chaos.brokers import LocalBrokers, topics_removed, with_own_topics

            bus_url = with_own_topics(bus_url, f"chaos_{secrets.token_hex(4)}")
            settings = kafka_settings(bus_url, options.config.bus)
            brokers = LocalBrokers(settings, scratch / "brokers.log")
            stack.enter_context(topics_removed(settings))
        broker_count = 0 if brokers is None else await brokers.count()
        server = await stack.enter_async_context(open_chaos_server(scratch, bus_url, options.config.bus))
        watcher.began(server.url, server.log_file, options.seed)
        lab = Lab(server, questions, brokers, watcher.undisturbed)
        yield Sitting(server=server, lab=lab, broker_count=broker_count, questions=questions)


def _about(options: ChaosOptions, sitting: Sitting) -> dict[str, Any]:
    bus = "sqlite" if options.bus_url is None else options.bus_url.partition(":")[0]
    log = str(sitting.server.log_file)
    return {"seed": options.seed, "bus": bus, "log": log, "machine": machine(), "load": load_average()}
