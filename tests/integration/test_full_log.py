"""A log that is about to take nothing more: calls end with a spoken notice, whoever was speaking."""

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from faked_call import SESSION_ID, orchestrator, story, until
from integration.fake_media import FakeMedia, tone_packets
from voxthread.app.entrance import Entrance
from voxthread.app.pulse import Pulse
from voxthread.bus.memory import MemoryBus
from voxthread.core import events
from voxthread.gateway.cors import Cors
from voxthread.orchestrator.call_policy import CallPolicy
from voxthread.wire.events import Envelope

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

NOTICE = "We must end this call now."


class FillingBus(MemoryBus):
    """A memory bus whose disk is full when the test says so."""

    is_full = False

    @property
    def closing(self) -> str | None:
        return "no room left" if self.is_full else None


async def call_on_a_full_log(after: type[events.Event], count: int, *, speaks: bool) -> list[Envelope]:
    """The disk is full once that was told so often."""
    bus = FillingBus(1)
    media = FakeMedia(bus, SESSION_ID, 0)
    async with orchestrator(bus, 1, call=CallPolicy(closing_notice=NOTICE)), anyio.create_task_group() as tasks:
        tasks.start_soon(media.run)
        await media.open("repeater")
        await until(bus, events.AgentSpeechStopped, 1)
        if speaks:
            media.speak(tone_packets(500, 600))
        await until(bus, after, count)
        bus.is_full = True
        with anyio.fail_after(20):
            await media.closed.wait()
            await until(bus, events.SessionClosed, 1)
        tasks.cancel_scope.cancel()
    return await story(bus)


@pytest.mark.parametrize(
    ("after", "count", "speaks"),
    [
        (events.AgentSpeechStopped, 1, False),
        (events.UserSpeechStarted, 1, True),
        (events.AgentSpeechStarted, 2, True),
    ],
    ids=["nobody speaks", "the caller speaks", "the agent speaks"],
)
async def test_a_log_that_closes_ends_the_call_with_a_notice_that_is_heard(
    after: type[events.Event], count: int, speaks: bool
) -> None:
    told = await call_on_a_full_log(after, count, speaks=speaks)
    heard = [e.event.heard_text for e in told if isinstance(e.event, events.AgentSpeechStopped)]
    assert heard[-1] == NOTICE
    assert told[-1].event == events.SessionClosed(reason="log_closing")


async def test_while_the_log_closes_new_calls_are_refused_and_readyz_says_why() -> None:
    bus = FillingBus(1)
    entrance = Entrance(Cors(("*",), methods=(), request_headers=(), exposed_headers=()))
    entrance.open(Starlette(routes=[Route("/whip", taken, methods=["POST"])]), Pulse(bus, "media_1").trouble)
    transport = httpx.ASGITransport(app=entrance)
    async with httpx.AsyncClient(transport=transport, base_url="http://voxthread.test") as http:
        assert (await http.post("/whip")).status_code == 201
        bus.is_full = True
        refusal = await http.post("/whip")
        assert (refusal.status_code, refusal.json()["code"]) == (503, "bus.disk_full")
        assert refusal.headers["retry-after"]
        unready = await http.get("/readyz")
        assert (unready.status_code, unready.json()["reasons"]) == (503, {"log": "bus.disk_full: no room left"})
        bus.is_full = False
        assert (await http.post("/whip")).status_code == 201


async def taken(_request: Request) -> Response:
    return Response(status_code=201)
