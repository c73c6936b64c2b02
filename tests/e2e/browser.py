"""Debian's Chromium, driven by Playwright, with a WAV file as its microphone."""

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
from playwright.async_api import Browser, async_playwright

from conftest import SkipLoudly

CHROMIUM = "/usr/bin/chromium"

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
"""No calls home, and fit for a container."""

GRANTS_MICROPHONE = "--use-fake-ui-for-media-stream"
"""Every prompt is answered with yes."""

FAKE_MICROPHONE = "--use-fake-device-for-media-stream"
"""A microphone that beeps, on machines without a sound card."""


def speaks(wav: Path) -> str:
    """The fake microphone plays `wav` once, from the moment it is opened; then it is silent."""
    return f"--use-file-for-fake-audio-capture={wav.resolve()}%noloop"


def find_chromium(skip_loudly: SkipLoudly) -> str:
    """The browser's path. Skips the test, loudly, where there is none."""
    path = os.environ.get("VOXTHREAD_TEST_CHROMIUM") or shutil.which("chromium") or CHROMIUM
    if not Path(path).exists():
        skip_loudly("chromium", "no Chromium here (apt-get install chromium)")
    return path


@asynccontextmanager
async def open_chromium(
    path: str, flags: Sequence[str] = (GRANTS_MICROPHONE, FAKE_MICROPHONE)
) -> AsyncIterator[Browser]:
    playwright = await async_playwright().start()
    try:
        browser = await playwright.chromium.launch(executable_path=path, headless=True, args=[*QUIET, *flags])
        try:
            yield browser
        finally:
            # Shielded: a test that was cancelled must not leave its browser behind.
            with anyio.CancelScope(shield=True):
                await browser.close()
    finally:
        with anyio.CancelScope(shield=True):
            await playwright.stop()
