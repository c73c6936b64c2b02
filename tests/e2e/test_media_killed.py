"""SIGKILL the media process while the agent speaks: its callers hear the rest, in the same session."""

import os
import signal
from collections.abc import Iterator
from urllib.parse import urlsplit

import anyio
import pytest
from playwright.async_api import expect

from conftest import SkipLoudly
from e2e.browser import find_chromium, open_chromium
from e2e.joe import say_by_joe
from e2e.served import Served, serve
from voxthread.chaos.processes import listening_at
from voxthread.client.dial import open_call
from voxthread.client.script import call_json
from voxthread.client.utterance import encode_utterance
from voxthread.engines.models import ModelFiles

pytestmark = [pytest.mark.e2e, pytest.mark.anyio, pytest.mark.timeout(180)]

QUESTION = "When is breakfast served?"
ANSWER = (
    "Breakfast is served from half past six to ten, and until eleven at weekends. "
    "It costs sixteen euros and is not part of the room rate."
)
GREETING = "Harbour Light Hotel, good day. How can I help you?"
NOTICE = "Sorry, I lost the line for a moment. If you said something, please say it again."


@pytest.fixture(scope="module")
def roles(models: ModelFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """`voxthread serve` with its roles in processes of their own."""
    log = tmp_path_factory.mktemp("log") / "log.db"
    with serve("--orchestrators", "1", "--bus", f"sqlite:{log}") as served:
        yield served


def kill_media(served: Served) -> None:
    """The one that serves: which of the two it is changes with each kill."""
    where = urlsplit(served.url)
    pid = listening_at(where.hostname or "", where.port or 0)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def test_agent_speaking_media_killed_the_caller_hears_the_rest(roles: Served, models: ModelFiles) -> None:
    [speech] = await say_by_joe(models, [QUESTION])
    async with open_call(roles.url) as call:
        await call.greeting()
        spoken = await call.say(encode_utterance(speech))
        await call.ears.sound_after(spoken.sent_us[-1])
        kill_media(roles)
        reply = await call.reply(spoken)
        with anyio.fail_after(30):
            await call.until(lambda story: NOTICE in story.agent_transcript)
    told = call_json(call, [reply])
    [reconnect] = told["reconnects"]
    assert reconnect["reason"] == "events_lost"
    assert reconnect["gap_ms"] < 15_000
    assert call.ears.sounds.first_after((reconnect["at_ms"] + reconnect["gap_ms"]) * 1000) is not None
    assert told["user_transcript"] == QUESTION
    assert told["agent_transcript"].endswith(f"{ANSWER} {NOTICE}")
    assert told["agent_transcript"].count(ANSWER) == 1
    assert told["events"] == call.story.last_seq
    assert call.story.closed_because == "hung_up"


async def test_agent_speaking_to_a_page_media_killed_and_reloaded_the_session_goes_on(
    roles: Served, skip_loudly: SkipLoudly
) -> None:
    async with open_chromium(find_chromium(skip_loudly)) as browser:
        page = await browser.new_page(permissions=["microphone"])
        await page.goto(roles.url)
        await page.get_by_role("button", name="Start talking").click()
        await expect(page.locator("#transcript")).to_contain_text(GREETING, timeout=20_000)
        session_id = await page.locator("#session-id").inner_text()
        kill_media(roles)
        await expect(page.get_by_role("alert")).to_contain_text("Back.", timeout=20_000)
        await expect(page.locator("#transcript")).to_contain_text(NOTICE, timeout=30_000)
        await page.reload()
        await expect(page.get_by_role("alert")).to_contain_text("Back.", timeout=20_000)
        await expect(page.locator("#transcript")).to_contain_text(GREETING)
        await expect(page.locator("#session-id")).to_have_text(session_id)
        await page.get_by_role("button", name="Hang up").click()
        await expect(page.locator("#floor")).to_have_text("Call ended")
