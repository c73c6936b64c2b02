"""Agents that prepare: before anybody calls, when somebody does, and without harm when they cannot."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import pytest

from faked_call import SESSION_ID, Repeater, engines_of, orchestrator, story, until
from integration.fake_media import FakeMedia
from voxthread.bus.memory import MemoryBus
from voxthread.core import events
from voxthread.core.failures import AgentError
from voxthread.core.history import Message

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


@dataclass(frozen=True)
class Prepared(Repeater):
    """Notes what it is asked to prepare for, and then fails as it is told to."""

    failure: Exception | None = None
    asked: list[tuple[Sequence[Message], str]] = field(default_factory=list)
    was_asked: anyio.Event = field(default_factory=anyio.Event)

    async def prepare(self, history: Sequence[Message], utterance: str) -> None:
        self.asked.append((history, utterance))
        self.was_asked.set()
        if self.failure is not None:
            raise self.failure


async def test_an_orchestrator_has_its_agents_prepare_before_anybody_calls() -> None:
    agents = {"one": Prepared(), "other": Prepared(), "repeater": Repeater()}
    with anyio.fail_after(5):
        async with orchestrator(MemoryBus(1), 1, engines_of(agents)):
            await agents["one"].was_asked.wait()
            await agents["other"].was_asked.wait()
    assert agents["one"].asked == [((), "")]


@pytest.mark.parametrize("failure", [AgentError("agent.cold", "not now"), ZeroDivisionError()])
async def test_an_agent_that_cannot_prepare_is_heard_all_the_same(failure: Exception) -> None:
    bus, agent = MemoryBus(1), Prepared(failure=failure)
    media = FakeMedia(bus, SESSION_ID, 0)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, orchestrator(bus, 1, engines_of({"repeater": agent})):
            tasks.start_soon(media.run)
            await media.open("repeater")
            await until(bus, events.AgentSpeechStopped)
            tasks.cancel_scope.cancel()
    assert len(agent.asked) == 2
    spoken = [
        each.event.heard_text for each in await story(bus) if isinstance(each.event, events.AgentSpeechStopped)
    ]
    assert spoken == [agent.greeting]
