"""The role that owns sessions: engines, orchestrator, and its claims on the partitions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from voxthread.app.policies import call_policy, speech_policy, turn_policy
from voxthread.config import Config
from voxthread.observability.clock import now_ms
from voxthread.orchestrator.claims import PartitionClaims
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.runner import Orchestrator
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.wire.log import Bus


@asynccontextmanager
async def open_orchestrator(
    config: Config, bus: Bus, engines: Engines, worker_id: str
) -> AsyncIterator[PartitionClaims]:
    """Serve whatever partitions are granted inside the block; `drain` the claims to hand them over."""
    invalid_ids = InvalidIds()
    orchestrator = Orchestrator(
        bus,
        engines,
        invalid_ids=invalid_ids,
        turn=turn_policy(config.turn),
        speech=speech_policy(config.turn),
        now=now_ms,
        call=call_policy(config.turn),
    )
    claims = PartitionClaims(
        bus,
        worker_id,
        on_granted=orchestrator.take,
        on_lost=orchestrator.drop,
        sessions=lambda: orchestrator.sessions,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(invalid_ids.run)
        await tasks.start(orchestrator.run)
        await tasks.start(claims.run)
        claims.set_ready(True)
        yield claims
        tasks.cancel_scope.cancel()
