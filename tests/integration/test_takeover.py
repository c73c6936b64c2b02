"""Kill the owner of a call at any moment: another goes on, and the caller hears the same call."""

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace

import anyio
import pytest

from faked_call import QUESTIONS, SESSION_ID, TURN, Call, orchestrator, story, until
from integration.fake_media import FakeMedia, tone_packets
from voxthread.bus.memory import MemoryBus
from voxthread.core import events
from voxthread.core.turn_state import TurnPolicy
from voxthread.observability.clock import now_ms
from voxthread.orchestrator.call_policy import CallPolicy
from voxthread.wire import facts
from voxthread.wire.claims import SessionRelease, decode_claim
from voxthread.wire.log import Record, Stream

pytestmark = pytest.mark.integration

GUESSING = replace(TURN, speculate=True, endpoint=replace(TURN.endpoint, complete_ms=600))
"""Each question is guessed at for 400 ms before its turn is confirmed: longer than from kill to kill."""


async def hold_call(kill_at_ms: Sequence[int], turn: TurnPolicy = TURN) -> Call:
    """Two questions; the owner is killed at each of the instants, and succeeded at once."""
    bus = MemoryBus(1)
    media = FakeMedia(bus, SESSION_ID, 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(own_in_turn, bus, kill_at_ms, turn)
        tasks.start_soon(media.run)
        await media.open("repeater")
        await until(bus, events.AgentSpeechStopped, 1)
        for number, tone_hz in enumerate(QUESTIONS, 2):
            media.speak(tone_packets(tone_hz, 600))
            await until(bus, events.AgentSpeechStopped, number)
        await media.send(facts.EndCommand(reason="hung_up"))
        await media.closed.wait()
        tasks.cancel_scope.cancel()
    return Call(media.played, await story(bus))


async def own_in_turn(bus: MemoryBus, kill_at_ms: Sequence[int], turn: TurnPolicy) -> None:
    began_ms = now_ms()
    for epoch, at_ms in enumerate([*kill_at_ms, None], 1):
        async with orchestrator(bus, epoch, turn=turn):
            if at_ms is None:
                await anyio.sleep_forever()
            else:
                await anyio.sleep(max(0, began_ms + at_ms - now_ms()) / 1000)


def assert_same_audio(call: Call, undisturbed: Call) -> None:
    """As long to the packet; a clause whose audio was sent whole may lose the rest of its last packet.

    Reply by reply: a guess that died with its owner has used up the number of a turn.
    """
    for packets, undisturbed_packets in zip(call.played.values(), undisturbed.played.values(), strict=True):
        assert len(undisturbed_packets) - len(packets) in (0, 1, 2)


@pytest.mark.anyio
@pytest.mark.parametrize("turn", [TURN, GUESSING], ids=["certain", "guessing"])
async def test_any_moment_owner_killed_caller_hears_the_same_call(turn: TurnPolicy) -> None:
    """Kills spread over greeting, listening, speaking caller, guessing, thinking and speaking agent."""
    calls: dict[int, Call] = {}

    async def run(kill_at_ms: int | None) -> None:
        calls[kill_at_ms or 0] = await hold_call([] if kill_at_ms is None else [kill_at_ms], turn)

    async with anyio.create_task_group() as tasks:
        for kill_at_ms in [None, *range(150, 6_000, 390)]:
            tasks.start_soon(run, kill_at_ms)
    undisturbed = calls.pop(0)
    assert undisturbed.user_texts == list(QUESTIONS.values())
    for kill_at_ms, call in calls.items():
        assert call.user_texts == undisturbed.user_texts, kill_at_ms
        assert call.agent_texts == undisturbed.agent_texts, kill_at_ms
        assert call.heard_texts == undisturbed.heard_texts, kill_at_ms
        assert_same_audio(call, undisturbed)
        assert [envelope.seq for envelope in call.told] == list(range(1, len(call.told) + 1)), kill_at_ms
    has_lost_a_guess = [call.played.keys() != undisturbed.played.keys() for call in calls.values()]
    assert any(has_lost_a_guess) == turn.speculate


class FatalBus(MemoryBus):
    """Whoever has appended so many records of a session dies of it."""

    def __init__(self, appends: int) -> None:
        super().__init__(1)
        self._left = appends
        self.is_fatal = anyio.Event()

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        position = await super().append(stream, partition, record)
        if stream in (Stream.EVENTS, Stream.STATE, Stream.OUT) and record.key == SESSION_ID:
            self._left -= 1
            if self._left == 0:
                self.is_fatal.set()
                await anyio.sleep_forever()
        return position


@pytest.mark.anyio
@pytest.mark.parametrize("appends", range(1, 9))
async def test_owner_killed_behind_each_of_its_first_records_the_next_begins_nothing_again(
    appends: int,
) -> None:
    bus = FatalBus(appends)
    media = FakeMedia(bus, SESSION_ID, 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(media.run)
        async with orchestrator(bus, 1):
            await media.open("repeater")
            await bus.is_fatal.wait()
        async with orchestrator(bus, 2):
            await until(bus, events.AgentSpeechStopped, 1)
            await media.send(facts.EndCommand(reason="hung_up"))
            await media.closed.wait()
        tasks.cancel_scope.cancel()
    told = await story(bus)
    assert [envelope.seq for envelope in told] == list(range(1, len(told) + 1))
    kinds = [type(envelope.event) for envelope in told]
    assert kinds.count(events.SessionCreated) == 1
    assert kinds.count(events.OrchestratorTakeover) == 1


@pytest.mark.anyio
async def test_owners_killed_again_and_again_the_call_is_the_same() -> None:
    undisturbed, disturbed = None, None

    async def run(kills: Sequence[int]) -> None:
        nonlocal undisturbed, disturbed
        call = await hold_call(kills)
        if kills:
            disturbed = call
        else:
            undisturbed = call

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, [])
        tasks.start_soon(run, list(range(300, 9_000, 700)))
    assert undisturbed is not None
    assert disturbed is not None
    assert disturbed.user_texts == undisturbed.user_texts
    assert disturbed.agent_texts == undisturbed.agent_texts
    assert_same_audio(disturbed, undisturbed)


@pytest.mark.anyio
async def test_media_process_gone_for_long_its_session_is_ended_and_its_names_are_free() -> None:
    bus = MemoryBus(1)
    media = FakeMedia(bus, SESSION_ID, 0)
    async with orchestrator(bus, 1, call=CallPolicy(media_silence_ms=300)):
        await media.open("repeater")
        await until(bus, events.SessionClosed, 1)
        async with aclosing(bus.read(Stream.CLAIMS, 0, 0)) as records:
            release = decode_claim((await anext(records)).record.value)
    assert (await story(bus))[-1].event == events.SessionClosed(reason="media_lost")
    assert isinstance(release, SessionRelease)
    assert (release.session_id, release.epoch) == (SESSION_ID, 1)
