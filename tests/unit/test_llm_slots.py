import pytest

from voxthread.engines.llm.chatml import Prompt
from voxthread.engines.llm.generation import Generation
from voxthread.engines.llm.slots import Slots

pytestmark = pytest.mark.unit

OPENING = "system prompt, the same for all|"


def prompt(words: str = "") -> Prompt:
    return Prompt(OPENING + words, len(OPENING))


def used(slots: Slots, words: str, generated: str = "") -> int:
    slot = slots.home(prompt(words)) or slots.unused_for_longest()
    slots.take(slot, prompt(words))
    slots.release(slot, OPENING + words + generated)
    return slot.number


def test_a_conversation_that_goes_on_returns_to_its_slot() -> None:
    slots = Slots(2)
    first = used(slots, "hello, are you open?", "yes")
    assert used(slots, "good morning to you", "hi") != first
    assert used(slots, "hello, are you open?yes and tomorrow?") == first


def test_another_conversation_does_not_push_it_out_while_a_slot_is_free() -> None:
    slots = Slots(2)
    first = used(slots, "hello, are you open?", "yes")
    assert used(slots, "where is the station?") != first


def test_a_partial_transcript_and_its_revision_share_a_slot() -> None:
    slots = Slots(2)
    first = used(slots, "what time is")
    assert used(slots, "what times are there") == first


def test_a_slot_that_holds_only_the_shared_opening_is_anybodys() -> None:
    slots = Slots(2)
    first = used(slots, "")
    assert used(slots, "hello") == first


def test_an_agents_system_prompt_alone_is_home_to_its_next_call_whatever_its_greeting() -> None:
    slots = Slots(2)
    other, bare = Prompt("another agent altogether|", 25), Prompt("system prompt, the same for |", 29)
    ours = slots.unused_for_longest()
    slots.take(ours, bare)
    slots.release(ours, bare.text)
    theirs = slots.unused_for_longest()
    slots.take(theirs, other)
    slots.release(theirs, other.text)
    for greeted in (prompt(), prompt("how late is it?")):
        assert slots.home(greeted) is ours
    assert slots.home(Prompt("somebody else's prompt|", 23)) is None


def test_a_prompt_stopped_early_is_held_as_far_as_it_was_processed() -> None:
    stopped = Generation(prompt=prompt(), max_tokens=0)
    assert stopped.held == ""
    stopped.advance("", 0.25)
    assert stopped.held == OPENING[: len(OPENING) // 4]
    slots = Slots(2)
    begun = slots.unused_for_longest()
    slots.take(begun, prompt())
    slots.release(begun, stopped.held)
    whole = slots.unused_for_longest()
    slots.take(whole, prompt())
    slots.release(whole, prompt().text)
    assert slots.home(prompt("how late is it?")) is whole


def test_a_reply_nobody_heard_is_no_reason_to_leave_a_long_conversation() -> None:
    slots = Slots(2)
    first = used(slots, "a long talk about the weather " * 5, "an answer that was interrupted")
    assert used(slots, "a long talk about the weather " * 5 + "and more") == first


def test_without_a_home_the_slot_unused_for_longest_is_next() -> None:
    slots = Slots(2)
    first, second = used(slots, "alpha talks here"), used(slots, "beta talks here")
    assert used(slots, "gamma") == first
    assert used(slots, "delta") == second


def test_a_reply_without_a_home_goes_where_its_opening_is_when_the_next_slot_is_another_agents() -> None:
    slots = Slots(2)
    other = Prompt("another agent altogether|hello", 24)
    theirs = slots.unused_for_longest()
    slots.take(theirs, other)
    slots.release(theirs, other.text)
    ours = used(slots, "where is the station?", "there")
    assert slots.unused_for_longest() is theirs
    found = slots.begun_like(prompt("how late is it?"))
    assert found is not None
    assert found.number == ours
    assert slots.begun_like(prompt("where is the station?there and the port?")) is None, "it was displaced"


def test_a_reply_without_a_home_takes_the_next_slot_that_begins_like_it() -> None:
    slots = Slots(2)
    used(slots, "alpha talks here")
    assert slots.begun_like(prompt("gamma")) is None, "one is empty"
    used(slots, "beta talks here")
    assert slots.begun_like(prompt("gamma")) is None


def test_busy_slots_are_homes_but_not_free() -> None:
    slots = Slots(1)
    slot = slots.unused_for_longest()
    slots.take(slot, prompt("hello"))
    assert slots.home(prompt("hello there")) is slot
    assert slots.untouched() is None
    with pytest.raises(ValueError, match="empty"):
        slots.unused_for_longest()
