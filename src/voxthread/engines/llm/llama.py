"""The bundled language model: llama.cpp in this process, by xllamacpp.

One thread unless cores are free: with two on a busy machine it collapses (33 tokens in 4 s). Measured on one
core: 160 prompt tokens and 46 to 60 generated tokens a second; the first token of a prompt already in its slot
after 20 ms.
"""

import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import xllamacpp
from anyio.abc import TaskGroup

from voxthread.core.failures import LanguageModelError, ModelFileError, VoiceError
from voxthread.core.history import Message
from voxthread.engines.llm.chatml import END_OF_MESSAGE, Prompt, fit, render, render_unfinished
from voxthread.engines.llm.repetition import RepetitionGuard
from voxthread.engines.llm.slots import Slot, Slots
from voxthread.observability.logs import get_logger

_log = get_logger(__name__)

_BATCH_TOKENS = 64
"""Prompt tokens processed at once: 0.4 s, in which no other reply advances and nothing can be stopped."""

_IDLE_CONVERSATIONS_MIB = 256
"""Memory for conversations that lost their slot to others; about 14 MiB for one of 600 tokens."""

_BYTES_PER_TOKEN = (3, 1)
"""How much history to keep: English has about four bytes a token; what is still refused may have one."""

_TOO_LONG = "llm.context_exceeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaSettings:
    """`context_tokens` is per slot; `slots` replies are generated at once, others queue."""

    model: Path
    threads: int = 1
    slots: int = 2
    context_tokens: int = 4_096
    max_tokens: int = 120
    temperature: float = 0.0

    def fit(self, messages: Sequence[Message], bytes_per_token: int = _BYTES_PER_TOKEN[0]) -> Sequence[Message]:
        return fit(messages, (self.context_tokens - self.max_tokens) * bytes_per_token)


@dataclass(eq=False, slots=True, kw_only=True)
class _Generation:
    """One request to the model: it runs in a thread, its text is handed over on the event loop."""

    prompt: Prompt
    max_tokens: int
    """0 only processes the prompt."""
    stopped: bool = False
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

    def advance(self, delta: str) -> bool:
        """Take what the model made; returns whether it shall stop."""
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


class LlamaLanguageModel:
    """The `LanguageModel` port; opened by `open_llama`."""

    def __init__(self, settings: LlamaSettings, tasks: TaskGroup) -> None:
        self._settings = settings
        self._tasks = tasks
        self._server: Any = None
        self._load_failure: ModelFileError | None = None
        self._settled = anyio.Event()
        self._slots = Slots(settings.slots)
        self._capacity = anyio.Semaphore(settings.slots)
        self._threads = anyio.CapacityLimiter(settings.slots)
        self._running: dict[int, _Generation] = {}
        self._closed = False

    async def ready(self) -> None:
        """Wait until the model is loaded (0.5 s). Raises `ModelFileError`."""
        await self._settled.wait()
        if self._load_failure is not None:
            raise self._load_failure

    async def reply(self, messages: Sequence[Message]) -> AsyncIterator[str]:
        await self.ready()
        for bytes_per_token in _BYTES_PER_TOKEN:
            prompt = render(self._settings.fit(messages, bytes_per_token))
            generation = _Generation(prompt=prompt, max_tokens=self._settings.max_tokens)
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
            if failure.code != _TOO_LONG or bytes_per_token == _BYTES_PER_TOKEN[-1]:
                raise failure

    async def prefill(self, messages: Sequence[Message]) -> None:
        """Process what a reply will begin with; nothing while all slots are busy with something better."""
        await self.ready()
        prompt = render_unfinished(self._settings.fit(messages))
        await self._prefill(prompt)
        while (slot := self._slots.untouched()) is not None and self._capacity.value:
            await self._prefill(prompt, slot)  # the next caller's conversation begins like this one's

    async def _prefill(self, prompt: Prompt, slot: Slot | None = None) -> None:
        if not self._capacity.value:
            return
        generation = _Generation(prompt=prompt, max_tokens=0)
        self._tasks.start_soon(self._run, generation, slot)
        try:
            await generation.ended.wait()
        finally:
            generation.stopped = True
        if generation.failure is not None:
            raise generation.failure

    def _stop_prefills(self) -> None:
        for generation in self._running.values():
            if not generation.max_tokens:
                generation.stopped = True

    async def _run(self, generation: _Generation, wanted: Slot | None = None) -> None:
        failure: VoiceError | None = LanguageModelError("llm.closed", "the model was closed during a reply")
        try:
            async with self._capacity:
                home = await self._home(generation) if wanted is None else wanted
                if not (generation.stopped or (home is not None and home.busy)):
                    with self._claimed(home or self._slots.unused_for_longest(), generation):
                        await self._complete(generation, home)
            if not self._closed:
                failure = None
        except VoiceError as error:
            failure = error
        finally:
            generation.end(failure)

    async def _home(self, generation: _Generation) -> Slot | None:
        """The slot the conversation was in, once it is free; None if it has none it could soon have."""
        while (home := self._slots.home(generation.prompt)) is not None and home.busy:
            before = self._running[home.number]
            if not before.replaceable:
                return None
            before.stopped = True
            await before.ended.wait()
        return home

    @contextmanager
    def _claimed(self, slot: Slot, generation: _Generation) -> Iterator[None]:
        self._slots.take(slot, generation.prompt)
        self._running[slot.number] = generation
        try:
            yield
        finally:
            del self._running[slot.number]
            self._slots.release(slot, generation.prompt.text + generation.generated)

    async def _complete(self, generation: _Generation, home: Slot | None) -> None:
        request = {
            "prompt": generation.prompt.text,
            "n_predict": generation.max_tokens,
            "temperature": self._settings.temperature,
            "cache_prompt": True,
            "stream": True,
            "return_progress": True,
            "stop": [END_OF_MESSAGE],
            "id_slot": -1 if home is None else home.number,
        }
        error = await anyio.to_thread.run_sync(self._call, request, generation, limiter=self._threads)
        if error is not None:
            raise error

    def _call(self, request: dict[str, Any], generation: _Generation) -> LanguageModelError | None:
        """In a thread: llama.cpp calls back with each token and after each batch of the prompt."""
        failure: LanguageModelError | None = None

        def heard(answer: dict[str, Any]) -> bool:
            nonlocal failure
            if error := answer.get("error"):
                failure = _refusal(error)
                return True
            if timings := answer.get("timings"):
                _log.debug(
                    "llm.generated",
                    cached_tokens=timings["cache_n"],
                    prompt_tokens=timings["prompt_n"],
                    generated_tokens=timings["predicted_n"],
                )
            delta = "".join(choice.get("text") or "" for choice in answer.get("choices", ()))
            return anyio.from_thread.run_sync(generation.advance, delta)

        self._server.handle_completions(request, heard)
        return failure

    async def run(self) -> None:
        """Load the model; the task that `open_llama` starts."""
        try:
            self._server = await anyio.to_thread.run_sync(_load, self._settings)
            _log.info("llm.ready", model=self._settings.model.name)
        except ModelFileError as error:
            self._load_failure = error
        self._settled.set()

    def stop(self) -> None:
        """End every reply within a token; their listeners are told that they are not whole."""
        self._closed = True
        for generation in self._running.values():
            generation.stopped = True

    def unload(self) -> None:
        """Give up the only reference: llama.cpp stops its threads when it is gone (0.05 s)."""
        self._server = None


def _refusal(error: dict[str, Any]) -> LanguageModelError:
    kind = str(error.get("type"))
    code = _TOO_LONG if kind == "exceed_context_size_error" else "llm.refused"
    return LanguageModelError(code, f"llama.cpp: {kind} {error.get('code')}")


def _load(settings: LlamaSettings) -> Any:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(settings.model)
    parameters.n_ctx = settings.context_tokens * settings.slots
    parameters.n_parallel = settings.slots
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = settings.threads
    parameters.n_batch = parameters.n_ubatch = _BATCH_TOKENS
    parameters.slot_prompt_similarity = 0.0
    parameters.cache_ram_mib = _IDLE_CONVERSATIONS_MIB
    parameters.cache_idle_slots = False
    parameters.n_threads_http = 1
    parameters.endpoint_slots = False
    parameters.ui = False
    parameters.verbosity = 0  # its log holds prompts
    # It insists on listening. A Unix socket nobody else can reach, and gone before anybody could, is least.
    with tempfile.TemporaryDirectory(prefix="voxthread-llm-") as private:
        parameters.hostnames = [f"{private}/unused.sock"]
        try:
            server = xllamacpp.Server(parameters)
        except Exception as error:  # whatever the binding raises for a file it cannot load
            raise ModelFileError("models.corrupt", f"{settings.model} cannot be loaded: {error}") from error
    for slot in range(settings.slots):  # in this order they become the slots unused for longest
        request = {"prompt": END_OF_MESSAGE, "n_predict": 0, "id_slot": slot, "cache_prompt": True}
        server.handle_completions(request)
    return server


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
    await anyio.to_thread.run_sync(model.unload)
