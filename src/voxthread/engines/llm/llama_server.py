"""llama.cpp's server, inside this process: how it is set up, and one completion."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xllamacpp

from voxthread.core.failures import LanguageModelError, ModelFileError
from voxthread.engines.llm.chatml import END_OF_MESSAGE
from voxthread.observability.logs import get_logger

_log = get_logger(__name__)

_BATCH_TOKENS = 64
"""Prompt tokens processed at once: 0.4 s, in which no other reply advances and nothing can be stopped."""

_IDLE_CONVERSATIONS_MIB = 256
"""Memory for conversations that lost their slot to others; about 14 MiB for one of 600 tokens."""

TOO_LONG = "llm.context_exceeded"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaSettings:
    """`context_tokens` is per slot; `slots` replies are generated at once, others queue."""

    model: Path
    threads: int = 1
    slots: int = 2
    context_tokens: int = 4_096
    max_tokens: int = 120
    temperature: float = 0.0


class LlamaServer:
    """The loaded model. Its methods block: call them in threads. Raises `ModelFileError`."""

    def __init__(self, settings: LlamaSettings) -> None:
        self._temperature = settings.temperature
        self._server = _open_server(settings)

    def complete(
        self, prompt: str, max_tokens: int, slot: int | None, heard: Callable[[str, float], bool]
    ) -> None:
        """Generate until `heard`, given each token, or "" and the share of the prompt processed, returns True.

        No slot is the one unused for longest. Raises `LanguageModelError`.
        """
        failure: LanguageModelError | None = None

        def answered(answer: dict[str, Any]) -> bool:
            nonlocal failure
            if error := answer.get("error"):
                failure = _refusal(error)
                return True
            if timings := answer.get("timings"):
                _log_cost(timings)
            text = "".join(choice.get("text") or "" for choice in answer.get("choices", ()))
            return heard(text, _share(answer.get("prompt_progress")))

        request = {
            "prompt": prompt,
            "n_predict": max_tokens,
            "temperature": self._temperature,
            "cache_prompt": True,
            "stream": True,
            "return_progress": True,
            "stop": [END_OF_MESSAGE],
            "id_slot": -1 if slot is None else slot,
        }
        self._server.handle_completions(request, answered)
        if failure is not None:
            raise failure


def _share(progress: dict[str, int] | None) -> float:
    """Whoever generates is told of no progress: the prompt is behind it."""
    return 1.0 if progress is None else progress["processed"] / max(1, progress["total"])


def _log_cost(timings: dict[str, Any]) -> None:
    _log.debug(
        "llm.generated",
        cached_tokens=timings["cache_n"],
        prompt_tokens=timings["prompt_n"],
        generated_tokens=timings["predicted_n"],
    )


def _refusal(error: dict[str, Any]) -> LanguageModelError:
    kind = str(error.get("type"))
    code = TOO_LONG if kind == "exceed_context_size_error" else "llm.refused"
    return LanguageModelError(code, f"llama.cpp: {kind} {error.get('code')}")


def _open_server(settings: LlamaSettings) -> Any:
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
