"""Word error rate of what a server understands: `python benchmarks/stt_wer.py [--out FILE]`.

Three voices, the agent's own and two of espeak-ng, speak the same lines, each in a call of its own: Opus,
RTP, WebRTC on loopback, jitter, decoding, voice detection, end of turn and Whisper with its short window, as
`voxthread serve` wires them. Only the agent is a stand-in, whose short tone ends each turn. `wer_reference` is
the same model with its full window on the same speech before it was coded. Case and punctuation do not count.
Prints one JSON object and exits 1 if more than a tenth of all words is wrong.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import jiwer
import numpy as np
import soxr
from anyio import to_thread

from voxthread.agent import Message
from voxthread.app.engine_room import open_engines
from voxthread.app.http import bind, open_http, url_of
from voxthread.app.server import open_server
from voxthread.client.bench import load_average, machine
from voxthread.client.call import Patience
from voxthread.client.dial import open_call
from voxthread.client.questions import QUESTIONS
from voxthread.client.script import reply_json
from voxthread.client.speech import load_wav
from voxthread.config import Config, read_config
from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.engines.models import ModelFiles, verify
from voxthread.engines.stt.whisper_model import WhisperModel
from voxthread.engines.stt.windows import LONGEST_PIECE_SAMPLES
from voxthread.observability.logs import configure_logging
from voxthread.orchestrator.ports import Engines, TextToSpeech
from voxthread.testing.speaking import ToneTextToSpeech

LINES = (
    *QUESTIONS,
    "When do I have to check out, and can I leave my luggage afterwards?",
    "We would like a table for four near the window, please.",
    "My train is late, so I will not be there before midnight.",
    "Is it possible to change the booking to the following week?",
    "Please send the bill to my company and not to my home address.",
    "The heating in our room does not work and the window is stuck.",
    "How do I get to the old town by bus, and where do I buy a ticket?",
    "I would rather have a quiet room on one of the upper floors.",
    "Could somebody bring us two more towels and a bottle of water?",
    "Thank you, that was everything I wanted to know.",
)
ESPEAK_VOICES = ("en-us", "en-gb")
MAX_WER = 0.1

Speech = Sequence[PcmFrame]


@dataclass(slots=True)
class Words:
    """What one voice said, and what was understood of it."""

    speech: Speech
    heard: list[str] = field(default_factory=list)
    reference: list[str] = field(default_factory=list)


class Brief:
    """An agent that leaves the floor at once."""

    greeting = ""

    async def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        yield "Yes."


async def speak_by(tts: TextToSpeech) -> Speech:
    spoken: list[PcmFrame] = []
    for line in LINES:
        frames = [frame async for frame in tts.synthesize(line)]
        spoken.append(PcmFrame(pcm=b"".join(each.pcm for each in frames), rate_hz=frames[0].rate_hz))
    return spoken


def speak_by_espeak(voice: str) -> Speech:
    with tempfile.TemporaryDirectory() as scratch:
        wav = Path(scratch) / "line.wav"
        spoken: list[PcmFrame] = []
        for line in LINES:
            subprocess.run(["espeak-ng", "-v", voice, "-s", "150", "-w", wav, line], check=True)
            spoken.append(load_wav(wav))
        return spoken


async def hear_by_call(config: Config, engines: Engines, voices: Sequence[Words]) -> None:
    bound = bind(config.http)
    url = url_of(config.http, bound)

    async def ask(voice: Words) -> None:
        async with open_call(url, patience=Patience(greeting_ms=100)) as call:
            for frame in voice.speech:
                reply = await call.reply(await call.say(frame))
                voice.heard.append(reply_json(reply)["user_text"])

    async with open_server(config, engines) as server, open_http(server.http, config.http, bound):
        async with anyio.create_task_group() as calls:
            for voice in voices:
                calls.start_soon(ask, voice)
        await server.drain()


def hear_by_full_window(models: ModelFiles, voices: Sequence[Words]) -> None:
    """Padded to the longest piece, speech gets the full window."""
    whisper = WhisperModel(models.whisper_dir)
    for voice in voices:
        for frame in voice.speech:
            samples = np.frombuffer(frame.pcm, "<i2").astype(np.float32) / 32_768
            samples = soxr.resample(samples, frame.rate_hz, SPEECH_RATE_HZ)
            voice.reference.append(
                whisper.transcribe(np.pad(samples, (0, LONGEST_PIECE_SAMPLES - len(samples))))
            )


def plain(texts: Sequence[str]) -> list[str]:
    return [" ".join(re.sub(r"[^a-z0-9' ]", " ", text.lower()).split()) for text in texts]


def measure(said: Sequence[str], heard: Sequence[str]) -> dict[str, Any]:
    words = jiwer.process_words(plain(said), plain(heard))
    return {
        "wer": round(words.wer, 4),
        "words": words.hits + words.substitutions + words.deletions,
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
    }


def report(voices: dict[str, Words]) -> dict[str, Any]:
    said, everybody = [*LINES] * len(voices), voices.values()
    wrong = [
        {"voice": name, "said": line, "heard": heard}
        for name, voice in voices.items()
        for line, heard in zip(LINES, voice.heard, strict=True)
        if plain([line]) != plain([heard])
    ]
    return {
        "command": "python benchmarks/stt_wer.py",
        **measure(said, [text for voice in everybody for text in voice.heard]),
        "wer_reference": measure(said, [text for voice in everybody for text in voice.reference])["wer"],
        "voices": {
            name: {
                **measure(LINES, voice.heard),
                "wer_reference": measure(LINES, voice.reference)["wer"],
            }
            for name, voice in voices.items()
        },
        "target": MAX_WER,
        "misheard": wrong,
        "machine": machine(),
    }


async def run() -> dict[str, Any]:
    configure_logging("warning")
    config = read_config(http={"port": 0})
    models = await to_thread.run_sync(verify, config.models_dir)
    async with open_engines(config, None) as engines:
        voices = {"joe": Words(await speak_by(engines.tts))}
        for name in ESPEAK_VOICES:
            voices[f"espeak-ng {name}"] = Words(await to_thread.run_sync(speak_by_espeak, name))
        brief = replace(engines, tts=ToneTextToSpeech(), agents={"brief": Brief()})
        await hear_by_call(config, brief, [*voices.values()])
    await to_thread.run_sync(hear_by_full_window, models, [*voices.values()])
    return report(voices)


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--out", type=Path)
    out: Path | None = options.parse_args().out
    result = {**anyio.run(run, backend_options={"use_uvloop": True}), "load": load_average()}
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    sys.stdout.write(text)
    if out is not None:
        out.write_text(text)
    return 0 if result["wer"] <= MAX_WER else 1


if __name__ == "__main__":
    raise SystemExit(main())
