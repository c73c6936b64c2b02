"""How soon the agent is silent for a caller who speaks over it: `.venv/bin/python benchmarks/hold.py`.

At the caller's ear, over WebRTC, with the models of the server: from the first sound of a question that is
asked over the answer to the one before, to the last sound of that answer. Writes benchmarks/results/hold.json.
"""

import json
import sys
from functools import partial
from pathlib import Path

import anyio
import numpy as np
from serving import serving

from voxthread.client.bench import load_average, machine
from voxthread.client.call import Call
from voxthread.client.dial import open_call
from voxthread.client.questions import QUESTIONS
from voxthread.client.script import prepare
from voxthread.client.story import Story
from voxthread.client.utterance import Utterance
from voxthread.config import read_config

RESULT = Path("benchmarks/results/hold.json")
AGENT = "chat"
HOLDS = 24
HEARD_MS = 800
"""How much of an answer is heard before it is spoken over."""
SHORT_S = 2
"""An answer of which no more is heard for so long is over."""


async def hear_a_while(call: Call, before: int) -> int:
    """The first turn after `before`, when so much of it was heard."""
    await call.until(lambda story: any(turn.has_spoken for turn in story.turns_after(before)))
    (turn, *_) = [turn for turn in call.story.turns_after(before) if turn.has_spoken]
    begun_us = await call.ears.sound_after(turn.began_us)
    with anyio.move_on_after(SHORT_S):
        await call.ears.sound_after(begun_us + HEARD_MS * 1_000)
    return turn.turn_id


def goes_beyond(turn_id: int, story: Story) -> bool:
    return story.last_turn_id > turn_id


async def hold(call: Call, questions: list[Utterance]) -> list[float]:
    """Milliseconds of each; an answer that was over by itself is not counted."""
    await call.greeting()
    silenced_ms: list[float] = []
    spoken = await call.say(questions[0])
    for number in range(1, HOLDS + 1):
        answered = await hear_a_while(call, call.story.last_turn_before(spoken.sent_us[0]))
        spoken = await call.say(questions[number % len(questions)])
        await call.until(partial(goes_beyond, answered))
        found_ms = call.silenced_ms(spoken)
        if call.story.turns[answered].is_interrupted and found_ms is not None:
            silenced_ms.append(round(found_ms, 1))
    return silenced_ms


async def measure() -> dict[str, object]:
    questions = await prepare(QUESTIONS, voice="auto", models_dir=read_config().models_dir)
    before = load_average()
    with serving("examples/chat.py") as server:
        async with open_call(server.url, agent=AGENT) as call:
            silenced_ms = await hold(call, questions)
    median, p95 = np.percentile(silenced_ms, [50, 95])
    return {
        "silenced_ms": {"median": round(median, 1), "p95": round(p95, 1), "all": silenced_ms},
        "asked": HOLDS,
        "machine": machine(),
        "load": {"before": before, "after": load_average()},
    }


def main() -> int:
    result = anyio.run(measure)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result["silenced_ms"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
