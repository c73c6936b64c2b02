"""Replies begun before the caller's turn is confirmed: until then only the agent knows of them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

import anyio
import pytest

from faked_call import BLUE_HZ, QUESTIONS, RED_HZ, SESSION_ID, Call, engines_of, orchestrator, story, until
from integration.fake_media import FakeMedia, tone_packets
from voxthread.bus.memory import MemoryBus
from voxthread.core import events, inputs
from voxthread.core.audio import PcmFrame
from voxthread.core.endpointing import EndpointPolicy
from voxthread.core.history import Message
from voxthread.core.turn_state import TurnPolicy
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.recovery import until_now
from voxthread.wire import facts
from voxthread.wire.audio import decode_audio, is_audio
from voxthread.wire.events import decode_event, is_public
from voxthread.wire.facts import decode_out_fact
from voxthread.wire.inputs import decode_input
from voxthread.wire.log import Record, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

RED, BLUE = QUESTIONS[RED_HZ], QUESTIONS[BLUE_HZ]
GREEN = "And green"
ANSWERS = {
    RED: "Crimson ochre, madder lake. Vermilion warms cinnabar.",
    BLUE: "Cobalt smalt, azurite. Woad makes indigo.",
    GREEN: "Malachite it is.",
}
"""With no word in two of them, or in a record whatever is said."""
FOREVER_MS = 60_000
TURN = TurnPolicy(
    endpoint=EndpointPolicy(endpoint_ms=FOREVER_MS, incomplete_ms=FOREVER_MS, ask_every_ms=50), speculate=True
)
"""The turn stays open for as long as the end-of-turn model does not believe in its end."""


class HeldTurn:
    """An end-of-turn model that believes in the end when it is told to."""

    def __init__(self) -> None:
        self.is_over = False

    async def probability(self, audio: PcmFrame) -> float:
        return 0.9 if self.is_over else 0.1


class Answering:
    """Waits for the caller to speak, and answers as the answers say; a reply to `endless` never ends."""

    greeting = ""

    def __init__(self, answers: Mapping[str, str] = ANSWERS, *, endless: str = "") -> None:
        self._answers = answers
        self._endless = endless
        self.asked: list[tuple[Sequence[Message], str]] = []
        self.has_written = anyio.Event()
        """All the words of a reply."""
        self.was_closed = anyio.Event()
        """The reply that never ends."""

    async def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        self.asked.append((history, utterance))
        for word in self._answers[utterance].split(" "):
            yield f"{word} "
        self.has_written.set()
        if utterance == self._endless:
            try:
                await anyio.sleep_forever()
            finally:
                self.was_closed.set()


def engines_with(agent: Answering, end_of_turn: HeldTurn) -> Engines:
    return replace(engines_of({"answering": agent}), end_of_turn=end_of_turn)


async def guessed_turn(bus: MemoryBus, agent: Answering) -> int:
    """The turn of the first reply, once that is made as far as it may be: written, and its first sound there.

    The machine has been told of it by then, so nothing but the commit is missing for the reply to get out.
    """
    await agent.has_written.wait()
    async with aclosing(bus.read(Stream.EVENTS, 0, 0)) as records:
        async for stored in records:
            told = None if is_public(stored.record) else decode_input(stored.record.value)[1]
            if isinstance(told, inputs.AudioSynthesized):
                break
    await anyio.wait_all_tasks_blocked()
    assert isinstance(told, inputs.AudioSynthesized)
    return told.turn_id


async def turns_out(bus: MemoryBus) -> set[int]:
    """The turns that anything on `voxthread.out` is about."""
    turns: set[int] = set()
    async for stored in until_now(bus, Stream.OUT, 0, 0):
        value = stored.record.value
        if is_audio(value):
            turns.add(decode_audio(value).turn_id)
        elif not isinstance(fact := decode_out_fact(value).fact, facts.CloseLeg):
            turns.add(fact.turn_id)
    return turns


async def words_told(bus: MemoryBus, text: str) -> list[str]:
    """Which words of the text are in a record that leaves the orchestrator; the inputs of the turn machine, for
    its owners and replays alone, hold guesses too."""
    values = [
        stored.record.value
        for stream in (Stream.OUT, Stream.EVENTS)
        async for stored in until_now(bus, stream, 0, 0)
        if stream is not Stream.EVENTS or is_public(stored.record)
    ]
    return [word for word in text.split() if any(word.encode() in value for value in values)]


@asynccontextmanager
async def asked_of_red(bus: MemoryBus, agent: Answering, end_of_turn: HeldTurn) -> AsyncIterator[FakeMedia]:
    """A caller who has said so much, and may go on."""
    media = FakeMedia(bus, SESSION_ID, 0)
    owner = orchestrator(bus, 1, engines_with(agent, end_of_turn), turn=TURN)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, owner:
            tasks.start_soon(media.run)
            await media.open("answering")
            media.speak(tone_packets(RED_HZ, 300))
            yield media
            tasks.cancel_scope.cancel()


async def test_a_guess_that_is_made_gets_out_when_its_turn_is_confirmed_and_no_sooner() -> None:
    bus, agent, end_of_turn = MemoryBus(1), Answering(), HeldTurn()
    async with asked_of_red(bus, agent, end_of_turn) as media:
        turn_id = await guessed_turn(bus, agent)
        assert await bus.head(Stream.OUT, 0) == 0
        assert [each.event for each in await story(bus) if each.event.turn_id is not None] == []
        assert await words_told(bus, ANSWERS[RED]) == []
        end_of_turn.is_over = True
        await until(bus, events.AgentSpeechStopped)
    call = Call(media.played, await story(bus))
    assert call.agent_texts == [f"{ANSWERS[RED]} "]
    assert call.heard_texts == [ANSWERS[RED]]
    assert call.played.keys() == await turns_out(bus) == {turn_id}
    assert agent.asked == [((), RED)]


async def test_a_caller_who_goes_on_speaking_never_meets_the_guess_at_their_end() -> None:
    bus, agent, end_of_turn = MemoryBus(1), Answering(endless=RED), HeldTurn()
    async with asked_of_red(bus, agent, end_of_turn) as media:
        withdrawn = await guessed_turn(bus, agent)
        media.speak(tone_packets(BLUE_HZ, 900))
        await agent.was_closed.wait()
        end_of_turn.is_over = True
        await until(bus, events.AgentSpeechStopped, 1)
        await media.send(facts.TextCommand(text=GREEN))
        await until(bus, events.AgentSpeechStopped, 2)
    call = Call(media.played, await story(bus))
    assert call.heard_texts == [ANSWERS[BLUE], ANSWERS[GREEN]]
    assert withdrawn not in await turns_out(bus) | {each.event.turn_id for each in call.told}
    assert await words_told(bus, ANSWERS[RED]) == []
    assert await words_told(bus, ANSWERS[BLUE]) == ANSWERS[BLUE].split()
    conversation = (Message(role="user", text=BLUE), Message(role="assistant", text=ANSWERS[BLUE]))
    assert agent.asked == [((), RED), ((), BLUE), (conversation, GREEN)]


async def succeeded_call(bus: MemoryBus, die: Callable[[Answering, HeldTurn], Awaitable[object]]) -> Call:
    """One question, of which the owner is killed once `die` has returned, and whose end its successor sees."""
    agent, end_of_turn = Answering(), HeldTurn()
    media, engines = FakeMedia(bus, SESSION_ID, 0), engines_with(agent, end_of_turn)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(media.run)
            async with orchestrator(bus, 1, engines, turn=TURN):
                await media.open("answering")
                media.speak(tone_packets(RED_HZ, 300))
                await die(agent, end_of_turn)
            async with orchestrator(bus, 2, engines, turn=TURN):
                await until(bus, events.OrchestratorTakeover)
                end_of_turn.is_over = True
                await until(bus, events.AgentSpeechStopped)
                await media.send(facts.EndCommand(reason="hung_up"))
                await media.closed.wait()
            tasks.cancel_scope.cancel()
    assert agent.asked == [((), RED)] * 2
    return Call(media.played, await story(bus))


def assert_answered_once(call: Call) -> None:
    """In one turn, which all that is told of the question and its answer names."""
    turns = {each.event.turn_id for each in call.told} - {None}
    assert call.agent_texts == [f"{ANSWERS[RED]} "]
    assert call.heard_texts == [ANSWERS[RED]]
    assert len(turns) == 1
    assert call.played.keys() == turns


async def test_an_owner_killed_with_a_guess_its_successor_gives_the_answer_once() -> None:
    bus = MemoryBus(1)

    async def with_a_guess(agent: Answering, end_of_turn: HeldTurn) -> None:
        await guessed_turn(bus, agent)

    call = await succeeded_call(bus, with_a_guess)
    assert call.user_texts == [RED]
    assert_answered_once(call)


class FatalBus(MemoryBus):
    """Whoever tells of a confirmed turn dies of the n-th record from there on; of the first: of just that."""

    def __init__(self, records: int) -> None:
        super().__init__(1)
        self._left = records
        self._is_confirmed = False
        self.is_fatal = anyio.Event()

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        position = await super().append(stream, partition, record)
        if stream is Stream.EVENTS and is_public(record):
            self._is_confirmed |= decode_event(record.value).event.turn_id is not None
        if self._is_confirmed and stream in (Stream.EVENTS, Stream.STATE, Stream.OUT):
            self._left -= 1
            if self._left == 0:
                self.is_fatal.set()
                await anyio.sleep_forever()
        return position


async def test_an_owner_killed_behind_each_record_of_a_commit_its_successor_gives_the_answer_once() -> None:
    """What was committed is on the log before any snapshot has it as more than a guess."""
    calls: dict[int, Call] = {}

    async def run(records: int) -> None:
        bus = FatalBus(records)

        async def with_the_record(agent: Answering, end_of_turn: HeldTurn) -> None:
            await guessed_turn(bus, agent)
            end_of_turn.is_over = True
            await bus.is_fatal.wait()

        calls[records] = await succeeded_call(bus, with_the_record)

    async with anyio.create_task_group() as tasks:
        for records in range(1, 13):
            tasks.start_soon(run, records)
    for call in calls.values():
        assert_answered_once(call)
