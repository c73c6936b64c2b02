"""The page comes back by itself to a call that was lost or reloaded, and says so."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Page, expect

from e2e.browser import open_chromium
from e2e.page_call import answer_in_browser, open_page, start_call
from e2e.page_server import SESSION_ID, TOKEN, PageServer, open_page_server
from voxthread.core import events

pytestmark = [pytest.mark.e2e, pytest.mark.anyio]

LOST = "Connection lost, reconnecting"
BACK = "Back. The conversation continues."
BACK_WITHIN_MS = 20_000
"""Browsers take seconds to notice that a peer is gone that said goodbye to nobody."""

KEEP_NOTICES = """
window.notices = [];
addEventListener("DOMContentLoaded", () => {
  const title = document.getElementById("notice-title");
  if (!title) return;
  new MutationObserver(() => window.notices.push(title.textContent)).observe(title, {childList: true});
});
"""


@asynccontextmanager
async def in_call(
    chromium: str, **context: object
) -> AsyncIterator[tuple[Page, PageServer, list[dict[str, str]]]]:
    """A page in a call in which the agent has said one word."""
    async with (
        open_page_server() as server,
        open_chromium(chromium) as browser,
        open_page(browser, server, script=KEEP_NOTICES, **context) as page,
    ):
        requests = await answer_in_browser(page, server)
        await start_call(page, server)
        await server.publish(events.AgentReplyDelta(turn_id=1, text="one "))
        await expect(page.locator("#transcript .words")).to_have_text("one")
        yield page, server, requests


async def check_back(page: Page, server: PageServer) -> None:
    """The same session goes on, and nothing of it was lost or came twice."""
    await expect(page.get_by_role("alert")).to_contain_text(BACK, timeout=BACK_WITHIN_MS)
    await expect(page.get_by_role("button", name="Hang up")).to_be_visible()
    await expect(page.locator("#session-id")).to_have_text(SESSION_ID)
    await server.publish(events.AgentReplyDelta(turn_id=1, text="two"))
    await expect(page.locator("#transcript .words")).to_have_text("one two")
    await expect(page.locator("#link")).to_have_text("Connected")
    titles = await page.evaluate("() => window.notices")
    assert [title.rstrip("\u2026") for title in titles] == [LOST, BACK]


async def test_talking_media_process_killed_resumes_the_session(chromium: str) -> None:
    async with in_call(chromium) as (page, server, requests):
        token = server.resume_token
        server.die()
        await check_back(page, server)
        assert [request["method"] for request in requests] == ["POST", "POST"]
        assert requests[1]["x-resume-token"] == token
        await page.get_by_role("button", name="Hang up").click()
        await expect(page.locator("#floor")).to_have_text("Call ended")
        assert requests[2]["method"] == "DELETE"
        assert requests[2]["x-session-token"] == server.session.token


async def test_talking_media_connection_closed_resumes_the_session(chromium: str) -> None:
    async with in_call(chromium) as (page, server, requests):
        await page.evaluate("() => window.answering.close()")
        await check_back(page, server)
        assert len(requests) == 2


async def test_talking_server_away_is_asked_until_it_is_back(chromium: str) -> None:
    async with in_call(chromium) as (page, server, requests):
        server.is_away = True
        server.die()
        await expect(page.get_by_role("alert")).to_contain_text(LOST)
        await expect(page.locator("#floor")).to_have_text("Line interrupted, reconnecting")
        async with page.expect_request("**/whip"), page.expect_request("**/whip"):
            pass
        server.is_away = False
        await check_back(page, server)
        assert len({request["x-resume-token"] for request in requests[1:]}) == 1


async def test_returning_answer_lost_goes_on_by_the_session_token(chromium: str) -> None:
    async with in_call(chromium) as (page, server, requests):
        token, server.lost_answers = server.resume_token, 1
        await page.evaluate("() => window.answering.close()")
        await check_back(page, server)
        assert [request.get("x-resume-token") for request in requests[1:]] == [token, token, None]
        assert requests[3]["x-session-token"] == TOKEN


async def test_talking_session_cannot_be_resumed_says_so(chromium: str) -> None:
    async with in_call(chromium) as (page, server, _):
        server.resume_token = "used by another"
        server.die()
        await expect(page.get_by_role("alert")).to_contain_text("This call is over")
        await expect(page.get_by_role("button", name="Call again")).to_be_visible()
        await page.reload()
        await expect(page.get_by_role("button", name="Start talking")).to_be_visible()


async def test_returning_hung_up_is_over(chromium: str) -> None:
    async with in_call(chromium) as (page, server, _):
        server.is_away = True
        server.die()
        await page.get_by_role("button", name="Hang up").click()
        await expect(page.locator("#floor")).to_have_text("Call ended")
        await page.reload()
        await expect(page.get_by_role("button", name="Start talking")).to_be_visible()


async def test_talking_reloaded_goes_on_by_itself(chromium: str) -> None:
    async with in_call(chromium, permissions=["microphone"]) as (page, server, requests):
        for _ in range(2):
            token = server.resume_token
            await page.reload()
            await expect(page.get_by_role("alert")).to_contain_text(BACK, timeout=BACK_WITHIN_MS)
            assert requests[-1]["x-resume-token"] == token
        await check_back(page, server)
        assert [request["method"] for request in requests] == ["POST"] * 3
        assert await page.evaluate("() => !document.getElementById('voice').paused")


async def test_talking_left_and_opened_again_asks_for_a_click(chromium: str) -> None:
    """A page that comes up by itself must not open a microphone."""
    async with in_call(chromium, permissions=["microphone"]) as (page, server, requests):
        await page.goto("about:blank")
        await page.goto(server.url)
        await expect(page.locator("#floor")).to_have_text("Your call is still there")
        await page.get_by_role("button", name="Continue the call").click()
        await check_back(page, server)
        assert len(requests) == 2
