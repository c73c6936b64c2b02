"""The conversation as the caller lived it: what was said to the agent, and what of the agent was heard."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of an LLM conversation."""

    role: Role
    text: str


class History:
    """Append-only, but for its newest message.

    Older messages never change, so that a language model's prompt cache holds across turns; the newest
    user message can be taken back while it is unanswered (the caller went on speaking), and an assistant
    message is written once, when it is known how much of it was heard.
    """

    __slots__ = ("_messages",)

    def __init__(self, messages: Sequence[Message] = ()) -> None:
        self._messages = list(messages)

    @property
    def messages(self) -> tuple[Message, ...]:
        return tuple(self._messages)

    def user_said(self, text: str) -> None:
        self._messages.append(Message(role="user", text=text))

    def agent_was_heard(self, text: str) -> None:
        """Record what the caller heard of a reply; nothing heard leaves no message."""
        if text:
            self._messages.append(Message(role="assistant", text=text))

    def take_back_unanswered(self) -> str:
        """Remove the newest user message if no reply to it was heard, and return its text (else "")."""
        if self._messages and self._messages[-1].role == "user":
            return self._messages.pop().text
        return ""
