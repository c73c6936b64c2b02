"""The bundled model: conversations keep what was computed for them, and give way to each other."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import psutil
import pytest
import structlog

from spoken import SkipLoudly, bundled_models
from voxthread.core.failures import LanguageModelError, ModelFileError
from voxthread.core.history import Message
from voxthread.engines.llm.llama import LlamaLanguageModel, LlamaSettings, open_llama

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SYSTEM = Message(role="system", text="You answer the telephone of a small hotel by the sea, briefly. " * 4)
LONG = Message(role="system", text="You sit at the desk of a hotel and are kind to everybody. " * 15)
SHORT = Message(role="system", text="You are the porter of a small hotel by the sea, who knows the way. " * 3)
OTHER = Message(role="system", text="You are somebody else altogether. " * 8)


@pytest.fixture
async def model(skip_loudly: SkipLoudly) -> AsyncIterator[LlamaLanguageModel]:
    gguf = bundled_models(skip_loudly).llm_gguf
    async with open_llama(LlamaSettings(model=gguf, slots=2, max_tokens=8, context_tokens=1_024)) as opened:
        yield opened


async def say(model: LlamaLanguageModel, history: list[Message], words: str) -> None:
    history.append(Message(role="user", text=words))
    reply = "".join([delta async for delta in model.reply(history)])
    history.append(Message(role="assistant", text=reply))


async def test_three_conversations_in_two_slots_each_keep_their_prefix(model: LlamaLanguageModel) -> None:
    openings = ("Is there a room free tonight?", "Where can I park my car?", "My name is Bob and I seek work.")
    conversations = [[SYSTEM] for _ in openings]
    for history, words in zip(conversations, openings, strict=True):
        await say(model, history, words)
    with structlog.testing.capture_logs() as logs:
        for turn in range(2):
            for history in conversations:
                await say(model, history, f"And what about day {turn}?")
    costs = [log["prompt_tokens"] for log in logs if log["event"] == "llm.generated"]
    assert len(costs) == 6
    assert max(costs) < 40


async def test_a_prefilled_utterance_leaves_only_its_last_words_to_process(model: LlamaLanguageModel) -> None:
    await model.prefill([SYSTEM, Message(role="user", text="I would like to know whether there is a room")])
    with structlog.testing.capture_logs() as logs:
        await say(model, [SYSTEM], "I would like to know whether there is a room free tonight.")
    (cost,) = [log["prompt_tokens"] for log in logs if log["event"] == "llm.generated"]
    assert cost < 16


async def test_a_first_prefill_prepares_every_slot(model: LlamaLanguageModel) -> None:
    await model.prefill([SYSTEM])
    with structlog.testing.capture_logs() as logs:
        await say(model, [SYSTEM], "Is there a room?")
        await say(model, [SYSTEM], "Where is the sea?")
    assert all(log["prompt_tokens"] < 20 for log in logs if log["event"] == "llm.generated")


async def stand_by(model: LlamaLanguageModel, *systems: Message) -> None:
    """As an orchestrator with several agents before its first call; the shortest is done first."""
    async with anyio.create_task_group() as tasks:
        for system in systems:
            tasks.start_soon(model.prefill, [system, Message(role="user", text="")])


async def test_a_first_call_finds_its_agents_system_prompt_though_it_was_prepared_without_a_greeting(
    model: LlamaLanguageModel,
) -> None:
    await stand_by(model, OTHER, LONG)
    greeting = Message(role="assistant", text="Hello, this is the desk.")
    with structlog.testing.capture_logs() as logs:
        await model.prefill([LONG, greeting, Message(role="user", text="")])
    (begun,) = (log for log in logs if log["event"] == "llm.generated")
    assert begun["prompt_tokens"] < 20


async def test_each_of_many_beginning_at_once_is_in_the_slot_it_is_believed_in(skip_loudly: SkipLoudly) -> None:
    gguf = bundled_models(skip_loudly).llm_gguf
    for _ in range(8):
        async with open_llama(LlamaSettings(model=gguf, slots=2, max_tokens=8, context_tokens=1_024)) as model:
            await stand_by(model, OTHER, SHORT)
            with structlog.testing.capture_logs() as logs:
                await say(model, [SHORT], "Are you open?")
                await say(model, [OTHER], "Are you open?")
            replied = [log for log in logs if log.get("generated_tokens", 0) > 1]
            assert max(log["prompt_tokens"] for log in replied) < 20


async def test_a_prefill_stopped_early_does_not_draw_a_reply_to_where_little_is_processed(
    model: LlamaLanguageModel,
) -> None:
    await stand_by(model, OTHER, LONG)
    await say(model, [LONG], "Are you open?")
    with structlog.testing.capture_logs() as logs:
        async with anyio.create_task_group() as tasks:  # its caller has spoken before it is done
            tasks.start_soon(model.prefill, [LONG, Message(role="user", text="")])
            await anyio.wait_all_tasks_blocked()
            await say(model, [LONG], "Where is the sea?")
    (replied,) = (log for log in logs if log.get("generated_tokens", 0) > 1)
    assert replied["prompt_tokens"] < 20


async def test_a_long_prefill_gives_way_when_its_caller_stops_waiting(model: LlamaLanguageModel) -> None:
    with anyio.move_on_after(0.2):
        await model.prefill([Message(role="user", text="word " * 700)])
    with anyio.fail_after(5):
        await say(model, [], "Hello")


async def test_leaving_the_block_ends_a_reply_in_the_making_as_an_error(skip_loudly: SkipLoudly) -> None:
    gguf = bundled_models(skip_loudly).llm_gguf
    async with open_llama(LlamaSettings(model=gguf, context_tokens=1_024)) as model:
        reply = model.reply([Message(role="user", text="Tell me a long story about the sea.")])
        await anext(reply)
    with pytest.raises(LanguageModelError) as raised:
        async for _ in reply:
            pass
    assert raised.value.code == "llm.closed"


async def test_a_file_that_is_no_model_is_a_model_file_error(tmp_path: Path) -> None:
    gguf = tmp_path / "bad.gguf"
    gguf.write_bytes(b"GGUF" + os.urandom(4_096))
    async with open_llama(LlamaSettings(model=gguf)) as model:
        with pytest.raises(ModelFileError) as raised:
            await model.ready()
    assert raised.value.code == "models.corrupt"


async def test_nobody_can_reach_the_server_inside(model: LlamaLanguageModel) -> None:
    await model.ready()
    listening = [one for one in psutil.Process().net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert listening == []
    paths = [one.laddr for one in psutil.Process().net_connections("unix") if "voxthread-llm" in str(one.laddr)]
    assert not any(map(os.path.exists, paths))
