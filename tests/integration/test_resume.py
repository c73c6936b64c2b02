"""Two media processes on one log: a caller whose line is gone comes back to either, with real offers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx
import pytest

from integration.faked_server import scripted_engines
from integration.whip_call import URL, Caller
from voxthread.app.media_role import MediaRole, open_media
from voxthread.app.orchestrator_role import open_orchestrator
from voxthread.bus.memory import MemoryBus
from voxthread.config import Config
from voxthread.observability.clock import now_ms
from voxthread.sessions.tokens import Scope, mint_token
from voxthread.wire.audio import is_audio
from voxthread.wire.events import decode_event, is_public
from voxthread.wire.facts import EndCommand, InRecord, LegResumed, PeerConnected, TextCommand, decode_in_fact
from voxthread.wire.log import Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

KEY = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Media:
    """One media process, asked over HTTP."""

    role: MediaRole
    http: httpx.AsyncClient

    async def post(self, offer: str, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(
            "/whip", content=offer, headers={"Content-Type": "application/sdp", **named}
        )

    async def refuses(self, resume_token: str, **headers: str) -> None:
        async with calling() as caller:
            refused = await self.post(await caller.offer(), X_Resume_Token=resume_token, **headers)
        assert refused.status_code == 401
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.json() == {
            "type": "about:blank",
            "status": 401,
            "code": "resume_token_invalid",
            "detail": "the resume token resumes no session",
        }
        assert "X-Session-ID" not in refused.headers


@dataclass(frozen=True, slots=True)
class Site:
    """Two media processes and an orchestrator."""

    config: Config
    bus: MemoryBus
    a: Media
    b: Media

    async def facts(self, session_id: str) -> list[InRecord]:
        """What media processes have said of the session until now."""
        found: list[InRecord] = []
        for partition in range(self.bus.partitions):
            head = await self.bus.head(Stream.IN, partition)
            if head == 0:
                continue
            async for stored in self.bus.read(Stream.IN, partition, 0):
                if stored.record.key == session_id and not is_audio(stored.record.value):
                    found.append(decode_in_fact(stored.record.value))
                if stored.position == head - 1:
                    break
        return found

    async def until_published(self, session_id: str, event_type: str) -> None:
        async def follow(partition: int) -> None:
            async for stored in self.bus.read(Stream.EVENTS, partition, 0):
                is_of_session = stored.record.key == session_id and is_public(stored.record)
                if is_of_session and event_type == decode_event(stored.record.value).event.TYPE:
                    tasks.cancel_scope.cancel()

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                for partition in range(self.bus.partitions):
                    tasks.start_soon(follow, partition)


@asynccontextmanager
async def calling() -> AsyncIterator[Caller]:
    caller = Caller()
    try:
        yield caller
    finally:
        await caller.close()


@asynccontextmanager
async def open_process(config: Config, bus: MemoryBus, media_id: str) -> AsyncIterator[Media]:
    """A media process, which dies without a word when this is left."""
    async with (
        open_media(config, bus, ("model",), media_id) as role,
        httpx.AsyncClient(transport=httpx.ASGITransport(role.http), base_url=URL) as http,
    ):
        yield Media(role, http)


@asynccontextmanager
async def site(**sections: dict[str, Any]) -> AsyncIterator[Site]:
    config = Config(**sections)  # type: ignore[arg-type]
    bus = MemoryBus(2)
    async with (
        open_orchestrator(config, bus, scripted_engines(), "orchestrator_1"),
        open_process(config, bus, "media_a") as a,
        open_process(config, bus, "media_b") as b,
    ):
        await a.role.attendance.complete()
        yield Site(config, bus, a, b)


def bearer(principal: str) -> str:
    token = mint_token(
        KEY,
        algorithm="HS256",
        audience="voxthread",
        principal=principal,
        scopes=[Scope.PUBLISH],
        expires_at_s=now_ms() // 1000 + 60,
    )
    return f"Bearer {token}"


async def test_a_call_moves_to_another_process_and_goes_on_there_under_the_same_id() -> None:
    async with site() as it, calling() as first, calling() as second:
        created = await it.a.post(await first.offer())
        session_id = created.headers["X-Session-ID"]
        await first.connect(created.text)
        await it.until_published(session_id, "session.connected")

        resumed = await it.b.post(await second.offer(), X_Resume_Token=created.headers["X-Resume-Token"])
        assert resumed.status_code == 201, resumed.text
        assert resumed.headers["X-Session-ID"] == session_id
        for fresh in ("X-Session-Token", "X-Resume-Token", "Location", "ETag"):
            assert resumed.headers[fresh] != created.headers[fresh]
        await second.connect(resumed.text)
        await it.until_published(session_id, "session.resumed")

        await it.b.role.legs.send(session_id, TextCommand(text="Are you there?"))
        await second.until(lambda: len(second.voice) > 0)
        assert session_id not in it.a.role.legs
        assert (await it.a.http.get(created.headers["Location"])).status_code == 404
        said = await it.facts(session_id)
        assert not [record for record in said if isinstance(record.fact, EndCommand)]
        [taken] = [record for record in said if isinstance(record.fact, LegResumed)]
        assert (taken.fact, taken.seq) == (LegResumed(media_id="media_b"), 1)
        there = [record.fact for record in said if record.epoch == taken.epoch]
        assert there[1] == PeerConnected(receives_audio=True)
        deleted = await it.b.http.delete(resumed.headers["Location"])
        assert deleted.status_code == 200


async def test_a_token_works_once_and_the_next_brings_the_call_back() -> None:
    async with site() as it, calling() as caller, calling() as again, calling() as back:
        created = await it.a.post(await caller.offer())
        token = created.headers["X-Resume-Token"]
        resumed = await it.b.post(await again.offer(), X_Resume_Token=token)
        assert resumed.status_code == 201, resumed.text
        await it.a.refuses(token)
        await it.b.refuses(token)
        returned = await it.a.post(await back.offer(), X_Resume_Token=resumed.headers["X-Resume-Token"])
        assert returned.headers["X-Session-ID"] == created.headers["X-Session-ID"]
        await back.connect(returned.text)
        assert created.headers["X-Session-ID"] in it.a.role.legs


async def test_an_answer_that_was_lost_leaves_the_session_token_to_go_on_with() -> None:
    async with site() as it, calling() as first, calling() as unheard, calling() as second:
        created = await it.a.post(await first.offer())
        session_id, token = created.headers["X-Session-ID"], created.headers["X-Resume-Token"]
        await first.connect(created.text)
        await it.until_published(session_id, "session.connected")
        lost = await it.b.post(await unheard.offer(), X_Resume_Token=token)
        assert lost.status_code == 201, lost.text

        for media in (it.b, it.a):
            await media.refuses(token)
        back = await it.a.post(await second.offer(), X_Session_Token=created.headers["X-Session-Token"])
        assert back.status_code == 201, back.text
        assert back.headers["X-Session-ID"] == session_id
        await second.connect(back.text)
        await it.until_published(session_id, "session.resumed")
        assert session_id in it.a.role.legs
        assert session_id not in it.b.role.legs
        await it.b.refuses(lost.headers["X-Resume-Token"])
        said = await it.facts(session_id)
        [connected] = [record for record in said if record.epoch and isinstance(record.fact, PeerConnected)]
        assert connected.epoch == max(record.epoch for record in said)
        assert not [record for record in said if isinstance(record.fact, EndCommand)]


async def test_one_token_at_both_processes_at_once_moves_the_call_once() -> None:
    async with site() as it, calling() as caller, calling() as one, calling() as other:
        created = await it.a.post(await caller.offer())
        offers = await one.offer(), await other.offer()
        statuses: list[int] = []

        async def resume(media: Media, offer: str) -> None:
            answer = await media.post(offer, X_Resume_Token=created.headers["X-Resume-Token"])
            statuses.append(answer.status_code)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(resume, it.a, offers[0])
            tasks.start_soon(resume, it.b, offers[1])
        assert sorted(statuses) == [201, 401]


@pytest.mark.parametrize("token", ["", "vrt_", "vrt_unknown", "x" * 2_000])
async def test_a_malformed_or_unknown_token_is_refused_and_reveals_nothing(token: str) -> None:
    async with site() as it:
        await it.a.refuses(token)


async def test_another_principal_is_refused_with_a_good_token_as_with_a_bad_one() -> None:
    async with site(auth={"key": KEY}) as it, calling() as caller, calling() as again:
        created = await it.a.post(await caller.offer(), Authorization=bearer("alice"))
        token = created.headers["X-Resume-Token"]
        await it.b.refuses(token, Authorization=bearer("bob"))
        resumed = await it.b.post(await again.offer(), X_Resume_Token=token)
        assert resumed.headers["X-Session-ID"] == created.headers["X-Session-ID"]


async def test_the_token_of_a_session_that_has_expired_is_refused() -> None:
    async with site() as it, calling() as caller:
        created = await it.a.post(await caller.offer())
        it.a.role.legs.end(created.headers["X-Session-ID"], "expired")
        await it.until_published(created.headers["X-Session-ID"], "session.closed")
        await it.a.refuses(created.headers["X-Resume-Token"])
        await it.b.refuses(created.headers["X-Resume-Token"])


async def test_a_process_that_stops_hands_its_calls_over() -> None:
    async with site() as it, calling() as first, calling() as second:
        created = await it.a.post(await first.offer())
        session_id, token = created.headers["X-Session-ID"], created.headers["X-Resume-Token"]
        await first.connect(created.text)
        await it.until_published(session_id, "session.connected")
        await it.a.role.drain()
        assert len(it.a.role.legs) == 0
        offer = await second.offer()
        stopping = await it.a.post(offer, X_Resume_Token=token)
        assert (stopping.status_code, stopping.json()["code"]) == (503, "media.full")
        resumed = await it.b.post(offer, X_Resume_Token=token)
        assert resumed.headers["X-Session-ID"] == session_id
        await second.connect(resumed.text)
        await it.until_published(session_id, "session.resumed")


async def test_the_call_of_a_process_that_died_is_taken_in_by_another() -> None:
    async with site() as it, calling() as first, calling() as second:
        async with open_process(it.config, it.bus, "media_c") as doomed:
            created = await doomed.post(await first.offer())
            session_id = created.headers["X-Session-ID"]
            await first.connect(created.text)
            await it.until_published(session_id, "session.connected")
        resumed = await it.b.post(await second.offer(), X_Resume_Token=created.headers["X-Resume-Token"])
        assert resumed.headers["X-Session-ID"] == session_id
        await second.connect(resumed.text)
        await it.until_published(session_id, "session.resumed")
