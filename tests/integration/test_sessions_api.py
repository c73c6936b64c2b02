"""`/v1/sessions` of a whole server: the stories of its calls, to whom they belong, page by page."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest
from typer.testing import CliRunner

from integration.test_whip_http import OFFER
from scripted_server import KEY, NumberAgent, Running, engines, running_server, tone
from voxthread.bus.memory import MemoryBus
from voxthread.cli import main
from voxthread.client.call import Patience
from voxthread.client.dial import open_call
from voxthread.client.utterance import encode_utterance
from voxthread.core.events import Event, SessionBound, SessionClosed, SessionCreated, UserTranscript
from voxthread.core.failures import SessionError
from voxthread.sessions.identity import SessionIdMint
from voxthread.sessions.index import Viewer
from voxthread.sessions.registry import SESSION_MAX_MS
from voxthread.sessions.stories import LOST, SessionStories
from voxthread.sessions.tokens import Scope, mint_token
from voxthread.wire.events import Envelope, encode_event
from voxthread.wire.log import Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

API = "/v1/sessions"
UNKNOWN = "session_1753590741399040_5cc15fe6"
NOW_MS = 1_763_800_000_000
FAR_S = 4_000_000_000


def token(principal: str, *scopes: Scope) -> str:
    return mint_token(
        KEY, algorithm="HS256", audience="voxthread", principal=principal, scopes=scopes, expires_at_s=FAR_S
    )


ALICE = token("alice", Scope.PUBLISH, Scope.READ_EVENTS)
BOB = token("bob", Scope.PUBLISH, Scope.READ_EVENTS)
ADMIN = token("root", Scope.ADMIN)


@asynccontextmanager
async def keyed_server() -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    async with (
        running_server(engines(NumberAgent()), auth={"key": KEY}) as running,
        httpx.AsyncClient(base_url=running.url, trust_env=False) as http,
    ):
        yield running, http


async def call(running: Running, number: int, bearer: str | None, alias: str | None = None) -> str:
    patience = Patience(connect_ms=20_000)
    async with open_call(running.url, token=bearer, frontend_session_id=alias, patience=patience) as line:
        await line.reply(await line.say(encode_utterance(tone(number, 600))))
    return line.session_id


def shown(bearer: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {bearer}"}


async def test_a_session_is_told_to_its_principal_and_to_admins_and_to_nobody_else() -> None:
    alias = SessionIdMint().frontend_session_id()
    async with keyed_server() as (running, http):
        async with anyio.create_task_group() as callers:
            callers.start_soon(call, running, 1, ALICE, alias)
            callers.start_soon(call, running, 2, BOB, alias)
        alices = (await http.get(API, headers=shown(ALICE))).json()["sessions"]
        bobs = (await http.get(API, headers=shown(BOB))).json()["sessions"]
        assert len(alices) == len(bobs) == 1
        (alices_id,), (bobs_id,) = ([each["session_id"] for each in page] for page in (alices, bobs))
        for mine, bearer, number in ((alices_id, ALICE, 1), (bobs_id, BOB, 2)):
            by_alias = (await http.get(f"{API}/{alias}", headers=shown(bearer))).json()
            assert by_alias == (await http.get(f"{API}/{mine}", headers=shown(bearer))).json()
            assert by_alias["session_id"] == mine
            assert [turn["user_text"] for turn in by_alias["turns"]] == [f"number {number}"]
        foreign = await http.get(f"{API}/{bobs_id}", headers=shown(ALICE))
        unknown = await http.get(f"{API}/{UNKNOWN}", headers=shown(ALICE))
        assert (foreign.status_code, foreign.content) == (404, unknown.content)
        assert (await http.get(f"{API}/{bobs_id}/events", headers=shown(ALICE))).content == unknown.content
        assert len((await http.get(API, headers=shown(ADMIN))).json()["sessions"]) == 2
        ambiguous = await http.get(f"{API}/{alias}", headers=shown(ADMIN))
        assert (ambiguous.status_code, ambiguous.json()["code"]) == (409, "session_id_ambiguous")


async def test_without_a_token_or_with_a_wrong_one_nothing_is_told() -> None:
    async with keyed_server() as (_running, http):
        for path in (API, f"{API}/{UNKNOWN}", f"{API}/{UNKNOWN}/events"):
            missing = await http.get(path)
            assert (missing.status_code, missing.json()["code"]) == (401, "token_missing")
            assert "WWW-Authenticate" in missing.headers
            unscoped = await http.get(path, headers=shown(token("eve", Scope.PLAY)))
            assert (unscoped.status_code, unscoped.json()["code"]) == (403, "scope_missing")
            forged = await http.get(path, headers={"X-Session-Token": "vst_nobody"})
            assert (forged.status_code, forged.json()["code"]) == (401, "token_invalid")


async def test_a_session_token_tells_of_its_session_only_while_it_lives() -> None:
    async with keyed_server() as (running, http):
        await call(running, 1, ALICE)
        async with httpx.AsyncClient(base_url=running.url, trust_env=False) as doors:
            headers = {"Content-Type": "application/sdp", **shown(ALICE)}
            opened = await doors.post("/whip", content=OFFER, headers=headers)
            session = {"X-Session-Token": opened.headers["X-Session-Token"]}
            listed = (await http.get(API, headers=session)).json()["sessions"]
            assert [each["session_id"] for each in listed] == [opened.headers["X-Session-ID"]]
            assert (await http.get(f"{API}/{listed[0]['session_id']}", headers=session)).status_code == 200
            await doors.delete(opened.headers["Location"], headers=session)
            assert (await http.get(API, headers=session)).status_code == 401


async def test_in_open_mode_a_page_under_a_foreign_name_is_told_nothing() -> None:
    async with (
        running_server(engines(NumberAgent())) as running,
        httpx.AsyncClient(base_url=running.url, trust_env=False) as http,
    ):
        assert (await http.get(API)).status_code == 200
        rebound = await http.get(API, headers={"Host": "evil.example"})
        assert (rebound.status_code, rebound.json()["code"]) == (403, "host_forbidden")
        cross = await http.get(API, headers={"Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in cross.headers


async def test_events_come_in_pages_without_holes_and_end_with_the_session() -> None:
    async with (
        running_server(engines(NumberAgent())) as running,
        httpx.AsyncClient(base_url=running.url, trust_env=False) as http,
    ):
        session_id = await call(running, 5, None)
        found: list[dict[str, Any]] = []
        after_seq, ended = 0, False
        while not ended:
            page = (
                await http.get(f"{API}/{session_id}/events", params={"after_seq": after_seq, "limit": 4})
            ).json()
            assert len(page["events"]) <= 4
            found += page["events"]
            after_seq, ended = page["next_after_seq"], page["ended"]
        assert [event["seq"] for event in found] == list(range(1, len(found) + 1))
        assert found[-1]["type"] == "session.closed"
        assert {event["session_id"] for event in found} == {session_id}


async def test_the_command_line_tells_the_story_of_a_finished_call() -> None:
    alias = SessionIdMint().frontend_session_id()
    async with running_server(engines(NumberAgent())) as running:
        session_id = await call(running, 7, None, alias)

        def ask(*arguments: str) -> str:
            result = CliRunner().invoke(main, ["session", *arguments, "--url", running.url])
            assert result.exit_code == 0, result.output
            return result.stdout

        for either in (session_id, alias):
            told = await anyio.to_thread.run_sync(ask, "show", either)
            for part in (session_id, alias, "number 7", "You are number 7.", "first_audio", "hung_up"):
                assert part in told
        assert session_id in await anyio.to_thread.run_sync(ask, "ls")
        followed = await anyio.to_thread.run_sync(ask, "follow", session_id, "--json")
        assert followed == await anyio.to_thread.run_sync(ask, "show", session_id, "--json")


# -- the index over many sessions ------------------------------------------------------------------------


class Pen:
    """Writes events of numbered sessions, a second apart."""

    def __init__(self, bus: MemoryBus) -> None:
        self._bus = bus
        self._seqs: dict[int, int] = {}

    @staticmethod
    def id(number: int) -> str:
        return f"session_{1_753_590_741_000_000 + number}_5cc15fe6"

    async def write(
        self, number: int, event: Event, *, principal: str = "alice", alias: str | None = None
    ) -> None:
        seq = self._seqs[number] = self._seqs.get(number, 0) + 1
        envelope = Envelope(
            session_id=self.id(number),
            frontend_session_id=alias or self.id(number),
            epoch=1,
            seq=seq,
            at_ms=NOW_MS + number * 1_000 + seq,
            event=event,
        )
        partition = number % self._bus.partitions
        await self._bus.append(Stream.EVENTS, partition, encode_event(envelope, principal=principal))

    async def open(self, number: int, **options: Any) -> None:
        await self.write(number, SessionCreated(agent="echo", partition=0, via="whip"), **options)

    async def close(self, number: int, **options: Any) -> None:
        await self.write(number, SessionClosed(reason="hung_up"), **options)


@asynccontextmanager
async def folding(stories: SessionStories, bus: MemoryBus) -> AsyncIterator[None]:
    """Run until everything written so far is folded."""
    async with anyio.create_task_group() as tasks:
        await tasks.start(stories.run)
        await anyio.wait_all_tasks_blocked()
        yield
        tasks.cancel_scope.cancel()


def numbers_of(page: list[Any]) -> list[int]:
    return [int(session.session_id.split("_")[1]) - 1_753_590_741_000_000 for session in page]


async def test_pages_go_from_newest_to_oldest_and_hold_each_session_once() -> None:
    bus = MemoryBus(3)
    pen, stories = Pen(bus), SessionStories(bus, now_ms=lambda: NOW_MS)
    for number in range(25):
        await pen.open(number, principal="alice" if number % 2 else "bob")
    for number in range(0, 25, 3):
        await pen.close(number, principal="alice" if number % 2 else "bob")
    async with folding(stories, bus):
        seen: list[int] = []
        before = None
        while page := stories.index.page(Viewer(), states=("live", "ended"), before=before, limit=4):
            seen += numbers_of(page)
            before = page[-1].key
        assert seen == list(range(24, -1, -1))
        alices = stories.index.page(Viewer(principal="alice"), states=("live", "ended"), before=None, limit=99)
        assert numbers_of(alices) == list(range(23, 0, -2))
        ended = stories.index.page(Viewer(), states=("ended",), before=None, limit=99)
        assert numbers_of(ended) == list(range(24, -1, -3))


async def test_the_oldest_ended_sessions_are_forgotten_and_live_ones_never() -> None:
    bus = MemoryBus(1)
    pen, stories = Pen(bus), SessionStories(bus, kept_ended=5, now_ms=lambda: NOW_MS)
    await pen.open(0)
    for number in range(1, 20):
        await pen.open(number)
        await pen.close(number)
    async with folding(stories, bus):
        kept = stories.index.page(Viewer(), states=("live", "ended"), before=None, limit=99)
        assert numbers_of(kept) == [19, 18, 17, 16, 15, 0]
        with pytest.raises(SessionError, match="session_unknown"):
            stories.index.find(pen.id(3), Viewer())


async def test_a_session_nobody_closed_is_lost_after_the_longest_a_session_may_last() -> None:
    bus = MemoryBus(1)
    later_ms = NOW_MS + SESSION_MAX_MS + 60_000
    pen, stories = Pen(bus), SessionStories(bus, now_ms=lambda: later_ms)
    await pen.open(0)
    await pen.open(1)
    async with folding(stories, bus):
        assert stories.index.find(pen.id(0), Viewer()).end_reason == LOST


async def test_a_long_story_is_read_from_near_the_place_asked_for() -> None:
    bus = MemoryBus(1)
    pen, stories = Pen(bus), SessionStories(bus, now_ms=lambda: NOW_MS)
    alias = "session_1753590741399_qlgq6cfjw"
    await pen.open(0)
    await pen.open(1)
    await pen.write(0, SessionBound(), alias=alias)
    for utterance in range(300):
        text = UserTranscript(utterance_id=utterance, text=str(utterance), final=True)
        await pen.write(0, text, alias=alias)
        await pen.write(1, text)
    async with folding(stories, bus):
        session = stories.index.find(alias, Viewer())
        assert session.position_before(250) > 250
        events = await stories.events(session, after_seq=250, limit=10)
        assert [f'"seq":{seq},' in event.decode() for seq, event in enumerate(events, 251)] == [True] * 10
        assert (await stories.story(session)).events == 302


async def test_a_story_whose_beginning_has_expired_is_told_from_what_is_left() -> None:
    bus = MemoryBus(1, {**dict.fromkeys(Stream, 1_000_000), Stream.EVENTS: 20_000})
    pen, stories = Pen(bus), SessionStories(bus, now_ms=lambda: NOW_MS)
    async with folding(stories, bus):
        await pen.open(0)
        await pen.write(0, UserTranscript(utterance_id=1, text="hello", final=True))
        await anyio.wait_all_tasks_blocked()
        await pen.open(1)
        for utterance in range(100):
            await pen.write(1, UserTranscript(utterance_id=utterance, text="x", final=True))
            await anyio.wait_all_tasks_blocked()
        with pytest.raises(SessionError, match="session_events_expired"):
            await stories.story(stories.index.find(pen.id(0), Viewer()))
        partial = await stories.story(stories.index.find(pen.id(1), Viewer()))
        assert partial.created_at_ms is None
        assert 0 < partial.events < 101
