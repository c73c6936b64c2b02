"""Messages as the text SmolLM2 was trained on (ChatML), append-only: a prompt cache holds across turns."""

from collections.abc import Sequence
from dataclasses import dataclass

from voxthread.core.history import Message

END_OF_MESSAGE = "<|im_end|>"
_USER = "<|im_start|>user\n"
_DROPPED_AT_ONCE = 8
"""Messages forgotten together: each forgetting costs a prefill of all that remains."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """`text` to complete; its first `opening` characters come before anything this caller said."""

    text: str
    opening: int

    @property
    def is_under_way(self) -> bool:
        """The caller has said something."""
        return len(self.text) > self.opening


def render(messages: Sequence[Message]) -> Prompt:
    """The prompt for the assistant's next message."""
    return _prompt("".join(map(_whole, messages)) + "<|im_start|>assistant\n")


def render_unfinished(messages: Sequence[Message]) -> Prompt:
    """The beginning that any reply to a conversation that begins like `messages` shares."""
    if messages and messages[-1].role == "user":
        *before, last = messages
        return _prompt("".join(map(_whole, before)) + _begun(last))
    return _prompt("".join(map(_whole, messages)))


def fit(messages: Sequence[Message], limit_bytes: int) -> Sequence[Message]:
    """Forget the oldest messages but for leading system messages, and cut the newest, to fit `limit_bytes`.

    What is forgotten changes once in eight messages only, so that the prompt stays append-only between.
    """
    system = 0
    while system < len(messages) and messages[system].role == "system":
        system += 1
    kept, rest = list(messages[:system]), list(messages[system:])
    while len(rest) > 1 and _size(kept) + _size(rest) > limit_bytes:
        rest = rest[min(_DROPPED_AT_ONCE, len(rest) - 1) :]
    if rest and (excess := _size(kept) + _size(rest) - limit_bytes) > 0:
        rest[0] = Message(role=rest[0].role, text=rest[0].text.encode()[excess:].decode("utf-8", "ignore"))
    return kept + rest


def _size(messages: Sequence[Message]) -> int:
    return sum(len(_whole(message).encode("utf-8", "replace")) for message in messages)


def _prompt(text: str) -> Prompt:
    first_words = text.find(_USER)
    return Prompt(text, len(text) if first_words < 0 else first_words + len(_USER))


def _whole(message: Message) -> str:
    return f"{_begun(message)}{END_OF_MESSAGE}\n"


def _begun(message: Message) -> str:
    words = message.text.encode("utf-8", "replace").decode("utf-8")
    return f"<|im_start|>{message.role}\n{words.replace('<|', '< |')}"  # a caller must not forge a role
