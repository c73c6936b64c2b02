"""`voxthread bench turns`: make the set, run it through an orchestrator on every core, print the figures.

The language model and the synthesis take the fixed times of `agent.py`; speech-to-text and the end-of-turn
model run and are charged what they cost; voice detection and codecs run and are charged nothing.
"""

import os
from collections.abc import Callable, Sequence
from functools import cache
from time import monotonic
from typing import Any

import anyio
from anyio import to_process, to_thread

from voxthread.client.bench import load_average, machine
from voxthread.config import Config
from voxthread.engines.models import ModelFiles, verify
from voxthread.observability.logs import configure_logging
from voxthread.turn_bench.agent import speak_clauses
from voxthread.turn_bench.figures import figures
from voxthread.turn_bench.performance import Models, Outcome, Setting, run_scenes
from voxthread.turn_bench.scenes import Kind, Scene, perform, plan, words
from voxthread.turn_bench.voices import AGENT, HELD_OUT, TUNED, open_speakers

DEFAULT_SEED = 7

_BATCH_SCENES = 12


async def run_turn_bench(
    config: Config,
    *,
    seed: int = DEFAULT_SEED,
    kinds: Sequence[Kind] = tuple(Kind),
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The JSON of `voxthread bench turns`. Raises `ModelFileError`, `SpeechError`, `SynthesisError`."""
    before, began_s = load_average(), monotonic()
    files = await to_thread.run_sync(verify, config.models_dir)
    async with open_speakers([*TUNED, *HELD_OUT], files) as speakers:
        tell("speaking the set ...")
        scenes = await perform([line for line in plan(seed) if line.kind in kinds], speakers, seed)
        said = words()
        clauses = await speak_clauses([said["greeting"], said["reply"]], speakers[AGENT])
    tell(f"{len(scenes)} utterances spoken after {monotonic() - began_s:.0f} s")
    setting = Setting(turn=config.turn, stt=config.stt, clauses=clauses)
    outcomes = await _run(setting, files, scenes, tell)
    return {
        **figures(outcomes),
        "seed": seed,
        "utterances": len(scenes),
        "seconds": round(monotonic() - began_s, 1),
        "voices": {"tuned": [each.name for each in TUNED], "held_out": [each.name for each in HELD_OUT]},
        "turn": config.turn.model_dump(),
        "machine": machine(),
        "load": {"before": before, "after": load_average()},
    }


async def _run(
    setting: Setting, files: ModelFiles, scenes: Sequence[Scene], tell: Callable[[str], None]
) -> list[Outcome]:
    """Each batch in a process, as many at a time as there are cores."""
    limiter = anyio.CapacityLimiter(os.cpu_count() or 1)
    outcomes: dict[str, Outcome] = {}

    async def run_batch(batch: Sequence[Scene]) -> None:
        for outcome in await to_process.run_sync(
            _run_batch, setting, files, batch, cancellable=True, limiter=limiter
        ):
            outcomes[outcome.name] = outcome
        tell(f"{len(outcomes)} of {len(scenes)} held")

    async with anyio.create_task_group() as tasks:
        for start in range(0, len(scenes), _BATCH_SCENES):
            tasks.start_soon(run_batch, scenes[start : start + _BATCH_SCENES])
    return [outcomes[scene.line.name] for scene in scenes]


def _run_batch(setting: Setting, files: ModelFiles, batch: Sequence[Scene]) -> list[Outcome]:
    configure_logging("warning")
    return run_scenes(setting, _models(setting.stt.threads, files), batch)


@cache
def _models(stt_threads: int, files: ModelFiles) -> Models:
    """Loaded once in a process."""
    return Models.load(stt_threads, files)
