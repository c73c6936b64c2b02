"""The orchestrator: owns partitions of the log, and gives each session on them a task of its own."""

from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup, TaskStatus

from voxthread.core.failures import SynthesisError
from voxthread.core.ids import Dialect
from voxthread.core.speech import SpeechPolicy
from voxthread.core.turn_state import TurnPolicy
from voxthread.observability.logs import get_logger
from voxthread.orchestrator.call_policy import CallPolicy
from voxthread.orchestrator.partition import OwnedPartition
from voxthread.orchestrator.phrases import Phrases
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.preparing import Preparation
from voxthread.orchestrator.probation import Probation
from voxthread.orchestrator.session import Host
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.wire.log import Bus

log = get_logger(__name__)

DEFAULT_CALL = CallPolicy()


class Orchestrator:
    """`run` it; then `take` and `drop` partitions as they are granted and lost."""

    def __init__(
        self,
        bus: Bus,
        engines: Engines,
        *,
        invalid_ids: InvalidIds,
        turn: TurnPolicy,
        speech: SpeechPolicy,
        now: Callable[[], int],
        call: CallPolicy = DEFAULT_CALL,
    ) -> None:
        self._invalid_ids = invalid_ids
        self._host = Host(
            bus=bus,
            engines=engines,
            phrases=Phrases(engines.tts),
            turn=turn,
            speech=speech,
            now=now,
            call=call,
        )
        self._probation = Probation()
        self._tasks: TaskGroup | None = None
        self._owned: dict[int, tuple[OwnedPartition, anyio.CancelScope]] = {}

    @property
    def sessions(self) -> dict[int, int]:
        """How many run here, by partition."""
        return {partition: len(owned) for partition, (owned, _) in self._owned.items()}

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """`started` once partitions can be taken."""
        await self._prepare_phrases()
        async with anyio.create_task_group() as self._tasks:
            task_status.started()
            for agent in self._host.engines.agents.values():
                Preparation(agent, self._tasks).start((), "")  # its first call may be in mid-turn
            await anyio.sleep_forever()

    def take(self, partition: int, epoch: int, is_orphan: bool = True) -> None:
        """Own a partition under `epoch`: go on with its sessions, then hear new ones.

        An orphan's owner has died, perhaps of one of them; else it has given the partition away.
        """
        self.drop(partition)
        assert self._tasks is not None, "run the orchestrator first"
        owned = OwnedPartition(
            self._host, self._probation, partition, epoch, self._check_id, is_orphan=is_orphan
        )
        scope = anyio.CancelScope()
        self._owned[partition] = owned, scope
        self._tasks.start_soon(self._serve, owned, scope)

    def drop(self, partition: int) -> None:
        """Somebody else owns the partition: stop its sessions at once and without a word."""
        if (owned := self._owned.pop(partition, None)) is not None:
            owned[1].cancel()

    async def _serve(self, owned: OwnedPartition, scope: anyio.CancelScope) -> None:
        with scope:
            await owned.run()

    def _check_id(self, session_id: str) -> None:
        self._invalid_ids.check(session_id, component="orchestrator", dialect=Dialect.MEDIA)

    async def _prepare_phrases(self) -> None:
        turn, call = self._host.turn, self._host.call
        greetings = [agent.greeting for agent in self._host.engines.agents.values()]
        texts = [
            *greetings,
            turn.apology,
            turn.line_notice,
            turn.idle_prompt,
            call.goodbye,
            call.filler,
            call.closing_notice,
        ]
        try:
            await self._host.phrases.prepare(texts)
        except* SynthesisError as failed:
            # Each is then synthesized when it is wanted.
            log.warning("phrases.not_prepared", errors=len(failed.exceptions))
