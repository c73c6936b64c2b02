"""A person's way in: the page in Chromium, a WAV as its microphone, the whole server behind it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from playwright.async_api import Page, expect

from conftest import SkipLoudly
from e2e.browser import FAKE_MICROPHONE, GRANTS_MICROPHONE, find_chromium, open_chromium, speaks
from e2e.hotel import Question, questions
from e2e.joe import say_by_joe, write_wav
from e2e.served import Served
from voxthread.core.audio import PcmFrame
from voxthread.core.ids import refusal
from voxthread.engines.models import ModelFiles

pytestmark = [pytest.mark.e2e, pytest.mark.anyio, pytest.mark.timeout(240)]

GREETING_MS = 6_000
"""Until the microphone's first question: connecting, and the greeting."""
ANSWER_MS = 9_500
"""From a question to the next one; the longest answer takes 7 s and begins within 2 s."""

KEEP_PEERS = """
window.peers = [];
window.RTCPeerConnection = class extends RTCPeerConnection {
  constructor(...settings) { super(...settings); window.peers.push(this); }
};
"""
INBOUND = """async () => {
  const stats = [...(await window.peers[0].getStats()).values()];
  return stats.find(({ type }) => type === "inbound-rtp");
}"""


async def test_published_questions_through_the_page_are_all_answered_rightly(
    server: Served, models: ModelFiles, skip_loudly: SkipLoudly, tmp_path: Path
) -> None:
    chromium = find_chromium(skip_loudly)
    asked = questions("published")
    speech = await say_by_joe(models, [each.text for each in asked])
    wrong: list[tuple[str, str, str]] = []

    async def ask(share: slice, screenshot: Path) -> None:
        wav = microphone(screenshot.with_suffix(".wav"), speech[share])
        flags = [GRANTS_MICROPHONE, FAKE_MICROPHONE, speaks(wav)]
        async with open_chromium(chromium, flags) as browser:
            page = await browser.new_page()
            await page.add_init_script(KEEP_PEERS)
            await page.goto(server.url)
            await page.get_by_role("button", name="Start talking").click()
            wrong.extend(await hear_answers(page, asked[share]))
            await page.screenshot(path=screenshot, full_page=True)
            await check_call(page, await page.evaluate(INBOUND), turns=len(asked[share]))
            await page.get_by_role("button", name="Hang up").click()
            await expect(page.locator("#floor")).to_have_text("Call ended")

    async with anyio.create_task_group() as browsers:
        browsers.start_soon(ask, slice(0, 5), tmp_path / "first.png")
        browsers.start_soon(ask, slice(5, 10), tmp_path / "second.png")
    assert wrong == []


def microphone(path: Path, speech: Sequence[PcmFrame]) -> Path:
    pauses_ms = [GREETING_MS, *[ANSWER_MS] * (len(speech) - 1)]
    return write_wav(path, speech, pauses_ms=pauses_ms)


async def hear_answers(page: Page, asked: Sequence[Question]) -> list[tuple[str, str, str]]:
    """The questions answered wrongly, each with what the page says was asked and answered."""
    spoken_ms = GREETING_MS + len(asked) * (ANSWER_MS + 4_000)
    lines = page.locator("#transcript li")
    await expect(lines).to_have_count(1 + 2 * len(asked), timeout=spoken_ms)
    await expect(page.locator("#transcript li.growing")).to_have_count(0, timeout=20_000)
    await expect(page.locator("#transcript li.interim")).to_have_count(0)
    shown = [text.strip() for text in await page.locator("#transcript .words").all_inner_texts()]
    who = await page.locator("#transcript .who").all_text_contents()
    assert who == ["Agent", *["You", "Agent"] * len(asked)]
    assert shown[0] == "Harbour Light Hotel, good day. How can I help you?"
    return [
        (question.text, heard, answer)
        for question, heard, answer in zip(asked, shown[1::2], shown[2::2], strict=True)
        if not question.is_answered_by(answer)
    ]


async def check_call(page: Page, inbound: dict[str, Any], *, turns: int) -> None:
    """The agent's voice arrived, and the page names the session and times its turns."""
    assert inbound["packetsReceived"] > turns * 100
    assert inbound["totalAudioEnergy"] > 0.01
    assert inbound["packetsLost"] == 0
    session_id = await page.locator("#session-id").inner_text()
    frontend_session_id = await page.locator("#frontend-id").inner_text()
    assert refusal(session_id) is refusal(frontend_session_id) is None
    assert session_id != frontend_session_id
    await expect(page.locator("#link")).to_have_text("Connected")
    await expect(page.locator("#timing .turn")).to_have_count(turns)
    await expect(page.locator("#notice")).to_be_hidden()
