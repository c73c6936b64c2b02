"""The media process dies in mid-sentence: the caller comes back elsewhere and hears the rest."""

import anyio
import pytest

from faked_call import SESSION_ID, TURN, Call, orchestrator, story, until
from integration.fake_media import FakeMedia, tone_packets
from voxthread.bus.memory import MemoryBus
from voxthread.core import events
from voxthread.wire import facts

pytestmark = pytest.mark.integration

WORD_PACKETS = 30


async def hold_call(lost_after_ms: int | None, *, owner_dies: bool = False) -> Call:
    """One question; the line is lost so long after the answer began, for half a second."""
    bus = MemoryBus(1)
    media = FakeMedia(bus, SESSION_ID, 0)
    line_is_lost = anyio.Event()

    async def own() -> None:
        async with orchestrator(bus, 1):
            await (line_is_lost.wait() if owner_dies else anyio.sleep_forever())
        async with orchestrator(bus, 2):
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(own)
        tasks.start_soon(media.run)
        await media.open("repeater")
        await until(bus, events.AgentSpeechStopped, 1)
        media.speak(tone_packets(500, 600))
        await until(bus, events.AgentSpeechStarted, 2)
        if lost_after_ms is not None:
            await anyio.sleep(lost_after_ms / 1000)
            media.die()
            line_is_lost.set()
            await anyio.sleep(0.5)
            await media.resume()
        await until(bus, events.AgentSpeechStopped, 2)
        await media.send(facts.EndCommand(reason="hung_up"))
        await media.closed.wait()
        tasks.cancel_scope.cancel()
    return Call(media.played, await story(bus))


@pytest.mark.anyio
@pytest.mark.parametrize("owner_dies", [False, True])
async def test_speaking_media_process_gone_caller_hears_the_rest_from_the_last_word(owner_dies: bool) -> None:
    calls: dict[int, Call] = {}

    async def run(lost_after_ms: int | None) -> None:
        calls[lost_after_ms or 0] = await hold_call(lost_after_ms, owner_dies=owner_dies)

    async with anyio.create_task_group() as tasks:
        for lost_after_ms in (None, 60, 250, 444, 700, 1_010):
            tasks.start_soon(run, lost_after_ms)
    undisturbed = calls.pop(0)
    whole = len(undisturbed.played[2])
    for lost_after_ms, call in calls.items():
        assert call.user_texts == undisturbed.user_texts, lost_after_ms
        assert call.agent_texts[:2] == undisturbed.agent_texts, lost_after_ms
        assert call.heard_texts[:2] == undisturbed.heard_texts, lost_after_ms
        assert whole - 2 <= len(call.played[2]) <= whole + WORD_PACKETS, lost_after_ms
        assert any(isinstance(told.event, events.SessionResumed) for told in call.told)
        assert [envelope.seq for envelope in call.told] == list(range(1, len(call.told) + 1))


@pytest.mark.anyio
async def test_speaking_line_resumed_agent_says_it_was_lost() -> None:
    bus = MemoryBus(1)
    media = FakeMedia(bus, SESSION_ID, 0)
    async with orchestrator(bus, 1), anyio.create_task_group() as tasks:
        tasks.start_soon(media.run)
        await media.open("repeater")
        await until(bus, events.AgentSpeechStopped, 1)
        media.die()
        await media.resume()
        await until(bus, events.AgentSpeechStopped, 2)
        tasks.cancel_scope.cancel()
    told = [envelope.event for envelope in await story(bus)]
    assert told[-1] == events.AgentSpeechStopped(
        turn_id=2, heard_text=TURN.line_notice, played_ms=told[-1].played_ms
    )
