"""The set: what is said, by whom, when, and what else the microphone hears. The same for the same seed."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from importlib.resources import files
from typing import Any

import anyio
import numpy as np

from voxthread.engines.pcm import FloatSamples
from voxthread.turn_bench import sounds
from voxthread.turn_bench.voices import HELD_OUT, TUNED, Speaker, Voice

PER_KIND = 60

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_LETTERS = "ABCDEFGHIJKLMNOPRSTUVWXYZ"
_NOISE_S = 12.0
_BABBLE_VOICES = 6
_TALK_MS = 1_500
"""Babble is made of utterances longer than this."""


class Kind(StrEnum):
    PAUSES = "pauses"
    NUMBERS = "numbers"
    HESITATIONS = "hesitations"
    BACKCHANNELS = "backchannels"
    INTERRUPTIONS = "interruptions"
    NOISE = "noise"
    ECHO = "echo"
    DOUBLE_TALK = "double_talk"


PAUSE_GRADES_MS = ((100, 300), (301, 600), (601, 1_200))
"""Mid-sentence pauses, from and to; as many of each grade as makes one in forty a failure worth 3 %."""

_PER_GRADE = 36


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """The agent's voice in the caller's microphone."""

    level_db: int
    delay_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Something to be said, before anybody says it."""

    name: str
    kind: Kind
    voice: Voice
    is_held_out: bool
    pieces: tuple[str, ...]
    pauses_ms: tuple[int, ...] = ()
    """After each piece but the last."""
    cut_after_word: int | None = None
    """Where in the one piece `cut_ms` of silence are cut in."""
    cut_ms: int = 0
    over_agent_ms: int | None = None
    """How long the agent has been heard when the caller begins; None while the agent is silent."""
    noise: str = ""
    """`white`, `pink` or `babble`, at `snr_db`."""
    snr_db: int = 0
    echo: Echo | None = None

    @property
    def text(self) -> str:
        return " ".join(self.pieces)

    @property
    def is_silent(self) -> bool:
        return not self.pieces

    @property
    def longest_pause_ms(self) -> int:
        return max((*self.pauses_ms, self.cut_ms))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A line as sound. `speech` begins and ends with sound; the background is everywhere, over and over."""

    line: Line
    speech: FloatSamples
    background: FloatSamples


def words() -> Mapping[str, Any]:
    return tomllib.loads(files("voxthread.turn_bench").joinpath("english.toml").read_text("utf-8"))


def plan(seed: int) -> list[Line]:
    """All lines, every third held out."""
    chance = np.random.default_rng(seed)
    said = words()
    lines = [
        *_over_and_over(Kind.PAUSES, said["sentences"], _PER_GRADE * len(PAUSE_GRADES_MS), _cut, chance),
        *_over_and_over(Kind.NUMBERS, said["numbers"], PER_KIND, _dictated, chance),
        *_over_and_over(Kind.HESITATIONS, said["hesitations"], PER_KIND, _hesitating, chance),
        *_over_and_over(Kind.BACKCHANNELS, said["backchannels"], PER_KIND, _over_agent, chance),
        *_over_and_over(Kind.INTERRUPTIONS, said["interruptions"], PER_KIND, _over_agent, chance),
        *_over_and_over(Kind.NOISE, said["sentences"], PER_KIND, _in_noise, chance),
        *_over_and_over(Kind.ECHO, ("",), PER_KIND, _echoing, chance),
        *_over_and_over(Kind.DOUBLE_TALK, said["interruptions"], PER_KIND, _over_echo, chance),
    ]
    return [replace(line, name=f"{line.kind}/{number:03}") for number, line in enumerate(lines)]


def _over_and_over(
    kind: Kind, texts: Sequence[Any], count: int, shape: Any, chance: np.random.Generator
) -> Iterator[Line]:
    """Texts and voices in turn; a text belongs to the tuned voices or to the others, never to both."""
    pools = {
        True: ([text for n, text in enumerate(texts) if n % 3 == 2] or texts, HELD_OUT),
        False: ([text for n, text in enumerate(texts) if n % 3 != 2], TUNED),
    }
    for number in range(count):
        is_held_out = number % 3 == 2
        own, voices = pools[is_held_out]
        turn = number // 3 if is_held_out else number - number // 3
        text = own[turn % len(own)]
        line = Line(
            name="",
            kind=kind,
            voice=voices[(turn + turn // len(own)) % len(voices)],
            is_held_out=is_held_out,
            pieces=(text,) if isinstance(text, str) else tuple(text),
        )
        yield shape(line, number, chance)


def _cut(line: Line, number: int, chance: np.random.Generator) -> Line:
    from_ms, to_ms = PAUSE_GRADES_MS[number // 3 % len(PAUSE_GRADES_MS)]
    words_said = len(line.text.split())
    return replace(
        line,
        cut_after_word=int(chance.integers(2, words_said - 1)),
        cut_ms=int(chance.integers(from_ms, to_ms + 1)),
    )


def _dictated(line: Line, number: int, chance: np.random.Generator) -> Line:
    pieces = tuple(_spelled_out(piece, chance) for piece in line.pieces)
    return replace(line, pieces=pieces, pauses_ms=_pauses(len(pieces) - 1, 200, 900, chance))


def _spelled_out(piece: str, chance: np.random.Generator) -> str:
    said = [
        str(chance.choice(_DIGITS)) if c == "#" else str(chance.choice(list(_LETTERS))) if c == "@" else c
        for c in piece
    ]
    return "".join(said)


def _hesitating(line: Line, number: int, chance: np.random.Generator) -> Line:
    return replace(line, pauses_ms=_pauses(len(line.pieces) - 1, 300, 1_100, chance))


def _over_agent(line: Line, number: int, chance: np.random.Generator) -> Line:
    return replace(line, over_agent_ms=int(chance.integers(1_200, 4_000)))


def _in_noise(line: Line, number: int, chance: np.random.Generator) -> Line:
    noise = ("pink", "white", "babble")[number // 3 % 3]
    return replace(line, noise=noise, snr_db=(10, 20)[number // 9 % 2])


def _echoing(line: Line, number: int, chance: np.random.Generator) -> Line:
    echo = Echo(level_db=(-10, -20)[number // 3 % 2], delay_ms=int(chance.integers(40, 400)))
    return replace(line, pieces=(), over_agent_ms=0, echo=echo)


def _over_echo(line: Line, number: int, chance: np.random.Generator) -> Line:
    echo = Echo(level_db=-10, delay_ms=int(chance.integers(40, 400)))
    return replace(_over_agent(line, number, chance), echo=echo)


def _pauses(count: int, from_ms: int, to_ms: int, chance: np.random.Generator) -> tuple[int, ...]:
    return tuple(int(chance.integers(from_ms, to_ms + 1)) for _ in range(count))


async def perform(lines: Sequence[Line], speakers: Mapping[Voice, Speaker], seed: int) -> list[Scene]:
    """Have everything said. Raises `SpeechError`, `SynthesisError`."""
    speech: dict[str, FloatSamples] = {}

    async def speak(voice: Voice, speaker: Speaker) -> None:
        for line in lines:
            if line.voice == voice:
                speech[line.name] = await _said(line, speaker)

    async with anyio.create_task_group() as tasks:
        for voice, speaker in speakers.items():
            tasks.start_soon(speak, voice, speaker)
    chance = np.random.default_rng(seed)
    quiet = sounds.floor(_NOISE_S, chance)
    talk = [speech[line.name] for line in lines if len(speech[line.name]) > sounds.samples_of(_TALK_MS)]
    return [
        Scene(line=line, speech=speech[line.name], background=quiet + _noise(line, talk, chance))
        if line.noise
        else Scene(line=line, speech=speech[line.name], background=quiet)
        for line in lines
    ]


async def _said(line: Line, speaker: Speaker) -> FloatSamples:
    pieces = [await speaker.say(piece) for piece in line.pieces]
    if not pieces:
        return sounds.silence(0)
    if line.cut_after_word is None:
        return sounds.joined(pieces, list(line.pauses_ms))
    said = line.text.split()
    before = await speaker.say(" ".join(said[: line.cut_after_word]))
    after = await speaker.say(" ".join(said[line.cut_after_word :]))
    place = len(pieces[0]) * len(before) // (len(before) + len(after))
    return sounds.paused(pieces[0], sounds.quietest_near(pieces[0], place), line.cut_ms)


def _noise(line: Line, talk: list[FloatSamples], chance: np.random.Generator) -> FloatSamples:
    match line.noise:
        case "white":
            noise = sounds.white(_NOISE_S, chance)
        case "pink":
            noise = sounds.pink(_NOISE_S, chance)
        case _:
            others = [talk[int(place)] for place in chance.integers(0, len(talk), _BABBLE_VOICES)]
            noise = sounds.babble(_NOISE_S, others, chance)
    return sounds.under_speech(noise, line.snr_db)
