"""The bundled language model: llama.cpp in this process, by xllamacpp.

One thread unless cores are free: with two on a busy machine it collapses (33 tokens in 4 s). Measured on one
core: 160 prompt tokens and 46 to 60 generated tokens a second; the first token of a prompt already in its slot
after 20 ms.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import anyio
import anyio.from_thread
import anyio.to_thread
from anyio.abc import TaskGroup

from voxthread.core.failures import LanguageModelError, ModelFileError, VoiceError
from voxthread.core.history import Message
from voxthread.engines.llm.chatml import Prompt, fit, render, render_unfinished
from voxthread.engines.llm.generation import Generation
from voxthread.engines.llm.llama_server import TOO_LONG, LlamaServer, LlamaSettings
from voxthread.engines.llm.slots import Slot, Slots
from voxthread.observability.logs import get_logger

__all__ = ["LlamaLanguageModel", "LlamaSettings", "open_llama"]

_log = get_logger(__name__)

_BYTES_PER_TOKEN = (3, 1)
"""How much history to keep: English has about four bytes a token; what is still refused may have one."""


class LlamaLanguageModel:
    """The `LanguageModel` port; opened by `open_llama`."""

    def __init__(self, settings: LlamaSettings, tasks: TaskGroup) -> None:
        self._settings = settings
        self._tasks = tasks
        self._server: LlamaServer | None = None
        self._load_failure: ModelFileError | None = None
        self._settled = anyio.Event()
        self._slots = Slots(settings.slots)
        self._capacity = anyio.Semaphore(settings.slots)
        self._placing = anyio.Semaphore(1)  # two threads at once may ask for slots in either order
        self._threads = anyio.CapacityLimiter(settings.slots)
        self._running: dict[int, Generation] = {}
        self._closed = False

    async def ready(self) -> None:
        """Wait until the model is loaded (0.5 s). Raises `ModelFileError`."""
        await self._settled.wait()
        if self._load_failure is not None:
            raise self._load_failure

    async def reply(self, messages: Sequence[Message]) -> AsyncIterator[str]:
        await self.ready()
        for bytes_per_token in _BYTES_PER_TOKEN:
            prompt = render(self._fit(messages, bytes_per_token))
            generation = Generation(prompt=prompt, max_tokens=self._settings.max_tokens)
            if not self._capacity.value:
                self._stop_prefills()
            self._tasks.start_soon(self._run, generation)
            try:
                async for text in generation.text():
                    yield text
            finally:
                generation.stopped = True
            failure = generation.failure
            if failure is None:
                return
            if failure.code != TOO_LONG or bytes_per_token == _BYTES_PER_TOKEN[-1]:
                raise failure

    async def prefill(self, messages: Sequence[Message]) -> None:
        """Process what a reply will begin with; nothing while all slots are busy with something better."""
        await self.ready()
        prompt = render_unfinished(self._fit(messages, _BYTES_PER_TOKEN[0]))
        await self._prefill(prompt)
        while (slot := self._slots.untouched()) is not None and self._capacity.value:
            await self._prefill(prompt, slot)  # the next caller's conversation begins like this one's

    async def _prefill(self, prompt: Prompt, slot: Slot | None = None) -> None:
        if not self._capacity.value:
            return
        generation = Generation(prompt=prompt, max_tokens=0)
        self._tasks.start_soon(self._run, generation, slot)
        try:
            await generation.ended.wait()
        finally:
            generation.stopped = True
        if generation.failure is not None:
            raise generation.failure

    def _fit(self, messages: Sequence[Message], bytes_per_token: int) -> Sequence[Message]:
        return fit(messages, (self._settings.context_tokens - self._settings.max_tokens) * bytes_per_token)

    def _stop_prefills(self) -> None:
        for generation in self._running.values():
            if not generation.max_tokens:
                generation.stopped = True

    async def _run(self, generation: Generation, wanted: Slot | None = None) -> None:
        failure: VoiceError | None = LanguageModelError("llm.closed", "the model was closed during a reply")
        try:
            async with self._capacity:
                home = await self._home(generation) if wanted is None else wanted
                if home is None:
                    await self._placing.acquire()
                    generation.is_unplaced = True
                if not (generation.stopped or (home is not None and home.busy)):
                    with self._claimed(home or self._slots.unused_for_longest(), generation):
                        await anyio.to_thread.run_sync(self._complete, generation, home, limiter=self._threads)
            if not self._closed:
                failure = None
        except VoiceError as error:
            failure = error
        finally:
            self._placed(generation)
            generation.end(failure)

    def _placed(self, generation: Generation) -> None:
        """llama.cpp has a slot for it, so that the next one without a home may ask for one."""
        if generation.is_unplaced:
            generation.is_unplaced = False
            self._placing.release()

    async def _home(self, generation: Generation) -> Slot | None:
        """The slot the conversation was in, once it is free; None if it has none it could soon have."""
        while (home := self._slots.home(generation.prompt)) is not None and home.busy:
            before = self._running[home.number]
            if not before.replaceable:
                return None
            before.stopped = True
            await before.ended.wait()
        if home is None and generation.prompt.is_under_way:
            return self._slots.begun_like(generation.prompt)
        return home

    @contextmanager
    def _claimed(self, slot: Slot, generation: Generation) -> Iterator[None]:
        self._slots.take(slot, generation.prompt)
        self._running[slot.number] = generation
        try:
            yield
        finally:
            del self._running[slot.number]
            self._slots.release(slot, generation.held)

    def _complete(self, generation: Generation, home: Slot | None) -> None:
        def advance(delta: str, processed: float) -> bool:
            self._placed(generation)
            return generation.advance(delta, processed)

        def heard(delta: str, processed: float) -> bool:
            return anyio.from_thread.run_sync(advance, delta, processed)

        assert self._server is not None
        slot = None if home is None else home.number
        self._server.complete(generation.prompt.text, generation.max_tokens, slot, heard)

    async def run(self) -> None:
        """Load the model; the task that `open_llama` starts."""
        try:
            self._server = await anyio.to_thread.run_sync(LlamaServer, self._settings)
            _log.info("llm.ready", model=self._settings.model.name)
        except ModelFileError as error:
            self._load_failure = error
        self._settled.set()

    def stop(self) -> None:
        """End every reply within a token; their listeners are told that they are not whole."""
        self._closed = True
        for generation in self._running.values():
            generation.stopped = True

    async def unload(self) -> None:
        """Give up the only reference, once no thread uses it: llama.cpp stops when it is gone (0.05 s)."""
        while self._running:
            await next(iter(self._running.values())).ended.wait()
        self._server = None


@asynccontextmanager
async def open_llama(settings: LlamaSettings) -> AsyncIterator[LlamaLanguageModel]:
    """Have the model inside the block. It loads meanwhile: `await ready()`."""
    async with anyio.create_task_group() as tasks:
        model = LlamaLanguageModel(settings, tasks)
        tasks.start_soon(model.run)
        try:
            yield model
        finally:
            model.stop()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await model.unload()
