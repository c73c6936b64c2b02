"""The page in a real browser: calls, conversation, errors. The call's other end is in the browser too."""

import pytest
from playwright.async_api import expect
from starlette.responses import JSONResponse

from e2e.browser import FAKE_MICROPHONE, GRANTS_MICROPHONE, open_chromium
from e2e.page_call import answer_in_browser, open_page, start_call
from e2e.page_server import SESSION_ID, TOKEN, PageServer, open_page_server
from voxthread.core import events
from voxthread.wire.facts import InterruptCommand, TextCommand

pytestmark = [pytest.mark.e2e, pytest.mark.anyio]


async def hold_conversation(server: PageServer) -> None:
    """Two turns; the second reply is interrupted."""
    await server.publish(
        events.AgentReplyDelta(turn_id=1, text="Good evening, this is the Harbour Hotel. "),
        events.AgentSpeechStarted(turn_id=1),
        events.AgentReplyDelta(turn_id=1, text="How can I help?"),
        events.AgentSpeechStopped(
            turn_id=1, heard_text="Good evening, this is the Harbour Hotel. How can I help?", played_ms=3200
        ),
        events.UserSpeechStarted(utterance_id=1),
        events.UserTranscript(utterance_id=1, text="when is", final=False),
        events.UserTranscript(utterance_id=1, text="when is breakfast", final=False),
        events.UserSpeechStopped(utterance_id=1),
        events.UserTranscript(utterance_id=1, text="When is breakfast served?", final=True),
        *(
            events.TurnTiming(turn_id=2, stage=stage, ms=ms)
            for stage, ms in [
                ("turn_decided", 182),
                ("transcript", 296),
                ("llm_first_token", 471),
                ("first_clause", 560),
                ("first_audio", 702),
                ("heard", 744),
            ]
        ),
        events.AgentReplyDelta(turn_id=2, text="Breakfast is served from seven until half past ten, "),
        events.AgentSpeechStarted(turn_id=2),
        events.AgentReplyDelta(turn_id=2, text="and on Sundays until eleven, in the garden room."),
        events.AgentSpeechHeld(turn_id=2),
        events.UserSpeechStarted(utterance_id=2),
        events.AgentInterrupted(turn_id=2, heard_text="Breakfast is served from seven until half past ten,"),
        events.UserTranscript(utterance_id=2, text="and how much", final=False),
    )


async def test_talking_scripted_conversation_is_shown(chromium: str) -> None:
    async with (
        open_page_server() as server,
        open_chromium(chromium) as browser,
        open_page(browser, server) as page,
    ):
        requests = await answer_in_browser(page, server)
        await start_call(page, server)
        await hold_conversation(server)
        lines = page.locator("#transcript li")
        await expect(lines).to_have_count(4)
        await expect(lines.nth(0)).to_contain_text("Good evening, this is the Harbour Hotel. How can I help?")
        await expect(lines.nth(1)).to_contain_text("When is breakfast served?")
        await expect(lines.nth(2)).to_contain_text("until half past ten,\u2014")
        await expect(lines.nth(2).locator("s")).to_have_text(
            "and on Sundays until eleven, in the garden room.", use_inner_text=True
        )
        await expect(lines.nth(3)).to_have_class("line user interim")
        await expect(page.locator("#floor")).to_have_text("You are speaking")
        await expect(page.locator("#announcer")).to_contain_text("half past ten,")
        await expect(page.locator("#timing summary")).to_contain_text("0.74 s")
        await expect(page.locator("#timing li")).to_have_count(6)
        await expect(page.locator("#session-id")).to_have_text(SESSION_ID)
        frontend_session_id = await page.locator("#frontend-id").text_content()
        assert frontend_session_id == requests[0]["x-session-id"]
        assert await page.evaluate("() => document.getElementById('voice').srcObject.active")
        await page.get_by_role("button", name="Hang up").click()
        await server.publish(events.SessionClosed(reason="hung_up"))
        await expect(page.locator("#floor")).to_have_text("Call ended")
        assert [request["method"] for request in requests] == ["POST", "DELETE"]
        assert requests[1]["x-session-token"] == TOKEN


async def test_talking_buttons_send_commands(chromium: str) -> None:
    async with (
        open_page_server() as server,
        open_chromium(chromium) as browser,
        open_page(browser, server) as page,
    ):
        await answer_in_browser(page, server)
        await start_call(page, server)
        await page.get_by_label("Type instead of speaking").fill("Is there a pool?")
        await page.keyboard.press("Enter")
        await server.publish(
            events.UserTranscript(utterance_id=1, text="Is there a pool?", final=True),
            events.AgentReplyDelta(turn_id=1, text="Yes, on the roof."),
            events.AgentSpeechStarted(turn_id=1),
        )
        await expect(page.locator("#floor")).to_have_text("Agent is speaking")
        await page.keyboard.press("Escape")
        await page.get_by_role("button", name="Mute").click()
        await expect(page.get_by_role("button", name="Muted")).to_have_attribute("aria-pressed", "true")
        await server.publish(events.AgentInterrupted(turn_id=1, heard_text=""))
        await expect(page.locator("#transcript li").nth(1).locator("s")).to_have_text("Yes, on the roof.")
        assert server.sent == [TextCommand(text="Is there a pool?"), InterruptCommand()]


async def test_idle_typed_text_opens_a_session_that_speech_joins(chromium: str) -> None:
    async with (
        open_page_server() as server,
        open_chromium(chromium) as browser,
        open_page(browser, server) as page,
    ):
        requests = await answer_in_browser(page, server)
        await page.get_by_label("Type instead of speaking").fill("Hello")
        await page.get_by_role("button", name="Send").click()
        await expect(page.locator("#session-id")).to_have_text(SESSION_ID)
        await server.publish(events.UserTranscript(utterance_id=1, text="Hello", final=True))
        await expect(page.locator("#transcript")).to_contain_text("Hello")
        assert server.sent == [TextCommand(text="Hello")]
        await start_call(page, server)
        assert requests[0]["x-session-token"] == TOKEN
        assert requests[0]["x-session-id"] == server.session.frontend_session_id
        await expect(page.locator("#transcript")).to_contain_text("Hello")


async def test_talking_socket_lost_comes_back_and_misses_nothing(chromium: str) -> None:
    async with (
        open_page_server() as server,
        open_chromium(chromium) as browser,
        open_page(browser, server) as page,
    ):
        await answer_in_browser(page, server)
        await start_call(page, server)
        await expect(page.locator("#link")).to_have_text("Connected")
        server.hub.drain()
        await server.publish(events.AgentReplyDelta(turn_id=1, text="one "))
        await server.publish(events.AgentReplyDelta(turn_id=1, text="two"))
        await expect(page.locator("#transcript .words")).to_have_text("one two")
        await expect(page.locator("#link")).to_have_text("Connected")


async def test_idle_server_with_two_agents_offers_the_choice(chromium: str) -> None:
    async with open_page_server() as server, open_chromium(chromium) as browser:
        server.agents = ["hotel", "chat"]
        async with open_page(browser, server) as page:
            await page.get_by_label("Agent").select_option("chat")
            async with page.expect_request("**/whip?agent=chat"):
                await page.get_by_role("button", name="Start talking").click()


async def test_connecting_full_server_says_so(chromium: str) -> None:
    async with (
        open_page_server() as server,
        open_chromium(chromium) as browser,
        open_page(browser, server) as page,
    ):
        problem = {"status": 503, "code": "full", "detail": "no more sessions"}
        server.whip_answer = JSONResponse(problem, 503, {"Retry-After": "7"})
        await page.get_by_role("button", name="Start talking").click()
        await expect(page.get_by_role("alert")).to_contain_text("All lines are busy")
        await expect(page.get_by_role("alert")).to_contain_text("Try again in 7 s.")
        await expect(page.get_by_role("button", name="Start talking")).to_be_enabled()
        await page.get_by_role("button", name="Dismiss this message").click()
        await expect(page.locator("#notice")).to_be_hidden()


async def test_connecting_server_that_wants_a_key_asks_for_it(chromium: str) -> None:
    async with (
        open_page_server() as server,
        open_chromium(chromium) as browser,
        open_page(browser, server) as page,
    ):
        server.whip_answer = JSONResponse({"status": 401, "code": "token_missing"}, 401)
        await page.get_by_role("button", name="Start talking").click()
        await expect(page.get_by_role("alert")).to_contain_text("asks for an access key")
        await page.get_by_label("Access key").fill("secret")
        async with page.expect_request("**/whip") as asked:
            await page.get_by_role("button", name="Start talking").click()
        assert (await (await asked.value).all_headers())["authorization"] == "Bearer secret"


async def test_connecting_server_gone_says_so(chromium: str) -> None:
    async with (
        open_page_server() as server,
        open_chromium(chromium) as browser,
        open_page(browser, server) as page,
    ):
        await page.route("**/whip", lambda route: route.abort("connectionrefused"))
        await page.get_by_role("button", name="Start talking").click()
        await expect(page.get_by_role("alert")).to_contain_text("The server does not answer")


@pytest.mark.parametrize(
    ("flags", "host", "title"),
    [
        ([GRANTS_MICROPHONE], "127.0.0.1", "No microphone found"),
        ([FAKE_MICROPHONE], "127.0.0.1", "The microphone is blocked"),
        ([GRANTS_MICROPHONE, FAKE_MICROPHONE], "voxthread.test", "The microphone needs a secure page"),
    ],
)
async def test_asking_without_a_microphone_says_why(
    chromium: str, flags: list[str], host: str, title: str
) -> None:
    flags = [*flags, "--host-resolver-rules=MAP voxthread.test 127.0.0.1"]
    async with open_page_server() as server, open_chromium(chromium, flags) as browser:
        url = server.url.replace("127.0.0.1", host)
        async with open_page(browser, server, url) as page:
            await page.get_by_role("button", name="Start talking").click()
            await expect(page.get_by_role("alert")).to_contain_text(title)
            await expect(page.get_by_label("Type instead of speaking")).to_be_enabled()
