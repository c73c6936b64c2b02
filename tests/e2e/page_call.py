"""The page with a call in it, both ends of which are in the browser."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page, Route, expect

from e2e.page_server import PageServer
from voxthread.core import events

ANSWER_OFFER = """async (sdp) => {
  const answering = window.answering = new RTCPeerConnection();
  await answering.setRemoteDescription({type: "offer", sdp});
  const tone = new AudioContext(), oscillator = tone.createOscillator();
  const out = tone.createMediaStreamDestination();
  oscillator.connect(out);
  oscillator.start();
  answering.addTrack(out.stream.getTracks()[0], out.stream);
  const gathered = new Promise((done) => {
    answering.onicegatheringstatechange = () => answering.iceGatheringState === "complete" && done();
  });
  await answering.setLocalDescription();
  await gathered;
  return answering.localDescription.sdp;
}"""


async def answer_in_browser(page: Page, server: PageServer) -> list[dict[str, str]]:
    """Let a second peer in the page answer its offers; headers of requests but OPTIONS are collected."""
    requests: list[dict[str, str]] = []

    async def answer(route: Route) -> None:
        if route.request.method == "OPTIONS":
            await route.fulfill(status=200)
            return
        requests.append({"method": route.request.method, **await route.request.all_headers()})
        if route.request.method == "DELETE":
            await route.fulfill(status=200)
            return
        if server.is_away:
            await route.abort("connectionrefused")
            return
        headers = server.admit(requests[-1])
        if headers is None:
            await route.fulfill(status=401, json={"status": 401, "code": "resume_token_invalid"})
            return
        if server.lost_answers:
            server.lost_answers -= 1
            await route.abort("connectionreset")
            return
        sdp = await page.evaluate(ANSWER_OFFER, route.request.post_data)
        await route.fulfill(status=201, content_type="application/sdp", headers=headers, body=sdp)

    await page.route(re.compile(r"/whip(/secret)?(\?.*)?$"), answer)
    return requests


@asynccontextmanager
async def open_page(
    browser: Browser, server: PageServer, url: str | None = None, *, script: str = "", **context: object
) -> AsyncIterator[Page]:
    """The page, loaded; a script error or a broken content security policy fails the test."""
    page = await browser.new_page(**context)  # type: ignore[arg-type]
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if "Content Security" in line.text else None)
    if script:
        await page.add_init_script(script)
    await page.goto(url or server.url)
    yield page
    await page.close()
    assert problems == []


async def start_call(page: Page, server: PageServer) -> None:
    await page.get_by_role("button", name="Start talking").click()
    await expect(page.get_by_role("button", name="Hang up")).to_be_visible(timeout=15_000)
    await server.publish(
        events.SessionCreated(agent="hotel", partition=0, via="whip"),
        events.SessionConnected(receives_audio=True),
    )
