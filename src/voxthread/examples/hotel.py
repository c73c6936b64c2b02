"""The front desk of a hotel, right although its language model is small: `voxthread serve examples/hotel.py`.

What it says of the hotel is written in `hotel.md` and found by retrieval. The language model only makes small
talk, and what it says is never spoken if it touches on anything the page is about.
"""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

from anyio import to_thread

from voxthread.agent import Agent, LanguageModel, Message
from voxthread.examples import retrieval
from voxthread.examples.retrieval.knowledge import Knowledge
from voxthread.examples.retrieval.language import Language, words
from voxthread.examples.spoken import speakable

PAGE: Final = Path(__file__).with_name("hotel.md")
"""Changing this file changes what is said from the next reply on."""
ENGLISH: Final = Path(retrieval.__file__).with_name("english.toml")
GREETING: Final = "Harbour Light Hotel, good day. How can I help you?"
CHAT_PROMPT: Final = "You are a polite receptionist on the telephone. Reply with one short friendly sentence."
MAX_CHAT_WORDS: Final = 14

_FIRST_SENTENCE: Final = re.compile(r"\s*(.+?[.!?])(?:\s|$)")


class Hotel:
    """Answers from the page, says so when the page has no answer, and chats when nothing is asked."""

    greeting = GREETING

    def __init__(self, llm: LanguageModel, page: Path, language: Language) -> None:
        self._llm = llm
        self._language = language
        self._knowledge = Knowledge(page, language)
        self._chat_prompt = list(_chat_examples(language))

    async def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        await to_thread.run_sync(self._knowledge.refresh)
        if not words(utterance):
            yield self._language.replies.unheard
            return
        chat_kind = self._language.chat_kind(utterance)
        if chat_kind is not None:
            yield await self._chat(utterance) or self._language.small_talk[chat_kind].line
            return
        previous = next((message.text for message in reversed(history) if message.role == "user"), "")
        answers = self._knowledge.answers(utterance, previous)
        for place, answer in enumerate(answers):
            yield answer if place == 0 else f" {answer}"

    async def prepare(self, history: Sequence[Message], utterance: str) -> None:
        """Small talk always begins with the same examples; once they are read there is nothing to prepare."""
        if not utterance:
            await self._llm.prefill([*self._chat_prompt, Message(role="user", text="")])

    async def _chat(self, utterance: str) -> str:
        """One short sentence of the language model; empty if it says anything the page should say."""
        user = Message(role="user", text=utterance)
        said = ""
        async with aclosing(speakable(self._llm.reply([*self._chat_prompt, user]))) as chunks:
            async for chunk in chunks:
                said += chunk
                if _FIRST_SENTENCE.match(said) or len(said.split()) > MAX_CHAT_WORDS:
                    break
        sentence = _FIRST_SENTENCE.match(said)
        if sentence is None or len(said.split()) > MAX_CHAT_WORDS:
            return ""
        echoes = words(sentence[1]) == words(utterance)[: len(words(sentence[1]))]
        return "" if echoes or self._knowledge.mentions(sentence[1]) else sentence[1]


def _chat_examples(language: Language) -> Iterator[Message]:
    """How to chat, told and shown: a small model follows an example rather than an instruction."""
    yield Message(role="system", text=CHAT_PROMPT)
    for talk in language.small_talk.values():
        yield Message(role="user", text=talk.cues[0].capitalize() + ".")
        yield Message(role="assistant", text=talk.line)


def agent(llm: LanguageModel) -> Agent:
    return Hotel(llm, PAGE, Language(ENGLISH))
