"""Fixed texts synthesized once, so that a greeting is quick and an apology needs no living voice."""

from collections.abc import AsyncIterator, Iterable

import anyio

from voxthread.core.audio import PcmFrame
from voxthread.core.sentences import ClauseSplitter
from voxthread.orchestrator.ports import TextToSpeech
from voxthread.orchestrator.streams import closing


class Phrases:
    """Text-to-speech that remembers the clauses it was told to prepare."""

    def __init__(self, tts: TextToSpeech) -> None:
        self._tts = tts
        self._frames: dict[str, tuple[PcmFrame, ...]] = {}

    async def prepare(self, texts: Iterable[str]) -> None:
        """Raises `SynthesisError`."""
        async with anyio.create_task_group() as tasks:
            for clause in {clause for text in texts for clause in _clauses(text)} - self._frames.keys():
                tasks.start_soon(self._prepare, clause)

    async def _prepare(self, clause: str) -> None:
        async with closing(self._tts.synthesize(clause)) as frames:
            self._frames[clause] = tuple([frame async for frame in frames])

    async def synthesize(self, text: str) -> AsyncIterator[PcmFrame]:
        frames = self._frames.get(text)
        if frames is not None:
            for frame in frames:
                yield frame
            return
        async with closing(self._tts.synthesize(text)) as live:
            async for frame in live:
                yield frame


def _clauses(text: str) -> list[str]:
    splitter = ClauseSplitter()
    return splitter.feed(text) + splitter.finish()
