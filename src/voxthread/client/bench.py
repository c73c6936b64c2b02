"""`voxthread bench latency`: spoken questions over WebRTC, and how long the caller waited for each answer.

From the last sample of the question above -50 dBFS, at the instant it was spoken into the microphone, to the
first sample of the answer above -50 dBFS, at the instant its packet arrived: the caller's own jitter buffer
and sound card come on top, network and codec are in it. Nothing but an answer counts: a turn without a first
token of the language model, one whose sound began before that token, and one that began inside the question
fail the run.
"""

import os
import platform
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from voxthread.client.call import Reply
from voxthread.client.dial import open_call
from voxthread.client.failures import BenchError
from voxthread.client.printer import CallPrinter
from voxthread.client.questions import QUESTIONS
from voxthread.client.script import prepare
from voxthread.client.speech import VoiceName

LLM_STAGE = "llm_first_token"
AUDIO_STAGE = "first_audio"


async def run_latency_bench(
    url: str,
    turns: int = len(QUESTIONS),
    *,
    agent: str = "chat",
    token: str | None = None,
    voice: VoiceName = "auto",
    models_dir: Path | None = None,
    printer: CallPrinter | None = None,
) -> dict[str, Any]:
    """One call of `turns` questions (the twelve in turn), as the JSON of `voxthread bench latency`.

    Raises `BenchError` if a figure would be wrong, `CallError`, `SpeechError`.
    """
    questions = await prepare(QUESTIONS[:turns], voice=voice, models_dir=models_dir)
    before, replies = load_average(), list[Reply]()
    async with open_call(url, agent=agent, token=token, on_event=printer.event if printer else None) as call:
        await call.greeting()
        for question in islice(cycle(questions), turns):
            reply = await call.reply(await call.say(question))
            check_reply(reply)
            replies.append(reply)
            if printer:
                printer.measured(reply)
    return {
        "v2v_ms": spread([reply.v2v_ms for reply in replies if reply.v2v_ms is not None]),
        "stages_ms": stage_medians(replies),
        "machine": machine(),
        "load": {"before": before, "after": load_average()},
        "session_id": call.session_id,
        "agent": agent,
    }


def check_reply(reply: Reply) -> None:
    """Raises `BenchError` if the reply may not be counted."""
    turn, stages = reply.turn, reply.turn.stages_ms
    if LLM_STAGE not in stages:
        raise BenchError("bench.no_llm", f"turn {turn.turn_id} was answered without the language model")
    if stages.get(AUDIO_STAGE, stages[LLM_STAGE]) < stages[LLM_STAGE]:
        raise BenchError("bench.filler", f"turn {turn.turn_id} made a sound before its first token")
    if reply.cut_in:
        raise BenchError("bench.cut_in", f"turn {turn.turn_id} was answered before the question ended")
    if reply.v2v_ms is None:
        raise BenchError("bench.silent", f"turn {turn.turn_id} was over but never heard")


def spread(values: Sequence[float]) -> dict[str, Any]:
    """Percentiles interpolate linearly between the two nearest values."""
    return {
        "median": round(float(np.median(values)), 1),
        "p95": round(float(np.percentile(values, 95)), 1),
        "min": round(min(values), 1),
        "max": round(max(values), 1),
        "all": [round(value, 1) for value in values],
    }


def stage_medians(replies: Sequence[Reply]) -> dict[str, float]:
    """The median of each stage over the turns that reached it, in the order they are first reached."""
    reached: dict[str, list[int]] = {}
    for reply in replies:
        for stage, ms in reply.turn.stages_ms.items():
            reached.setdefault(stage, []).append(ms)
    medians = {stage: float(np.median(values)) for stage, values in reached.items()}
    return dict(sorted(medians.items(), key=lambda item: item[1]))


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def load_average() -> float:
    """Runnable processes, averaged over the last minute."""
    return round(os.getloadavg()[0], 2)


def _cpu_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
