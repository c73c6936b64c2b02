"""The agent of the benchmark: what it says is fixed, and so is how long it takes.

The times were medians of the `chat` agent with the bundled models when the set was made, and stay: a benchmark
of turn-taking should not move because a language model had more to say.
`benchmarks/latency.json` has newer ones.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

import anyio

from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.core.history import Message
from voxthread.core.sentences import ClauseSplitter
from voxthread.engines.pcm import FloatSamples
from voxthread.turn_bench.sounds import samples_of, to_pcm
from voxthread.turn_bench.voices import Speaker

FIRST_TOKEN_MS = 111
"""From the final transcript to the first token of the language model."""

FIRST_CLAUSE_MS = 103
"""From there to the first clause."""

FIRST_AUDIO_MS = 58
"""From a clause to its first audio."""

_FRAME_MS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedAgent:
    """Says `line`, whatever it is asked."""

    line: str
    greeting: str = ""

    async def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        await anyio.sleep(FIRST_TOKEN_MS / 1000)
        yield self.line[:1]
        await anyio.sleep(FIRST_CLAUSE_MS / 1000)
        yield self.line[1:]


class RecordedVoice:
    """A `TextToSpeech` for texts whose clauses were spoken before; silent about all others."""

    def __init__(self, clauses: Mapping[str, FloatSamples]) -> None:
        self._clauses = clauses

    async def synthesize(self, text: str) -> AsyncIterator[PcmFrame]:
        await anyio.sleep(FIRST_AUDIO_MS / 1000)
        samples = self._clauses.get(text)
        if samples is None:
            return
        step = samples_of(_FRAME_MS)
        for start in range(0, len(samples), step):
            yield PcmFrame(pcm=to_pcm(samples[start : start + step]), rate_hz=SPEECH_RATE_HZ)


async def speak_clauses(texts: Sequence[str], speaker: Speaker) -> dict[str, FloatSamples]:
    """What `RecordedVoice` needs in order to say the texts."""
    spoken: dict[str, FloatSamples] = {}
    for text in texts:
        splitter = ClauseSplitter()
        for clause in splitter.feed(text) + splitter.finish():
            spoken[clause] = await speaker.say(clause)
    return spoken
