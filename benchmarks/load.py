"""What sessions cost, and what they cost each other: CPU, memory, and answers while ten callers are served.

    .venv/bin/python benchmarks/load.py      writes benchmarks/results/load.json

CPU is that of all processes of the server, in percent of one core, by the clock of each process; the callers
run in this process and do not count. Memory is the proportional set size of all processes; the key-value cache
of the language model is reserved at start for every slot and so does not grow with sessions.
"""

import json
import sys
import time
from pathlib import Path

import anyio
from serving import Served, serving

from voxthread.client.bench import check_reply, load_average, machine, spread
from voxthread.client.call import Call
from voxthread.client.dial import open_call
from voxthread.client.questions import QUESTIONS
from voxthread.client.script import prepare
from voxthread.client.utterance import Utterance
from voxthread.config import read_config

RESULT = Path("benchmarks/results/load.json")
IDLE_S = 20
QUIET_PERCENT = 20
QUIET_S = 5
SETTLE_TIMEOUT_S = 120
SESSIONS = 10
PERIOD_S = 20
ROUNDS = 4
MORE_SESSIONS = 40
AGENT = "chat"


class Cpu:
    """Percent of a core since it was made."""

    def __init__(self, server: Served) -> None:
        self._server = server
        self._cpu_s, self._at_s = server.cpu_s(), time.monotonic()

    def percent(self) -> float:
        used_s = self._server.cpu_s() - self._cpu_s
        return round(100 * used_s / (time.monotonic() - self._at_s), 1)


async def settled(server: Served) -> None:
    """Return when spares have loaded their models and what a greeting leads to has been prepared."""
    with anyio.fail_after(SETTLE_TIMEOUT_S):
        while True:
            cpu = Cpu(server)
            await anyio.sleep(QUIET_S)
            if cpu.percent() < QUIET_PERCENT:
                return


async def idle_percent(server: Served) -> float:
    await settled(server)
    cpu = Cpu(server)
    await anyio.sleep(IDLE_S)
    return cpu.percent()


async def ask(call: Call, question: Utterance) -> float:
    reply = await call.reply(await call.say(question))
    check_reply(reply)
    assert reply.v2v_ms is not None
    return reply.v2v_ms


async def one_session(server: Served, questions: list[Utterance]) -> dict[str, object]:
    empty = await idle_percent(server)
    async with open_call(server.url, agent=AGENT) as call:
        await call.greeting()
        idle = await idle_percent(server)
        cpu = Cpu(server)
        answered_ms = [await ask(call, question) for question in questions]
        talking = cpu.percent()
    return {
        "cpu_percent_no_session": empty,
        "cpu_percent_idle_session": idle,
        "cpu_percent_talking_session": talking,
        "v2v_ms": spread(answered_ms),
    }


async def ten_sessions(server: Served, questions: list[Utterance]) -> dict[str, object]:
    """One question each per `PERIOD_S`, starts evenly spread."""
    answered_ms: list[float] = []

    async def hold(number: int, began_s: float) -> None:
        async with open_call(server.url, agent=AGENT) as call:
            await call.greeting()
            for turn in range(ROUNDS):
                await anyio.sleep_until(began_s + PERIOD_S * (turn + number / SESSIONS))
                answered_ms.append(await ask(call, questions[(number + turn) % len(questions)]))

    cpu = Cpu(server)
    async with anyio.create_task_group() as calls:
        for number in range(SESSIONS):
            calls.start_soon(hold, number, anyio.current_time() + 10)
    return {"cpu_percent": cpu.percent(), "v2v_ms": spread(answered_ms)}


async def memory(server: Served) -> dict[str, float]:
    """Of sessions that have greeted and listen."""
    before_mb = server.memory_mb()
    are_measured = anyio.Event()
    after_mb = 0.0

    async def stay(connected: anyio.Semaphore) -> None:
        async with open_call(server.url, agent=AGENT) as call:
            await call.greeting()
            connected.release()
            await are_measured.wait()

    connected = anyio.Semaphore(0)
    async with anyio.create_task_group() as calls:
        for _ in range(MORE_SESSIONS):
            calls.start_soon(stay, connected)
            await anyio.sleep(0.3)
        for _ in range(MORE_SESSIONS):
            await connected.acquire()
        after_mb = server.memory_mb()
        are_measured.set()
    return {
        "mb_before": round(before_mb, 1),
        "mb_per_session": round((after_mb - before_mb) / MORE_SESSIONS, 2),
    }


async def measure() -> dict[str, object]:
    questions = await prepare(QUESTIONS, voice="auto", models_dir=read_config().models_dir)
    load_before = load_average()
    with serving("examples/chat.py") as server:
        single = await one_session(server, questions)
        ten = await ten_sessions(server, questions)
        extra = await memory(server)
    return {
        "one_session": single,
        "ten_sessions": ten,
        "memory": extra,
        "machine": machine(),
        "load": {"before": load_before, "after": load_average()},
    }


def main() -> int:
    result = anyio.run(measure)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
