"""One request to the bundled model, and its text on the way from the model's thread to the listener."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import anyio

from voxthread.core.failures import VoiceError
from voxthread.engines.llm.chatml import Prompt
from voxthread.engines.llm.repetition import RepetitionGuard


@dataclass(eq=False, slots=True, kw_only=True)
class Generation:
    """Runs in a thread; everything here is called on the event loop."""

    prompt: Prompt
    max_tokens: int
    """0 only processes the prompt."""
    stopped: bool = False
    is_unplaced: bool = False
    """llama.cpp is about to choose its slot."""
    processed: float = 0.0
    """Share of the prompt, 0 to 1."""
    generated: str = ""
    ended: anyio.Event = field(default_factory=anyio.Event)
    failure: VoiceError | None = None
    progress: anyio.Event = field(default_factory=anyio.Event)
    _guard: RepetitionGuard = field(default_factory=RepetitionGuard)
    _speakable: str = ""

    @property
    def replaceable(self) -> bool:
        """Nobody waits for its text: a reply may have its slot."""
        return self.stopped or not self.max_tokens

    @property
    def held(self) -> str:
        """The text that the model has processed, made by it or not."""
        return self.prompt.text[: int(len(self.prompt.text) * self.processed)] + self.generated

    def advance(self, delta: str, processed: float) -> bool:
        """Take what the model made; returns whether it shall stop."""
        self.processed = processed
        if not self.max_tokens:
            return self.stopped  # one token is sampled all the same
        self.generated += delta
        self._say(self._guard.feed(delta))
        return self.stopped or self._guard.looping

    def end(self, failure: VoiceError | None = None) -> None:
        self.failure = failure
        self._say(self._guard.finish())
        self.ended.set()
        self.progress.set()

    def _say(self, text: str) -> None:
        self._speakable += text
        if text:
            self.progress.set()

    async def text(self) -> AsyncIterator[str]:
        """What may be spoken, as it comes, until the end or the `failure`; at most `max_tokens` tokens wait."""
        while True:
            await self.progress.wait()
            self.progress = anyio.Event()
            text, self._speakable = self._speakable, ""
            if text:
                yield text
            if self.ended.is_set() and not self._speakable:
                return
