"""Stop the whole server with SIGTERM in the middle of a call and start it again: the same session goes on."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio.to_thread import run_sync

from e2e.joe import say_by_joe
from e2e.served import Served, serve
from kafka.brokers import free_ports
from voxthread.client.dial import open_call
from voxthread.client.script import call_json
from voxthread.client.utterance import encode_utterance
from voxthread.engines.models import ModelFiles

pytestmark = [pytest.mark.e2e, pytest.mark.anyio, pytest.mark.timeout(180)]

QUESTION = "What time is check-in?"
NOTICE = "Sorry, I lost the line for a moment."


@asynccontextmanager
async def served_at(port: int, state_dir: Path) -> AsyncIterator[Served]:
    """Beside a call, which goes on while the server starts and stops."""
    server = serve("--port", str(port), VOXTHREAD_STATE_DIR=str(state_dir))
    served = await run_sync(server.__enter__)
    try:
        yield served
    finally:
        with anyio.CancelScope(shield=True):
            await run_sync(server.__exit__, None, None, None)


async def test_server_stopped_and_started_again_within_a_minute_the_call_goes_on(
    models: ModelFiles, tmp_path: Path
) -> None:
    [speech] = await say_by_joe(models, [QUESTION])
    (port,) = free_ports(1)
    async with AsyncExitStack() as calling:
        async with served_at(port, tmp_path) as served:
            call = await calling.enter_async_context(open_call(served.url))
            await call.greeting()
        async with served_at(port, tmp_path):
            with anyio.fail_after(60):
                await call.until(lambda story: NOTICE in story.agent_transcript)
            reply = await call.reply(await call.say(encode_utterance(speech)))
            await calling.aclose()
    told = call_json(call, [reply])
    assert len(told["reconnects"]) == 1
    assert told["user_transcript"].lower().startswith("what time is check")
    assert "three in the afternoon" in told["agent_transcript"]
    assert told["events"] == call.story.last_seq
