"""Processes that were reading a log when it lost its newest records: what each of its readers does then."""

from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from integration.whip_call import calling, stamp_of, whip_server
from truncated_bus import TruncatedBus
from voxthread.core.events import SessionClosed
from voxthread.core.failures import BusError
from voxthread.core.workers import Heartbeat
from voxthread.observability.clock import now_ms
from voxthread.orchestrator.claims import PartitionClaims
from voxthread.sessions.attendance import Attendance
from voxthread.sessions.stories import SessionStories
from voxthread.supervisor.watch import Watch
from voxthread.wire.control import encode_control
from voxthread.wire.events import Envelope, encode_event
from voxthread.wire.log import Bus, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

PATIENCE_S = 10
SESSION_ID = "session_1753590741399040_5cc15fe6"


def claims_of(bus: Bus) -> PartitionClaims:
    return PartitionClaims(
        bus,
        "orchestrator_1",
        on_granted=lambda partition, epoch, is_orphan: None,
        on_lost=lambda partition: None,
        sessions=dict,
    )


async def test_a_leg_hears_what_comes_after_records_were_lost() -> None:
    with capture_logs() as lines:
        async with (
            whip_server(bus=TruncatedBus(2, {Stream.OUT})) as server,
            calling(server) as (caller, response),
        ):
            voice = (b"\xf8voice",) * 10
            await server.say(stamp_of(response).audio(voice, timestamp=0, turn_id=1))
            await caller.until(lambda: len(caller.voice) == len(voice))
    told = [(line["log_level"], line["code"]) for line in lines if line["event"] == "log.unread"]
    assert told == [("error", "bus.position_lost")] * 2  # once for each partition


async def test_the_index_of_sessions_hears_what_comes_after_records_were_lost() -> None:
    bus = TruncatedBus(1, {Stream.EVENTS})
    stories = SessionStories(bus)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            await tasks.start(stories.run)
            closed = Envelope(
                session_id=SESSION_ID,
                frontend_session_id=SESSION_ID,
                epoch=1,
                seq=1,
                at_ms=now_ms(),
                event=SessionClosed(reason="hangup"),
            )
            await bus.append(Stream.EVENTS, 0, encode_event(closed))
            while stories.index.session(SESSION_ID) is None:  # noqa: ASYNC110  it tells nobody of what it folds
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()


async def test_heartbeats_are_heard_after_some_were_lost() -> None:
    """By whoever claims partitions, and by whoever wants to know that they are attended to."""
    bus = TruncatedBus(2, {Stream.CONTROL})
    claims, attendance = claims_of(bus), Attendance(bus)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            await tasks.start(attendance.run)
            await tasks.start(claims.run)
            claims.set_ready(True)
            await attendance.complete()
            tasks.cancel_scope.cancel()


async def test_the_supervisor_hears_silence_after_heartbeats_were_lost() -> None:
    bus = TruncatedBus(1, {Stream.CONTROL})
    is_silent = anyio.Event()
    watch = Watch(bus, on_silent=lambda _id: is_silent.set(), on_blocking=lambda _pid: None, silence_ms=500)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.run)
            while not is_silent.is_set():
                beat = Heartbeat(worker_id="media_1", at_ms=now_ms(), is_first=True, is_ready=False)
                await bus.append(Stream.CONTROL, 0, encode_control(beat))
                with anyio.move_on_after(3):
                    await is_silent.wait()
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("run", [lambda bus: claims_of(bus).run, lambda bus: Attendance(bus).run])
async def test_who_knows_owners_by_claims_that_were_lost_begins_anew(
    run: Callable[[Bus], Callable[[], Coroutine[Any, Any, None]]],
) -> None:
    with anyio.fail_after(PATIENCE_S), pytest.raises(ExceptionGroup) as ended:
        await run(TruncatedBus(1, {Stream.CLAIMS}))()
    (error,) = ended.value.exceptions
    assert isinstance(error, BusError)
    assert (error.code, error.retryable) == ("bus.position_lost", False)
