"""The agent that is only a language model, and what its voice leaves out."""

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.agent import LanguageModel, Message, load_agent
from voxthread.examples import chat
from voxthread.examples.chat import SYSTEM_PROMPT, Chat
from voxthread.examples.spoken import clean, speakable

pytestmark = pytest.mark.unit


class RecordingModel(LanguageModel):
    def __init__(self, *chunks: str) -> None:
        self.chunks = chunks
        self.asked: list[list[Message]] = []
        self.closed = False

    async def reply(self, messages: Sequence[Message]) -> AsyncIterator[str]:
        self.asked.append(list(messages))
        try:
            for chunk in self.chunks:
                yield chunk
        finally:
            self.closed = True

    async def prefill(self, messages: Sequence[Message]) -> None:
        pass


@pytest.mark.anyio
async def test_second_turn_prompt_begins_with_all_of_the_first() -> None:
    llm = RecordingModel("Fine.")
    agent = Chat(llm)
    first = [chunk async for chunk in agent.reply([], "How are you?")]
    history = [Message(role="user", text="How are you?"), Message(role="assistant", text="".join(first))]
    _ = [chunk async for chunk in agent.reply(history, "And now?")]
    assert llm.asked[0][0] == Message(role="system", text=SYSTEM_PROMPT)
    assert llm.asked[1][: len(llm.asked[0])] == llm.asked[0]
    assert llm.asked[1][-1] == Message(role="user", text="And now?")


@pytest.mark.anyio
async def test_markdown_reply_is_spoken_plain() -> None:
    llm = RecordingModel("**Sure", "**! \U0001f600", "\n- one\n", "- two `x`")
    spoken = [chunk async for chunk in Chat(llm).reply([], "List them")]
    assert "".join(spoken) == "Sure! one two x"


@pytest.mark.anyio
async def test_reply_closed_early_stops_the_model() -> None:
    llm = RecordingModel("One. ", "Two. ", "Three.")
    async with aclosing(speakable(llm.reply([]))) as spoken:
        assert await anext(spoken) == "One. "
    assert llm.closed


@given(st.text(), st.text())
def test_any_text_cut_anywhere_cleans_the_same(left: str, right: str) -> None:
    whole = clean(left + right)
    first = clean(left)
    assert first + clean(right, first[-1:] or " ") == whole
    assert not set(whole) & set("*_`#\n")
    assert "  " not in whole


@pytest.mark.parametrize("text", ["twenty-five", "Half past six - or seven.", "it's $5, isn't it?"])
def test_clean_speech_keeps_its_words(text: str) -> None:
    assert clean(text).split() == text.replace(" - ", " ").split()


def test_example_file_loads_as_an_agent() -> None:
    name, factory = load_agent(Path(chat.__file__))
    assert name == "chat"
    assert factory(RecordingModel()).greeting
