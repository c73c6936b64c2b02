"""What each technique buys: `python benchmarks/ablations.py [latency] [turns] [--turns N]`.

    latency   voice to voice of the `chat` agent as shipped, and with each means of being quick taken away
    turns     whose turn it is, of spoken utterances, as shipped and with each means of knowing it taken away

Some are settings; what nobody would want to switch off is taken away here, in the processes of a server or of
`voxthread bench turns`: this file is then run, or imported, in place of `voxthread`. Writes
benchmarks/results/ablations.json.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from serving import VOXTHREAD, serving

from voxthread.client.bench import load_average, machine

RESULT = Path(__file__).parent / "results" / "ablations.json"
ABLATED = "ABLATED"
SPOKEN = ("pauses", "numbers", "hesitations")
PATIENT = ("settled", "statement", "likely", "doubted", "brief", "open", "dictated", "dangling")


@dataclass(frozen=True)
class Ablation:
    """`settings` of the section `turn` of the configuration; `take_away` changes the code itself. `kinds` are
    the utterances in which it shows, all where there are none."""

    without: str
    settings: dict[str, str] = field(default_factory=dict)
    take_away: Callable[[], None] = lambda: None
    kinds: tuple[str, ...] = ()


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


def hear_own_echo() -> None:
    from voxthread.orchestrator.replying import Replying

    Replying.is_echoed_in = lambda self, heard, heard_ms: False


def endpoints(patience_ms: str, kinds: tuple[str, ...]) -> dict[str, str]:
    return {f"{kind.upper()}_ENDPOINT_MS": patience_ms for kind in kinds}


ABLATIONS = {
    "latency": (
        Ablation("nothing"),
        Ablation("a transcript from 96 ms of silence (from 192)", {"VAD_PAUSE_MS": "192"}),
        Ablation("a reply begun before the turn is decided", {"SPECULATE": "false"}),
        Ablation("short windows of the encoder", take_away=decode_full_windows),
        Ablation("a prompt prepared while the caller speaks", take_away=prepare_nothing),
        Ablation("a first clause spoken before its sentence ends", take_away=speak_whole_sentences),
        Ablation("a voice that begins inside a clause", take_away=synthesize_whole_clauses),
    ),
    "turns": (
        Ablation("nothing"),
        Ablation(
            "more patience with what hangs, is dictated or open",
            endpoints("700", ("open", "dictated", "dangling")),
            kinds=SPOKEN,
        ),
        Ablation("any patience but that of the model", endpoints("500", PATIENT), kinds=SPOKEN),
        Ablation(
            "words that tell what is said over the agent",
            {"OVERLAP_MS": "100"},
            kinds=("backchannels", "interruptions"),
        ),
        Ablation("an ear for its own echo", take_away=hear_own_echo, kinds=("echo", "double_talk")),
    ),
}


@contextmanager
def ablated(part: str, number: int) -> Iterator[None]:
    """For the processes started within."""
    settings = ABLATIONS[part][number].settings
    changed = {ABLATED: f"{part} {number}", **{f"VOXTHREAD_TURN__{key}": to for key, to in settings.items()}}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name in changed:
            del os.environ[name]


def latency(turns: int) -> dict[str, Any]:
    with serving("--single", "examples/chat.py", command=[sys.executable, __file__]) as server:
        result = voxthread("bench", "latency", "--url", server.url, "--turns", str(turns))
    return {name: result["v2v_ms"][name] for name in ("median", "p95", "min", "max")}


def turn_taking(kinds: Sequence[str]) -> dict[str, Any]:
    options = [option for kind in kinds for option in ("--kind", kind)]
    result = voxthread("bench", "turns", *options, command=[sys.executable, __file__])
    counts = {name: {"k": each["k"], "n": each["n"]} for name, each in result.items() if is_count(each)}
    return {**counts, "latency_ms": result["latency_ms"]}


def is_count(figure: object) -> bool:
    return isinstance(figure, dict) and figure.get("n", 0) > 0 and "k" in figure


def voxthread(*arguments: str, command: Sequence[str] = (VOXTHREAD,)) -> dict[str, Any]:
    done = subprocess.run([*command, *arguments, "--json"], stdout=subprocess.PIPE, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*ABLATIONS], default=[*ABLATIONS])
    parser.add_argument("--turns", type=int, default=12, help="of each call")
    arguments = parser.parse_args()
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for part in arguments.parts:
        result[part] = {"machine": machine(), "load": load_average(), "without": {}}
        for number, ablation in enumerate(ABLATIONS[part]):
            with ablated(part, number):
                figures = latency(arguments.turns) if part == "latency" else turn_taking(ablation.kinds)
            print(f"without {ablation.without}: {figures}", flush=True)
            result[part]["without"][ablation.without] = figures
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if chosen := os.environ.get(ABLATED):
    part, _, number = chosen.partition(" ")
    ABLATIONS[part][int(number)].take_away()

if __name__ == "__main__":
    if chosen:
        from voxthread.cli import main as command_line

        command_line(sys.argv[1:])
    else:
        main()
