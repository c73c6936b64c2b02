"""Letting an agent prepare for the reply it will be asked for, the newest guess only."""

from collections.abc import Sequence

import anyio
from anyio.abc import TaskGroup

from voxthread.core.failures import VoiceError
from voxthread.core.history import Message
from voxthread.observability.logs import get_logger
from voxthread.orchestrator.ports import Agent, PreparingAgent

log = get_logger(__name__)


class Preparation:
    """Does nothing for an agent that cannot prepare."""

    def __init__(self, agent: Agent, tasks: TaskGroup) -> None:
        self._agent = agent if isinstance(agent, PreparingAgent) else None
        self._tasks = tasks
        self._scope = anyio.CancelScope()

    def start(self, history: Sequence[Message], utterance: str) -> None:
        self.stop()
        if self._agent is not None:
            self._scope = anyio.CancelScope()
            self._tasks.start_soon(self._prepare, self._agent, history, utterance, self._scope)

    def stop(self) -> None:
        self._scope.cancel()

    async def _prepare(
        self, agent: PreparingAgent, history: Sequence[Message], utterance: str, scope: anyio.CancelScope
    ) -> None:
        with scope:
            try:
                await agent.prepare(history, utterance)
            except VoiceError as error:
                log.warning("agent.not_prepared", code=error.code, detail=error.detail)
            except Exception:  # an agent is its user's code; one that cannot prepare may still reply
                log.exception("agent.not_prepared")
