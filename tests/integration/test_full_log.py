"""A log that is about to take nothing more: calls end with a spoken notice, whoever was speaking."""

import anyio
import pytest

from integration.fake_media import FakeMedia, tone_packets
from integration.test_takeover import SESSION_ID, orchestrator, story, until
from voxthread.bus.memory import MemoryBus
from voxthread.core import events
from voxthread.orchestrator.call_policy import CallPolicy
from voxthread.wire.events import Envelope

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

NOTICE = "We must end this call now."


class FillingBus(MemoryBus):
    """A memory bus whose disk is full when the test says so."""

    is_full = False

    @property
    def closing(self) -> str | None:
        return "no room left" if self.is_full else None


async def call_on_a_full_log(after: type[events.Event], count: int, *, speaks: bool) -> list[Envelope]:
    """The disk is full once that was told so often."""
    bus = FillingBus(1)
    media = FakeMedia(bus, SESSION_ID, 0)
    async with orchestrator(bus, 1, CallPolicy(closing_notice=NOTICE)), anyio.create_task_group() as tasks:
        tasks.start_soon(media.run)
        await media.open("repeater")
        await until(bus, events.AgentSpeechStopped, 1)
        if speaks:
            media.speak(tone_packets(500, 600))
        await until(bus, after, count)
        bus.is_full = True
        with anyio.fail_after(20):
            await media.closed.wait()
            await until(bus, events.SessionClosed, 1)
        tasks.cancel_scope.cancel()
    return await story(bus)


@pytest.mark.parametrize(
    ("after", "count", "speaks"),
    [
        (events.AgentSpeechStopped, 1, False),
        (events.UserSpeechStarted, 1, True),
        (events.AgentSpeechStarted, 2, True),
    ],
    ids=["nobody speaks", "the caller speaks", "the agent speaks"],
)
async def test_a_log_that_closes_ends_the_call_with_a_notice_that_is_heard(
    after: type[events.Event], count: int, speaks: bool
) -> None:
    told = await call_on_a_full_log(after, count, speaks=speaks)
    heard = [e.event.heard_text for e in told if isinstance(e.event, events.AgentSpeechStopped)]
    assert heard[-1] == NOTICE
    assert told[-1].event == events.SessionClosed(reason="log_closing")
