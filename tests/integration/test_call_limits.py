"""What a call does by the clock alone: fillers, the end of one that lasts too long, prompts to idle callers."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial

import anyio
import pytest

from faked_call import RED_HZ, SESSION_ID, TURN, Call, engines_of, orchestrator, story, until
from integration.fake_media import FakeMedia, tone_packets
from voxthread.bus.memory import MemoryBus
from voxthread.core import events, inputs
from voxthread.core.history import Message
from voxthread.core.turn_state import TurnPolicy
from voxthread.observability.clock import now_ms
from voxthread.orchestrator.call_policy import GOODBYE_MS, CallPolicy
from voxthread.orchestrator.ending import TOO_LONG
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.recovery import until_now
from voxthread.orchestrator.runner import DEFAULT_CALL
from voxthread.wire import facts
from voxthread.wire.events import is_public
from voxthread.wire.inputs import decode_input
from voxthread.wire.log import Bus, Record, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

GREETING, ANSWER = "Good day.", "It is a colour. It is warm."
FILLER, GOODBYE, PROMPT = "One moment.", "Goodbye to you.", "Are you there?"
FILLER_MS, PAUSE_S = 50, 0.15
MAX_SESSION_MS, IDLE_MS = 30_000, 10_000
SHORT_MS, LONG_MS = 300, 10_000
"""Speech that is soon answered, and speech that outlasts the call."""

ENDING = CallPolicy(max_session_ms=MAX_SESSION_MS, goodbye=GOODBYE)
ASKING = replace(TURN, idle_ms=IDLE_MS, idle_prompt=PROMPT)

Pause = Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Thinker:
    """Thinks before the first word of its answer, and between its two sentences."""

    first: Pause | None = None
    between: Pause | None = None
    greeting: str = GREETING

    async def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        sentence, rest = ANSWER.split(" It ")
        if self.first is not None:
            await self.first()
        yield f"{sentence} "
        if self.between is not None:
            await self.between()
        yield f"It {rest}"


class Clock:
    """The real one, put forward at will: what was due meanwhile is due at once."""

    def __init__(self) -> None:
        self._ahead_ms = 0

    def __call__(self) -> int:
        return now_ms() + self._ahead_ms

    def forward(self, by_ms: int) -> None:
        self._ahead_ms += by_ms


def engines(agent: Thinker) -> Engines:
    return engines_of({"thinker": agent}, ms_per_character=5)


@asynccontextmanager
async def greeted(
    agent: Thinker,
    *,
    turn: TurnPolicy = TURN,
    call: CallPolicy = DEFAULT_CALL,
    now: Callable[[], int] = now_ms,
) -> AsyncIterator[FakeMedia]:
    """A caller who has heard the greeting, until the test is done with the call."""
    bus = MemoryBus(1)
    media = FakeMedia(bus, SESSION_ID, 0)
    owner = orchestrator(bus, 1, engines(agent), turn=turn, call=call, now=now)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, owner:
            tasks.start_soon(media.run)
            await media.open("thinker")
            await until(bus, events.AgentSpeechStopped)
            yield media
            tasks.cancel_scope.cancel()


async def call_of(media: FakeMedia) -> Call:
    return Call(media.played, await story(media.bus))


async def ask(media: FakeMedia) -> None:
    """In writing, which needs no time to be understood."""
    await media.send(facts.TextCommand(text="What is red"))


async def until_another(media: FakeMedia, kind: type[events.Event], act: Callable[[], None]) -> None:
    """Until such an event has come of the act."""
    before = sum(isinstance(each.event, kind) for each in await story(media.bus))
    act()
    await until(media.bus, kind, before + 1)


async def speak(media: FakeMedia, duration_ms: int) -> None:
    """Until it is known to be speech. That takes several records: what was due before has begun by then."""
    packets = tone_packets(RED_HZ, duration_ms)
    await until_another(media, events.UserSpeechStarted, partial(media.speak, packets))


Deed = Callable[[FakeMedia], Awaitable[object]]


async def taken_over(
    bus: MemoryBus,
    before: Deed,
    after: Deed,
    agents: tuple[Thinker, Thinker] = (Thinker(), Thinker()),
    *,
    turn: TurnPolicy = TURN,
    call: CallPolicy = DEFAULT_CALL,
    now: Callable[[], int] = now_ms,
) -> Call:
    """A call in which one thing is done with its first owner, after the greeting, another with its second."""
    media = FakeMedia(bus, SESSION_ID, 0)
    owned = zip(agents, (before, after), (events.AgentSpeechStopped, events.OrchestratorTakeover), strict=True)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(media.run)
            await media.open("thinker")
            for epoch, (agent, deed, begun) in enumerate(owned, 1):
                async with orchestrator(bus, epoch, engines(agent), turn=turn, call=call, now=now):
                    await until(bus, begun)
                    await deed(media)
            tasks.cancel_scope.cancel()
    return await call_of(media)


# -- the filler ----------------------------------------------------------------------------------------


async def test_an_agent_slow_to_begin_says_the_filler_once_and_then_the_answer() -> None:
    """It begins only when the filler was told: however slow this machine is, the agent is slower."""
    may_begin = anyio.Event()
    policy = CallPolicy(filler=FILLER, filler_ms=FILLER_MS)
    async with greeted(Thinker(first=may_begin.wait), call=policy) as media:
        await ask(media)
        await until(media.bus, events.AgentReplyDelta, 2)
        may_begin.set()
        await until(media.bus, events.AgentSpeechStopped, 2)
    call = await call_of(media)
    assert call.agent_texts == call.heard_texts == [GREETING, f"{FILLER} {ANSWER}"]


@pytest.mark.parametrize(
    "policy",
    [DEFAULT_CALL, CallPolicy(filler=FILLER), CallPolicy(filler_ms=FILLER_MS)],
    ids=["by default", "words, no time", "time, no words"],
)
async def test_an_agent_slow_to_begin_says_no_filler_unless_told_which_and_when(policy: CallPolicy) -> None:
    async with greeted(Thinker(first=partial(anyio.sleep, PAUSE_S)), call=policy) as media:
        await ask(media)
        await until(media.bus, events.AgentSpeechStopped, 2)
    call = await call_of(media)
    assert call.agent_texts == call.heard_texts == [GREETING, ANSWER]


async def test_an_agent_that_begins_at_once_says_no_filler_even_if_it_is_slow_to_go_on() -> None:
    policy = CallPolicy(filler=FILLER, filler_ms=FILLER_MS)
    async with greeted(Thinker(between=partial(anyio.sleep, PAUSE_S)), call=policy) as media:
        await ask(media)
        await until(media.bus, events.AgentSpeechStopped, 2)
    call = await call_of(media)
    assert call.agent_texts == call.heard_texts == [GREETING, ANSWER]


class FatalBus(MemoryBus):
    """Whoever has told the turn machine such a fact of the second turn dies of it."""

    def __init__(self, kind: type[inputs.Input]) -> None:
        super().__init__(1)
        self._kind = kind
        self.is_fatal = anyio.Event()

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        position = await super().append(stream, partition, record)
        if stream is Stream.EVENTS and not is_public(record) and not self.is_fatal.is_set():
            told = decode_input(record.value)[1]
            if isinstance(told, self._kind) and getattr(told, "turn_id", None) == 2:
                self.is_fatal.set()
                await anyio.sleep_forever()
        return position


@pytest.mark.parametrize("behind", [inputs.ClausePlanned, inputs.ReplyDelta, inputs.AudioSynthesized])
async def test_a_filler_begun_by_an_owner_that_died_is_no_part_of_the_answer(
    behind: type[inputs.Input],
) -> None:
    """Its successor's agent is quick enough to need none."""
    bus = FatalBus(behind)

    async def ask_in_vain(media: FakeMedia) -> None:
        await ask(media)
        await bus.is_fatal.wait()

    call = await taken_over(
        bus,
        ask_in_vain,
        lambda media: until(media.bus, events.AgentSpeechStopped, 2),
        (Thinker(first=anyio.sleep_forever), Thinker()),
        call=CallPolicy(filler=FILLER, filler_ms=FILLER_MS),
    )
    assert call.agent_texts == call.heard_texts == [GREETING, f"{FILLER} {ANSWER}"]


# -- the longest call ----------------------------------------------------------------------------------


async def until_wanted(bus: Bus, text: str) -> None:
    """Until the words were due, be they spoken or not."""
    async with aclosing(bus.read(Stream.EVENTS, 0, 0)) as records:
        async for stored in records:
            if not is_public(stored.record):
                _, told = decode_input(stored.record.value)
                if told == inputs.SpeechRequested(text=text):
                    return


async def times_wanted(bus: Bus, text: str) -> int:
    """How often the words were due until now."""
    told = [stored.record async for stored in until_now(bus, Stream.EVENTS, 0, 0)]
    facts_told = [decode_input(record.value)[1] for record in told if not is_public(record)]
    return facts_told.count(inputs.SpeechRequested(text=text))


async def end(media: FakeMedia, clock: Clock) -> Call:
    """The rest of the time passes, and the call with it."""
    clock.forward(GOODBYE_MS)
    await until(media.bus, events.SessionClosed)
    await media.closed.wait()
    return await call_of(media)


def assert_too_long(call: Call) -> None:
    assert call.told[-1].event == events.SessionClosed(reason=TOO_LONG)
    assert call.told[-1].at_ms - call.told[0].at_ms >= MAX_SESSION_MS


async def test_a_call_that_lasts_too_long_says_goodbye_once_and_is_then_ended() -> None:
    clock = Clock()
    async with greeted(Thinker(), call=ENDING, now=clock) as media:
        clock.forward(MAX_SESSION_MS - GOODBYE_MS)
        await until(media.bus, events.AgentSpeechStopped, 2)
        clock.forward(GOODBYE_MS // 2)
        await speak(media, LONG_MS)
        call = await end(media, clock)
    assert_too_long(call)
    assert call.agent_texts == call.heard_texts == [GREETING, GOODBYE]


async def test_a_caller_who_talks_on_is_not_talked_over_and_the_call_is_ended_all_the_same() -> None:
    clock = Clock()
    async with greeted(Thinker(), call=ENDING, now=clock) as media:
        await speak(media, LONG_MS)
        clock.forward(MAX_SESSION_MS - GOODBYE_MS)
        await until_wanted(media.bus, GOODBYE)
        call = await end(media, clock)
    assert_too_long(call)
    assert call.agent_texts == [GREETING]
    assert not any(isinstance(each.event, events.UserSpeechStopped) for each in call.told)


async def test_goodbye_is_not_said_again_because_another_owner_goes_on() -> None:
    bus, clock = MemoryBus(1), Clock()

    async def be_told_goodbye(media: FakeMedia) -> None:
        clock.forward(MAX_SESSION_MS - GOODBYE_MS)
        await until(media.bus, events.AgentSpeechStopped, 2)

    async def ask_to_the_end(media: FakeMedia) -> None:
        await ask(media)
        await until(media.bus, events.AgentSpeechStopped, 3)
        await end(media, clock)

    call = await taken_over(bus, be_told_goodbye, ask_to_the_end, call=ENDING, now=clock)
    assert_too_long(call)
    assert call.agent_texts == call.heard_texts == [GREETING, GOODBYE, ANSWER]
    assert await times_wanted(bus, GOODBYE) == 1


# -- the idle prompt -----------------------------------------------------------------------------------


async def be_silent(media: FakeMedia, clock: Clock, asked: int) -> None:
    """So long that the caller is asked so often, and as long again; then say something."""
    for _ in range(asked):
        await until_another(media, events.AgentSpeechStopped, partial(clock.forward, IDLE_MS))
    clock.forward(IDLE_MS)
    await speak(media, SHORT_MS)


@pytest.mark.parametrize(
    ("turn", "asked"),
    [(replace(ASKING, max_idle_prompts=1), 1), (ASKING, 2), (replace(ASKING, idle_ms=0), 0)],
    ids=["once", "twice by default", "never"],
)
async def test_a_silent_caller_is_asked_so_often_and_as_often_again_after_an_answer(
    turn: TurnPolicy, asked: int
) -> None:
    clock = Clock()
    async with greeted(Thinker(), turn=turn, now=clock) as media:
        await be_silent(media, clock, asked)
        await until(media.bus, events.AgentSpeechStopped, 1 + asked + 1)
        await be_silent(media, clock, asked)
    call, prompts = await call_of(media), [PROMPT] * asked
    assert call.agent_texts == call.heard_texts == [GREETING, *prompts, ANSWER, *prompts]


async def test_a_silent_caller_is_not_asked_more_often_because_another_owner_goes_on() -> None:
    clock = Clock()
    call = await taken_over(
        MemoryBus(1),
        lambda media: until_another(media, events.AgentSpeechStopped, partial(clock.forward, IDLE_MS)),
        lambda media: be_silent(media, clock, 1),
        turn=ASKING,
        now=clock,
    )
    assert call.agent_texts == call.heard_texts == [GREETING, PROMPT, PROMPT]
