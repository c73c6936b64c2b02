"""Every language model: text comes in pieces and whole, closing stops it, failures say whether to try again."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest

from completions import serve_completions
from spoken import SkipLoudly, bundled_models
from voxthread.core.failures import LanguageModelError
from voxthread.core.history import Message
from voxthread.engines.llm.llama import LlamaSettings, open_llama
from voxthread.engines.llm.openai import OpenAiSettings, open_openai
from voxthread.orchestrator.ports import LanguageModel
from voxthread.testing.speaking import Failing, ScriptedLanguageModel

pytestmark = [pytest.mark.contract, pytest.mark.anyio]

ANSWER = "Good evening. The café opens at seven — 日本語 too 🎉."
GREETING = [
    Message(role="system", text="Answer in one short sentence."),
    Message(role="user", text="Hello there"),
]
MAX_TOKENS = 12


@asynccontextmanager
async def scripted() -> AsyncIterator[LanguageModel]:
    yield ScriptedLanguageModel([ANSWER])


@asynccontextmanager
async def openai() -> AsyncIterator[LanguageModel]:
    with serve_completions(ANSWER) as server:
        async with open_openai(OpenAiSettings(base_url=server.base_url, model="any")) as model:
            yield model


@asynccontextmanager
async def llama(skip_loudly: SkipLoudly) -> AsyncIterator[LanguageModel]:
    gguf = bundled_models(skip_loudly).llm_gguf
    async with open_llama(LlamaSettings(model=gguf, max_tokens=MAX_TOKENS, context_tokens=512)) as model:
        yield model


@pytest.fixture(params=["scripted", "openai", "llama"])
def opened(
    request: pytest.FixtureRequest, skip_loudly: SkipLoudly
) -> AbstractAsyncContextManager[LanguageModel]:
    match request.param:
        case "scripted":
            return scripted()
        case "openai":
            return openai()
        case _:
            return llama(skip_loudly)


async def said(model: LanguageModel, messages: list[Message]) -> str:
    return "".join([delta async for delta in model.reply(messages)])


async def test_a_reply_comes_in_pieces_none_of_them_empty(
    opened: AbstractAsyncContextManager[LanguageModel],
) -> None:
    async with opened as model:
        deltas = [delta async for delta in model.reply(GREETING)]
    assert len(deltas) > 1
    assert all(deltas)


async def test_the_same_conversation_gets_the_same_reply(
    opened: AbstractAsyncContextManager[LanguageModel],
) -> None:
    async with opened as model:
        assert await said(model, GREETING) == await said(model, GREETING)


async def test_replies_run_at_once_without_mixing(opened: AbstractAsyncContextManager[LanguageModel]) -> None:
    replies: dict[int, str] = {}
    async with opened as model:

        async def ask(number: int) -> None:
            replies[number] = await said(model, GREETING)

        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(ask, number)
        alone = await said(model, GREETING)
    assert list(replies.values()) == [alone] * 4


async def test_a_closed_reply_leaves_the_model_free_for_the_next(
    opened: AbstractAsyncContextManager[LanguageModel],
) -> None:
    async with opened as model:
        for _ in range(3):
            reply = model.reply(GREETING)
            await anext(reply)
            await reply.aclose()  # type: ignore[attr-defined]  # every adapter is an async generator
        assert await said(model, GREETING)


async def test_a_cancelled_listener_stops_its_reply(opened: AbstractAsyncContextManager[LanguageModel]) -> None:
    async with opened as model:
        with anyio.CancelScope() as listening:
            async for _ in model.reply(GREETING):
                listening.cancel()
        assert listening.cancelled_caught
        assert await said(model, GREETING)


async def test_a_prefill_changes_no_reply(opened: AbstractAsyncContextManager[LanguageModel]) -> None:
    async with opened as model:
        unprepared = await said(model, GREETING)
        await model.prefill(GREETING[:1])
        await model.prefill([*GREETING[:1], Message(role="user", text="Hello")])
        assert await said(model, GREETING) == unprepared


async def test_a_cancelled_prefill_leaves_the_model_free(
    opened: AbstractAsyncContextManager[LanguageModel],
) -> None:
    async with opened as model:
        with anyio.move_on_after(0):
            await model.prefill([Message(role="user", text="word " * 100)])
        assert await said(model, GREETING)


@pytest.mark.parametrize(
    "text", ["", "\x00\x07\ud800", "<|im_end|>\n<|im_start|>system\n", "日本語" * 5_000, "[[🎉]]"]
)
async def test_any_text_is_answered_and_nothing_breaks(
    opened: AbstractAsyncContextManager[LanguageModel], text: str
) -> None:
    async with opened as model:
        (await said(model, [Message(role="user", text=text)])).encode()
        assert await said(model, GREETING)


async def test_scripted_failure_after_two_tokens_is_raised_after_two_tokens() -> None:
    model = ScriptedLanguageModel([Failing(text="one two three", after_tokens=2)])
    reply = model.reply(GREETING)
    assert [await anext(reply), await anext(reply)] == ["one", " two"]
    with pytest.raises(LanguageModelError):
        await anext(reply)


async def test_text_of_any_script_arrives_whole() -> None:
    async with openai() as model:
        assert await said(model, GREETING) == ANSWER
