"""An agent that is the language model and nothing else: `voxthread serve examples/chat.py`."""

from collections.abc import AsyncIterator, Sequence

from voxthread.agent import Agent, LanguageModel, Message
from voxthread.examples.spoken import speakable

SYSTEM_PROMPT = """\
You are Robin, a friendly assistant who talks with people on the telephone. Everything you write is read \
aloud by a voice, so write the way people speak. Answer in one or two short sentences, and come to the \
point in the first one. Never use lists, headings, bold text, tables, web addresses, code, emoji or any \
other marks that cannot be spoken. Write numbers, times and dates as words. Do not repeat the question, \
do not describe what you are doing, and do not begin with a compliment. What the caller says reaches you \
through speech recognition, so a word may be wrong; take the meaning that fits the conversation best. If \
you cannot make sense of it, say so in a few words and ask the caller to say it again. If the caller asks \
for something you cannot do, such as sending a message or looking at a web page, say that you cannot do \
it from here. If you do not know an answer, say that you do not know; never make up names, prices, times \
or addresses. Be warm, calm and patient. Ask at most one question at a time, and only when you need the \
answer to go on. When the caller says goodbye, wish them a good day and stop."""


class Chat:
    """Talks about anything, and is as right as its model."""

    greeting = "Hello, this is Robin. What would you like to talk about?"

    def __init__(self, llm: LanguageModel) -> None:
        self._llm = llm

    def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        return speakable(self._llm.reply(_prompt(history, utterance)))

    async def prepare(self, history: Sequence[Message], utterance: str) -> None:
        await self._llm.prefill(_prompt(history, utterance))


def _prompt(history: Sequence[Message], utterance: str) -> list[Message]:
    """Each begins with the whole of the last one, so that the model's prompt cache holds."""
    system = Message(role="system", text=SYSTEM_PROMPT)
    return [system, *history, Message(role="user", text=utterance)]


def agent(llm: LanguageModel) -> Agent:
    return Chat(llm)
