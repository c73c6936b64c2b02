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

from voxthread.client.utterance import encode_utterance
from voxthread.core.audio import PACKET_MS, SPEECH_RATE_HZ, PcmFrame
from voxthread.engines.codec.opus import OpusDecoder
from voxthread.engines.codec.resample import StreamResampler
from voxthread.engines.models import ModelFiles
from voxthread.engines.pcm import to_float
from voxthread.engines.stt.whisper_model import WhisperModel
from voxthread.engines.tts.piper import open_piper
from voxthread.media_bench.plan import Tracks
from voxthread.media_bench.recovery import listen_to_all
from voxthread.media_bench.stage import Load, Stack, staged
from voxthread.media_bench.words import lines, plain, word_errors

CALLERS: Final = 20

_PAUSE_MS: Final = 600
_PACKET_BYTES: Final = SPEECH_RATE_HZ * PACKET_MS // 1000 * 2
_BATCH: Final = 10
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
    """How many words were wrong for each stack, and how many more than in what was sent.

    Raises `BenchError`.
    """
    found: dict[Stack, list[list[int]]] = {stack: [] for stack in load.stacks}
    for number in range(load.wer_seeds):
        for stack in load.stacks:
            tell(f"{stack}: {len(script.lines)} sentences on line {number + 1} of {load.wer_seeds} ...")
            came = await _hold(stack, load, load.conditions.seed + number, script.tracks)
            found[stack].append(await _errors(script.lines, came, files))
    words = [len(plain(line.text)) for line in script.lines]
    return {stack: increase(words, script.clean, errors) for stack, errors in found.items()}


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
    return Tracks(callers=tracks, reply=tracks[0]), placed


def _silence() -> bytes:
    return bytes(_PAUSE_MS // PACKET_MS * _PACKET_BYTES)


def _decoded(track: Iterable[bytes]) -> dict[int, bytes]:
    decoder = OpusDecoder()
    return {number: decoder.decode(packet) for number, packet in enumerate(track)}


async def _hold(stack: Stack, load: Load, seed: int, tracks: Tracks) -> list[Mapping[int, bytes]]:
    """What came of each track, by packet."""
    conditions = msgspec.structs.replace(load.conditions, seed=seed)
    calls = Load(sessions=len(tracks.callers), seconds=0, conditions=conditions, bus_url=load.bus_url)
    longest_s = max(map(len, tracks.callers)) * PACKET_MS / 1000
    async with staged(stack, calls, tracks, keeps_audio=True) as stage:
        await stage.open(calls.sessions)
        measured = await stage.measured(longest_s + 1)
        heard = await stage.heard()
    listened = await run_sync(listen_to_all, measured, heard, tracks)
    return [each.pcm for each in listened]


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
    """Loaded once in a process."""
    return WhisperModel(whisper_dir)
