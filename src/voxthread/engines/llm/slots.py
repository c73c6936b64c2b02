"""Which of the model's slots a conversation is answered in.

A slot keeps the tokens it has processed; a prompt that begins like them starts at the first difference.
Left to itself llama.cpp sends a prompt to the slot that is most similar, and since all conversations begin
with the same system prompt they push each other out of one slot while the others idle (measured: 230 new
tokens a turn instead of 15). So a conversation goes where it was, if what it would overwrite there is less
than what it keeps; else llama.cpp takes the slot unused for longest, and brings back from its cache in
memory what it may hold of the conversation. One that is under way and of which nothing was processed here, as
after a change of owners in mid-turn, cannot wait (a system prompt of 250 tokens takes 1.6 s): where that slot
is another agent's, it goes where its system prompt is. Who is displaced by it gets the other slot on return.
A slot that holds an agent's system prompt and nobody's words is home to any conversation of that agent.
"""

from dataclasses import dataclass

from voxthread.engines.llm.chatml import Prompt


@dataclass(slots=True)
class Slot:
    number: int
    held: str = ""
    """The text whose tokens are in the slot: of the last prompt what was processed, and what was generated."""
    opening: int = 0
    """So many characters of a prompt like it come before anything a caller said."""
    busy: bool = False
    released: int = 0
    """Rises with each release: the least is the slot unused for longest, as llama.cpp counts."""

    @property
    def holds_words(self) -> bool:
        """Of a caller, who may go on."""
        return len(self.held) > self.opening


class Slots:
    """What every slot holds, as far as is known here. A wrong belief costs time and nothing else."""

    def __init__(self, count: int) -> None:
        self._slots = [Slot(number) for number in range(count)]
        self._releases = 0
        self._displaced = ""
        """What a slot held of a conversation that had to make room."""

    def home(self, prompt: Prompt) -> Slot | None:
        """The slot this conversation was in, busy or not."""
        home = max(self._slots, key=lambda slot: (_kept(slot, prompt), -slot.number))
        return home if _kept(home, prompt) else None

    def begun_like(self, prompt: Prompt) -> Slot | None:
        """For one without a home: the idle slot that holds how it begins, where the next one would not."""
        idle = [slot for slot in self._slots if not slot.busy]
        if not idle or _goes_on(self._displaced, prompt):
            return None
        following = self.unused_for_longest()
        if not following.held or _shares_opening(following, prompt):
            return None
        likest = max(idle, key=lambda slot: _common_prefix(slot.held, prompt.text))
        if not _shares_opening(likest, prompt):
            return None
        self._displaced = likest.held
        return likest

    def unused_for_longest(self) -> Slot:
        """The idle slot that llama.cpp takes when it is named none. Raises `ValueError` if all are busy."""
        return min((slot for slot in self._slots if not slot.busy), key=lambda slot: slot.released)

    def untouched(self) -> Slot | None:
        """An idle slot that holds nothing yet."""
        return next((slot for slot in self._slots if not slot.busy and not slot.held), None)

    def take(self, slot: Slot, prompt: Prompt) -> None:
        slot.busy, slot.held, slot.opening = True, prompt.text, prompt.opening

    def release(self, slot: Slot, held: str) -> None:
        self._releases += 1
        slot.busy, slot.held, slot.released = False, held, self._releases


def _kept(slot: Slot, prompt: Prompt) -> int:
    """How much of what the slot holds the prompt goes on from; 0 if that is another agent's or conversation."""
    if not slot.holds_words:
        return _common_prefix(slot.held, prompt.text) if _shares_opening(slot, prompt) else 0
    return _goes_on(slot.held, prompt)


def _goes_on(held: str, prompt: Prompt) -> int:
    """The same of a conversation's text: less of it may be lost than is kept behind the opening."""
    common = _common_prefix(held, prompt.text)
    lost = len(held) - common
    return common if lost <= max(0, common - prompt.opening) else 0


def _shares_opening(slot: Slot, prompt: Prompt) -> bool:
    """Most of what comes before the caller's words, which is the system prompt and a greeting."""
    return _common_prefix(slot.held, prompt.text) > prompt.opening / 2


def _common_prefix(one: str, other: str) -> int:
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))
