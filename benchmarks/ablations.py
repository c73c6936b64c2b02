"""What each technique buys: `python benchmarks/ablations.py [latency] [turns] [--turns N]`.

    latency   voice to voice of the `chat` agent as shipped, and with each means of being quick taken away
    turns     cut-ins and latency of spoken turns as shipped, and with each part of the patience taken away

Some are settings; what nobody would want to switch off is taken away here, in the process of the server. Writes
benchmarks/results/ablations.json. About 20 minutes on a machine that has nothing else to do.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from serving import VOXTHREAD, serving

from voxthread.client.bench import load_average, machine

RESULT = Path(__file__).parent / "results" / "ablations.json"
KINDS = ("pauses", "numbers", "hesitations")
PATIENT = ("settled", "statement", "likely", "doubted", "brief", "open", "dictated", "dangling")


@dataclass(frozen=True)
class Ablation:
    """`settings` of the section `turn` of the configuration; `take_away` changes the server's own code."""

    without: str
    settings: dict[str, str] = field(default_factory=dict)
    take_away: Callable[[], None] = lambda: None


def decode_full_windows() -> None:
    from voxthread.engines.stt import whisper_model
    from voxthread.engines.stt.windows import FULL_WINDOW_SAMPLES

    whisper_model.short_window_samples = lambda samples: FULL_WINDOW_SAMPLES


def prepare_nothing() -> None:
    from voxthread.orchestrator.preparing import Preparation

    Preparation.start = lambda self, history, utterance: None


def speak_whole_sentences() -> None:
    from voxthread.core import sentences

    sentences._CLAUSE_END = re.compile(r"(?!)")  # noqa: SLF001
    sentences.ClausePolicy = partial(sentences.ClausePolicy, first_words=0)


def synthesize_whole_clauses() -> None:
    from voxthread.core.audio import PcmFrame
    from voxthread.engines.tts.piper import PiperTextToSpeech

    streamed = PiperTextToSpeech.synthesize

    async def whole(self: PiperTextToSpeech, text: str) -> AsyncIterator[PcmFrame]:
        for frame in [frame async for frame in streamed(self, text)]:
            yield frame

    PiperTextToSpeech.synthesize = whole


LATENCY = (
    Ablation("nothing"),
    Ablation("a transcript from 96 ms of silence (from 192)", {"VAD_PAUSE_MS": "192"}),
    Ablation("a reply begun before the turn is decided", {"SPECULATE": "false"}),
    Ablation("short windows of the encoder", take_away=decode_full_windows),
    Ablation("a prompt prepared while the caller speaks", take_away=prepare_nothing),
    Ablation("a first clause spoken before its sentence ends", take_away=speak_whole_sentences),
    Ablation("a voice that begins inside a clause", take_away=synthesize_whole_clauses),
)

TURNS = (
    Ablation("nothing"),
    Ablation(
        "more patience with what hangs, is dictated or open",
        {f"{kind.upper()}_ENDPOINT_MS": "700" for kind in ("open", "dictated", "dangling")},
    ),
    Ablation("any patience but that of the model", {f"{kind.upper()}_ENDPOINT_MS": "500" for kind in PATIENT}),
)


@contextmanager
def configured(ablation: Ablation) -> Iterator[None]:
    """For the processes started within."""
    settings = {f"VOXTHREAD_TURN__{name}": value for name, value in ablation.settings.items()}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            del os.environ[name]


def measure_latency(turns: int) -> dict[str, Any]:
    measured = {}
    for number, ablation in enumerate(LATENCY):
        command = [sys.executable, __file__, f"serve-{number}"]
        with configured(ablation), serving("--single", "examples/chat.py", command=command) as server:
            result = voxthread("bench", "latency", "--url", server.url, "--turns", str(turns))
        figures = {name: result["v2v_ms"][name] for name in ("median", "p95", "min", "max")}
        print(f"without {ablation.without}: {figures}", flush=True)
        measured[ablation.without] = figures
    return measured


def measure_turns() -> dict[str, Any]:
    measured = {}
    for ablation in TURNS:
        with configured(ablation):
            result = voxthread("bench", "turns", *(option for kind in KINDS for option in ("--kind", kind)))
        figures = {name: result[name] for name in ("cut_in", "cut_in_by_pause_ms", "missed_end", "latency_ms")}
        print(f"without {ablation.without}: {figures['cut_in']}, {figures['latency_ms']}", flush=True)
        measured[ablation.without] = figures
    return measured


def voxthread(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([VOXTHREAD, *arguments, "--json"], stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def serve(number: int, arguments: list[str]) -> None:
    from voxthread.cli import main as command_line

    LATENCY[number].take_away()
    command_line(arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=["latency", "turns"], default=["latency", "turns"])
    parser.add_argument("--turns", type=int, default=12)
    arguments = parser.parse_args()
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    about = {"machine": machine(), "load": load_average()}
    if "latency" in arguments.parts:
        result["latency_ms_without"] = {**measure_latency(arguments.turns), **about}
    if "turns" in arguments.parts:
        result["turns_without"] = {**measure_turns(), **about}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1].startswith("serve-"):
        serve(int(sys.argv[1].removeprefix("serve-")), sys.argv[2:])
    else:
        main()
