"""How many more words are misunderstood for a bad line: what came of over 2,000 words is transcribed, and so is
what was sent."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec
import numpy as np
from anyio import to_process
from anyio.to_thread import run_sync

from voxthread.client.utterance import SILENT_PACKET, encode_utterance
from voxthread.core.audio import PACKET_MS, SPEECH_RATE_HZ, PcmFrame
from voxthread.engines.codec.opus import OpusDecoder
from voxthread.engines.codec.resample import StreamResampler
from voxthread.engines.models import ModelFiles
from voxthread.engines.pcm import to_float
from voxthread.engines.stt.whisper_model import WhisperModel
from voxthread.engines.tts.piper import open_piper
from voxthread.media_bench.plan import Heard, Measured, Tracks
from voxthread.media_bench.recovery import listen_to_all
from voxthread.media_bench.stage import Load, Stack, staged
from voxthread.media_bench.words import lines, plain, word_errors

CALLERS: Final = 10

LINES_AT_ONCE: Final[Mapping[Stack, int]] = {"voxthread": 5, "aiortc": 3}
"""Seeds whose calls are held beside each other: 55 and 75 % of a core (measured)."""

_PAUSE_MS: Final = 600
_PACKET_BYTES: Final = SPEECH_RATE_HZ * PACKET_MS // 1000 * 2
_BATCH: Final = 10
_LAST: Final = 19
_RESAMPLED: Final = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One sentence, and the packets of its caller's track that hold it."""

    text: str
    track: int
    packets: range


@dataclass(frozen=True, slots=True)
class Script:
    """What is said, and how many words of each line are wrong when all of it arrives."""

    tracks: Tracks
    lines: Sequence[Line]
    clean: Sequence[int]


async def prepare_words(files: ModelFiles, tell: Callable[[str], None]) -> Script:
    """Takes a minute or two. Raises `SynthesisError`."""
    tell("speaking over 2,000 words ...")
    tracks, placed = await _speak(files, CALLERS)
    tell("transcribing what will be sent ...")
    sent = [await run_sync(_decoded, track) for track in tracks.callers]
    return Script(tracks, placed, await _errors(placed, sent, files))


async def measure_words(
    load: Load, script: Script, files: ModelFiles, tell: Callable[[str], None]
) -> dict[Stack, Any]:
    """How many words were wrong for each stack, and how many more than in what was sent. What came is
    transcribed while the next calls are held, in what time they leave.

    Raises `BenchError`.
    """
    found: dict[Stack, list[list[int]]] = {stack: [] for stack in load.stacks}

    async def count_errors(stack: Stack, held: _Held) -> None:
        for came in await run_sync(held.listen, script.tracks):
            found[stack].append(await _errors(script.lines, came, files))

    async with anyio.create_task_group() as tasks:
        for stack in load.stacks:
            for seeds in _shared_out(load.wer_seeds, LINES_AT_ONCE[stack]):
                told = f"{seeds.start + 1} to {seeds.stop}" if len(seeds) > 1 else f"{seeds.stop}"
                tell(f"{stack}: {len(script.lines)} sentences on lines {told} of {load.wer_seeds} ...")
                held = await _hold(stack, load, seeds, script.tracks)
                tasks.start_soon(count_errors, stack, held)
    words = [len(plain(line.text)) for line in script.lines]
    return {stack: increase(words, script.clean, errors) for stack, errors in found.items()}


def _shared_out(seeds: int, at_once: int) -> list[range]:
    return [range(first, min(first + at_once, seeds)) for first in range(0, seeds, at_once)]


def increase(words: Sequence[int], clean: Sequence[int], errors: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Of sentences with so many words each, misunderstood on a clean line and once for each seed. The interval
    (95 %) is over the choice of sentences."""
    said, base = np.array(words, float), np.array(clean, float)
    lossy = np.mean(np.array(errors, float), axis=0)
    chosen = np.random.default_rng(1).integers(0, len(said), (_RESAMPLED, len(said)))
    points = 100 * (lossy - base)[chosen].sum(axis=1) / said[chosen].sum(axis=1)
    low, high = np.percentile(points, [2.5, 97.5])
    return {
        "words": int(said.sum()),
        "seeds": len(errors),
        "clean": round(float(base.sum() / said.sum()), 4),
        "lossy": round(float(lossy.sum() / said.sum()), 4),
        "increase_points": round(float(100 * (lossy - base).sum() / said.sum()), 2),
        "low": round(float(low), 2),
        "high": round(float(high), 2),
    }


async def _speak(files: ModelFiles, callers: int) -> tuple[Tracks, list[Line]]:
    """All lines, dealt out to so many callers."""
    texts = lines()
    tracks: list[list[bytes]] = []
    placed: list[Line] = []
    async with open_piper(files) as tts:
        for track in range(callers):
            pcm = bytearray(_silence())
            for text in texts[track::callers]:
                frames = [frame async for frame in tts.synthesize(text)]
                resampler = StreamResampler(frames[0].rate_hz, SPEECH_RATE_HZ)
                begin = len(pcm) // _PACKET_BYTES
                pcm += resampler.convert(b"".join(frame.pcm for frame in frames), last=True)
                pcm += _silence()
                placed.append(Line(text=text, track=track, packets=range(begin, len(pcm) // _PACKET_BYTES)))
            speech = PcmFrame(pcm=bytes(pcm), rate_hz=SPEECH_RATE_HZ)
            tracks.append(list((await run_sync(encode_utterance, speech)).packets))
    return Tracks(callers=tracks, reply=[SILENT_PACKET]), placed  # nobody listens to what comes back


def _silence() -> bytes:
    return bytes(_PAUSE_MS // PACKET_MS * _PACKET_BYTES)


def _decoded(track: Iterable[bytes]) -> dict[int, bytes]:
    decoder = OpusDecoder()
    return {number: decoder.decode(packet) for number, packet in enumerate(track)}


@dataclass(frozen=True, slots=True)
class _Held:
    measured: Measured
    heard: Heard

    def listen(self, tracks: Tracks) -> list[list[Mapping[int, bytes]]]:
        """What came of each track, by packet; one list for each seed."""
        came: list[Mapping[int, bytes]] = [
            each.pcm for each in listen_to_all(self.measured, self.heard, tracks)
        ]
        callers = len(tracks.callers)
        return [came[first : first + callers] for first in range(0, len(came), callers)]


async def _hold(stack: Stack, load: Load, seeds: range, tracks: Tracks) -> _Held:
    """All tracks once for each seed, all at once: each call has a bad line of its own."""
    conditions = msgspec.structs.replace(load.conditions, seed=load.conditions.seed + seeds.start)
    calls = Load(
        sessions=len(seeds) * len(tracks.callers), seconds=0, conditions=conditions, bus_url=load.bus_url
    )
    longest_s = max(map(len, tracks.callers)) * PACKET_MS / 1000
    async with staged(stack, calls, tracks, keeps_audio=True) as stage:
        await stage.open(calls.sessions)
        measured = await stage.measured(longest_s + 1)
        heard = await stage.heard()
    return _Held(measured, heard)


async def _errors(
    lines_said: Sequence[Line], came: Sequence[Mapping[int, bytes]], files: ModelFiles
) -> list[int]:
    """Wrong words of each line."""
    heard = [b"".join(came[line.track].get(number, b"") for number in line.packets) for line in lines_said]
    texts = await _transcribed(heard, files.whisper_dir)
    return [word_errors(plain(line.text), plain(text)) for line, text in zip(lines_said, texts, strict=True)]


async def _transcribed(heard: Sequence[bytes], whisper_dir: Path) -> list[str]:
    """On every core."""
    limiter = anyio.CapacityLimiter(os.cpu_count() or 1)
    texts: dict[int, list[str]] = {}

    async def run_batch(start: int) -> None:
        batch = heard[start : start + _BATCH]
        texts[start] = await to_process.run_sync(
            _transcribe, whisper_dir, batch, cancellable=True, limiter=limiter
        )

    async with anyio.create_task_group() as tasks:
        for start in range(0, len(heard), _BATCH):
            tasks.start_soon(run_batch, start)
    return [text for start in sorted(texts) for text in texts[start]]


def _transcribe(whisper_dir: Path, batch: Sequence[bytes]) -> list[str]:
    whisper = _whisper(whisper_dir)
    return [whisper.transcribe(to_float(pcm)) for pcm in batch]


@cache
def _whisper(whisper_dir: Path) -> WhisperModel:
    """Loaded once in a process, which gives way to all others: calls may be held meanwhile."""
    os.nice(_LAST)
    return WhisperModel(whisper_dir)
