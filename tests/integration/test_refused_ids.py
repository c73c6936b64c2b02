"""An id that breaks a rule, at each edge of a whole server: refused with the rule, counted and warned of."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from websockets.asyncio.client import connect

from integration.test_whip_http import OFFER
from scripted_server import NumberAgent, Running, engines, running_server
from voxthread.wire.log import Record, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

BROKEN = {
    "session_1": "too_short",
    "sitzung_1753590741399_qlgq6cfjw": "bad_prefix",
    "session_1753590741399qlgq6cfjw": "too_few_parts",
    "session_\u0661\u0667\u0665_qlgq6cfjw_aaaa": "timestamp_not_numeric",
    "session_1753590741399_'--OR 1=1": "bad_character",
    "session_1753590741399__": "empty_random_part",
    "session_1753590741399_" + "a" * 128: "too_long",
}
ASCII = {text: rule for text, rule in BROKEN.items() if text.isascii()}
"""A header is Latin-1 at best."""


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    async with running_server(engines(NumberAgent())) as server:
        yield server


def refused(component: str, dialect: str, rule: str) -> float:
    labels = {"component": component, "dialect": dialect, "rule": rule}
    return REGISTRY.get_sample_value("session_id_invalid_total", labels) or 0.0


def warned(logs: list[Any], component: str, rule: str) -> int:
    return sum(
        line["event"] == "session.id_invalid"
        and line["log_level"] == "warning"
        and (line["component"], line["rule"]) == (component, rule)
        for line in logs
    )


@pytest.mark.parametrize(("text", "rule"), ASCII.items(), ids=ASCII.values())
async def test_at_whip_it_is_400_with_the_rule(running: Running, text: str, rule: str) -> None:
    before = refused("whip", "frontend", rule)
    with capture_logs() as logs:
        async with httpx.AsyncClient(base_url=running.url, trust_env=False) as http:
            headers = {"Content-Type": "application/sdp", "X-Session-ID": text}
            response = await http.post("/whip", content=OFFER, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, rule)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert text not in response.text
    assert refused("whip", "frontend", rule) == before + 1
    assert warned(logs, "whip", rule) == 1
    assert len(running.server.legs) == 0


@pytest.mark.parametrize(("text", "rule"), BROKEN.items(), ids=BROKEN.values())
async def test_at_the_socket_it_is_an_error_event_and_the_socket_stays(
    running: Running, text: str, rule: str
) -> None:
    before = refused("ws", "frontend", rule)
    with capture_logs() as logs:
        async with connect(running.url.replace("http", "ws", 1) + "/ws", proxy=None) as socket:
            await socket.send(json.dumps({"type": "session.bind", "frontend_session_id": text}))
            error = json.loads(await socket.recv())
            await socket.send(json.dumps({"type": "session.bind"}))
            bound = json.loads(await socket.recv())
    assert (error["type"], error["code"]) == ("error", rule)
    assert bound["type"] == "session.bound"
    assert refused("ws", "frontend", rule) == before + 1
    assert warned(logs, "ws", rule) == 1


@pytest.mark.parametrize(("stream", "component"), [(Stream.IN, "orchestrator"), (Stream.OUT, "media")])
@pytest.mark.parametrize(("text", "rule"), BROKEN.items(), ids=BROKEN.values())
async def test_on_the_log_the_record_is_put_aside_as_it_was(
    running: Running, text: str, rule: str, stream: Stream, component: str
) -> None:
    before = refused(component, "media", rule)
    bus = running.server.bus
    record = Record(text, b'{"v": 1}', (("trace", b"1"),))
    with capture_logs() as logs:
        position = await bus.append(stream, 2, record)
        with anyio.fail_after(5):
            async for stored in bus.read(Stream.DLQ, 0, 0):
                put_aside = stored.record
                break
    assert (put_aside.key, put_aside.value) == (record.key, record.value)
    assert put_aside.headers[:5] == (
        ("trace", b"1"),
        ("error", rule.encode()),
        ("stream", stream.encode()),
        ("partition", b"2"),
        ("position", str(position).encode()),
    )
    assert refused(component, "media", rule) == before + 1
    assert warned(logs, component, rule) == 1


async def test_from_a_holder_of_the_session_token_it_is_told_in_the_story_and_the_session_lives(
    running: Running,
) -> None:
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as http:
        sdp = {"Content-Type": "application/sdp"}
        opened = (await http.post("/whip", content=OFFER, headers=sdp)).headers
        resumes = {**sdp, "X-Session-Token": opened["X-Session-Token"], "X-Session-ID": "short"}
        assert (await http.post("/whip", content=OFFER, headers=resumes)).status_code == 400
        strangers = {**resumes, "X-Session-Token": "vst_nobody"}
        assert (await http.post("/whip", content=OFFER, headers=strangers)).status_code == 400
        story: dict[str, Any] = {"warnings": []}
        with anyio.fail_after(5):
            while not story["warnings"]:
                story = (await http.get(f"/v1/sessions/{opened['X-Session-ID']}")).json()
        assert [warning["code"] for warning in story["warnings"]] == ["too_short"]
        assert story["end_reason"] is None


async def test_at_the_sessions_api_it_is_400_with_the_rule(running: Running) -> None:
    async with httpx.AsyncClient(base_url=running.url, trust_env=False) as http:
        for text, rule in BROKEN.items():
            for path in ("", "/events"):
                response = await http.get(f"/v1/sessions/{text}{path}")
                assert (response.status_code, response.json()["code"]) == (400, rule)
                assert text not in response.text
