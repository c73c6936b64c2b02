"""Placing a call and hanging up.

    async with open_call(url, agent="chat") as call:
        await call.greeting()
        spoken = await call.say(speech)
        reply = await call.reply(spoken)

Everything of a call runs in the task group of `open_call` and ends with it.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import anyio

from voxthread.client.call import Call, Patience
from voxthread.client.ears import Ears
from voxthread.client.failures import CallError
from voxthread.client.feed import EventFeed
from voxthread.client.keeping import Keeper
from voxthread.client.line import Line, Reconnect
from voxthread.client.mouth import Mouth
from voxthread.client.whip import WhipAnswer, WhipClient
from voxthread.observability.logs import get_logger
from voxthread.wire.events import Envelope

log = get_logger(__name__)

_CLOSING_MS = 1_000


@asynccontextmanager
async def open_call(
    url: str,
    *,
    agent: str | None = None,
    frontend_session_id: str | None = None,
    token: str | None = None,
    records: bool = False,
    patience: Patience | None = None,
    on_event: Callable[[Envelope], None] | None = None,
    on_line: Callable[[Reconnect], None] | None = None,
) -> AsyncIterator[Call]:
    """Place a call to the server at `url`; the microphone is on, silent, when this enters. Raises `CallError`.

    `agent` None is the server's default; `token` is a bearer token for servers that want one. A line that is
    lost is dialled again, to the same session; `on_line` is told of it when it is lost and when it is back.
    """
    patience = patience or Patience()
    feed, ears = EventFeed(on_event), Ears(records=records)
    try:
        async with (
            WhipClient(url, token=token) as whip,
            Line(url, whip, on_packet=ears.receive) as line,
            anyio.create_task_group() as tasks,
        ):
            keeper, mouth = Keeper(url, line, feed, on_line), Mouth(line)
            try:
                await line.dial(
                    agent=agent, frontend_session_id=frontend_session_id, timeout_ms=patience.connect_ms
                )
                tasks.start_soon(keeper.run)
                tasks.start_soon(mouth.run)
                await feed.bound(timeout_ms=patience.connect_ms)
                yield Call(line, keeper, feed, mouth, ears, patience)
            finally:
                keeper.leave()
                with anyio.CancelScope(shield=True):
                    await _hang_up(whip, line.answer, feed)
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _only(group) from None


async def _hang_up(whip: WhipClient, answer: WhipAnswer | None, feed: EventFeed) -> None:
    if answer is None or feed.story.closed_because is not None:
        return
    try:
        await whip.hang_up(answer)
    except CallError as error:
        # The call is over for us either way, and its outcome must not be hidden by this.
        log.warning("call.not_ended", code=error.code, session_id=answer.session_id)
        return
    with anyio.move_on_after(_CLOSING_MS / 1000 if feed.is_bound else 0), suppress(CallError):
        await feed.until(lambda story: story.closed_because is not None)


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception of a group of one, as if no task group had been there."""
    return group.exceptions[0] if len(group.exceptions) == 1 else group
