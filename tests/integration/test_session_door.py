"""What both doors do with a caller: join, open, refuse, expire."""

import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest
import structlog
from anyio.lowlevel import checkpoint
from prometheus_client import REGISTRY

from voxthread.bus.memory import MemoryBus
from voxthread.core.failures import BusError, MediaError, SessionError
from voxthread.sessions.door import OpenedSession, SessionDoor
from voxthread.sessions.errors import http_status
from voxthread.sessions.host import Via
from voxthread.sessions.hosted import RESUMABLE_MS
from voxthread.sessions.identity import SessionIdMint
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.sessions.registry import SESSION_MAX_MS, SessionRegistry
from voxthread.wire.claims import SessionClaim
from voxthread.wire.log import Record, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

ALIAS = "session_1753590741399_qlgq6cfjw"
OTHER_ALIAS = "session_1753590741400_aaaaaaaaa"
ANONYMOUS = "anonymous_0011223344556677"


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    structlog.reset_defaults()


class FlakyBus(MemoryBus):
    """A log that can be down, and slow to take the end of a session."""

    is_down = False
    breaks_after_leg = False
    takes_releases: anyio.Event | None = None

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        if self.is_down:
            raise BusError("bus.down", "the log takes no records", retryable=True)
        if self.takes_releases is not None and b"session.release" in record.value:
            await self.takes_releases.wait()
        if self.breaks_after_leg and b"leg.claim" in record.value:
            self.is_down = True
        return await super().append(stream, partition, record)


@dataclass
class Host:
    """Remembers what it was told; `full` it takes no session, `slow` it never finishes, and when it `fills_up`
    somebody else has just taken the last line."""

    story: list[tuple[str, ...]] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    full: bool = False
    slow: bool = False
    fills_up: bool = False
    opening: anyio.Event = field(default_factory=anyio.Event)

    async def session_opened(self, session: SessionClaim, via: Via) -> None:
        self.opening.set()
        if self.slow:
            await anyio.sleep_forever()
        for _ in range(3):
            await checkpoint()
        if self.full:
            raise MediaError("media.full", "no room", retryable=True)
        self.story.append(("opened", session.session_id, via))

    def check_room(self) -> None:
        if self.full:
            raise MediaError("media.full", "no room", retryable=True)

    async def leg_resumed(self, session: SessionClaim, epoch: int, frontend_session_id: str) -> None:
        if self.fills_up:
            raise MediaError("media.full", "no room", retryable=True)
        self.story.append(("resumed", session.session_id, frontend_session_id))
        self.epochs.append(epoch)
        await checkpoint()

    def leg_moved(self, session_id: str) -> None:
        self.story.append(("moved", session_id))

    async def frontend_bound(self, session_id: str, frontend_session_id: str) -> None:
        self.story.append(("bound", session_id, frontend_session_id))

    async def id_refused(self, session_id: str, rule: str) -> None:
        self.story.append(("id_refused", session_id, rule))

    async def session_closed(self, session_id: str, reason: str) -> None:
        self.story.append(("closed", session_id, reason))


@dataclass
class Setting:
    bus: FlakyBus
    registry: SessionRegistry
    host: Host
    door: SessionDoor
    now_ms: int = 1_753_590_741_399

    async def open(
        self,
        alias: str | None = None,
        *,
        principal: str = "alice",
        token: str | None = None,
        agent: str | None = None,
        via: Via = "ws",
    ) -> OpenedSession:
        return await self.door.open(
            frontend_session_id=alias, principal=principal, session_token=token, agent=agent, via=via
        )


@asynccontextmanager
async def setting(
    *, allow_anonymous: bool = True, bus: FlakyBus | None = None, media_id: str = "media_a"
) -> AsyncIterator[Setting]:
    def now_ms() -> int:
        return it.now_ms

    bus, host, invalid_ids = bus or FlakyBus(), Host(), InvalidIds()
    registry = SessionRegistry(
        bus, media_id=media_id, mint=SessionIdMint(), invalid_ids=invalid_ids, now_ms=now_ms
    )
    door = SessionDoor(
        registry,
        host,
        invalid_ids=invalid_ids,
        agents=["hotel", "chat"],
        partitions=[4, 5],
        allow_anonymous=allow_anonymous,
        now_ms=now_ms,
    )
    it = Setting(bus, registry, host, door)
    async with anyio.create_task_group() as tasks:
        await tasks.start(registry.run)
        yield it
        tasks.cancel_scope.cancel()


async def refused(call: Awaitable[object], code: str, status: int) -> None:
    with pytest.raises(SessionError) as raised:
        await call
    assert (raised.value.code, http_status(raised.value)) == (code, status)


@pytest.mark.parametrize("via", ["whip", "ws"])
async def test_the_first_door_makes_the_session_and_the_host_knows_before_the_caller(via: Via) -> None:
    async with setting() as it:
        opened = await it.open(ALIAS, via=via)
        assert opened.is_new
        assert it.host.story == [("opened", opened.session_id, via)]
        assert opened.frontend_session_id == ALIAS
        session = it.registry.session(opened.session_id)
        assert session is not None
        assert (session.agent, session.partition) == ("hotel", opened.partition)


async def test_without_a_frontend_id_each_call_is_a_session_named_by_its_own_id() -> None:
    async with setting() as it:
        opened = [await it.open() for _ in range(3)]
        assert len({session.session_id for session in opened}) == 3
        assert all(session.frontend_session_id == session.session_id for session in opened)
        assert [session.partition for session in opened] == [4, 5, 4]


@pytest.mark.parametrize(("first", "second"), [("whip", "ws"), ("ws", "whip"), ("ws", "ws")])
async def test_the_other_door_joins_with_the_token_whoever_comes_first(first: Via, second: Via) -> None:
    async with setting() as it:
        opened = await it.open(ALIAS, principal=ANONYMOUS, via=first)
        joined = await it.open(ALIAS, principal="anonymous_other", token=opened.token, via=second)
        assert joined.session_id == opened.session_id
        assert (joined.is_new, joined.token) == (False, opened.token)
        assert len(it.host.story) == 1


async def test_a_joining_door_names_a_session_that_has_no_alias_yet() -> None:
    async with setting() as it:
        opened = await it.open(via="whip")
        joined = await it.open(ALIAS, token=opened.token)
        again = await it.open(OTHER_ALIAS, token=opened.token)
        assert joined.frontend_session_id == ALIAS
        assert again.frontend_session_id == ALIAS
        assert it.host.story[1:] == [("bound", opened.session_id, ALIAS)]
        assert it.registry.media_id_for("alice", OTHER_ALIAS) is None


@pytest.mark.parametrize(
    "token", ["", "vst_unknown", "x" * 200, "é", "\ud800", "session_1753590741399_qlgq6cfjw"]
)
async def test_an_unknown_token_opens_nothing(token: str) -> None:
    async with setting() as it:
        opened = await it.open(ALIAS)
        await refused(it.open(ALIAS, token=token), "token_invalid", 401)
        await refused(it.open(ALIAS, token=opened.session_id), "token_invalid", 401)


async def test_a_token_is_dead_with_its_session() -> None:
    async with setting() as it:
        opened = await it.open(ALIAS)
        await it.door.close(opened.session_id, "ended")
        await refused(it.open(token=opened.token), "token_invalid", 401)


async def test_a_token_does_not_open_the_session_to_another_principal() -> None:
    async with setting() as it:
        opened = await it.open(ALIAS, principal="alice")
        await refused(it.open(principal="bob", token=opened.token), "session_forbidden", 403)


async def test_a_second_principal_with_the_same_frontend_id_gets_a_session_of_its_own() -> None:
    async with setting() as it:
        mine = await it.open(ALIAS, principal="alice")
        theirs = await it.open(ALIAS, principal="bob")
        assert theirs.is_new
        assert mine.session_id != theirs.session_id
        assert mine.frontend_session_id == theirs.frontend_session_id == ALIAS


@pytest.mark.parametrize("via", ["whip", "ws"])
async def test_the_same_frontend_id_again_is_refused_while_its_peer_is_connected(via: Via) -> None:
    async with setting() as it:
        opened = await it.open(ALIAS, via="whip")
        it.door.peer_connected(opened.session_id)
        await refused(it.open(ALIAS, via=via), "alias_in_use", 409)
        assert (await it.open(ALIAS, token=opened.token, via=via)).session_id == opened.session_id


async def test_the_same_frontend_id_again_joins_when_the_peer_is_gone_and_both_tokens_work() -> None:
    async with setting() as it:
        opened = await it.open(ALIAS, via="whip")
        it.door.peer_connected(opened.session_id)
        it.door.peer_lost(opened.session_id)
        again = await it.open(ALIAS, via="whip")
        assert (again.session_id, again.is_new) == (opened.session_id, False)
        for token in (opened.token, again.token):
            assert (await it.open(token=token)).session_id == opened.session_id


async def test_a_second_peer_is_refused_while_the_first_is_expected_but_a_socket_joins() -> None:
    async with setting() as it:
        opened = await it.open(ALIAS, via="whip")
        await refused(it.open(ALIAS, via="whip"), "alias_in_use", 409)
        assert (await it.open(ALIAS, via="ws")).session_id == opened.session_id


@pytest.mark.parametrize(("via", "outcomes"), [("ws", 10), ("whip", 1)])
async def test_the_same_frontend_id_many_times_at_once_makes_one_session(via: Via, outcomes: int) -> None:
    async with setting() as it:
        opened: list[OpenedSession] = []
        refusals: set[str] = set()

        async def call() -> None:
            try:
                opened.append(await it.open(ALIAS, via=via))
            except SessionError as error:
                refusals.add(error.code)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(call)
        assert len(opened) == outcomes
        assert refusals <= {"alias_in_use"}
        assert len({session.session_id for session in opened}) == 1
        assert [session.is_new for session in opened].count(True) == 1
        assert len(it.host.story) == len(it.registry) == 1


@pytest.mark.parametrize(
    ("alias", "rule"),
    [
        ("", "too_short"),
        ("nobody_1753590741399_qlgq6cfjw", "bad_prefix"),
        ("session_1753590741399", "too_few_parts"),
        ("session_17535907x1399_qlgq6cfjw", "timestamp_not_numeric"),
        ("x" * 10_000_000, "too_long"),
        (ALIAS + "\r\nSet-Cookie: a=b", "bad_character"),
        ("session_1753590741399_", "empty_random_part"),
    ],
)
async def test_an_invalid_frontend_id_is_refused_with_its_rule_and_disturbs_nothing(
    alias: str, rule: str
) -> None:
    async with setting() as it:
        opened = await it.open(ALIAS)
        await refused(it.open(alias), rule, 400)
        await refused(it.open(alias, token=opened.token), rule, 400)
        assert len(it.registry) == 1
        assert (await it.open(token=opened.token)).frontend_session_id == ALIAS


async def test_an_agent_that_is_not_there_is_refused() -> None:
    async with setting() as it:
        await refused(it.open(agent="nobody"), "agent_unknown", 404)
        opened = await it.open(agent="chat")
        session = it.registry.session(opened.session_id)
        assert session is not None
        assert session.agent == "chat"


async def test_with_a_key_set_the_anonymous_may_join_but_open_nothing() -> None:
    async with setting(allow_anonymous=False) as it:
        await refused(it.open(ALIAS, principal=ANONYMOUS), "token_missing", 401)
        opened = await it.open(ALIAS, principal="alice")
        joined = await it.open(principal=ANONYMOUS, token=opened.token)
        assert joined.session_id == opened.session_id


async def test_a_session_the_host_refuses_is_gone_and_its_name_is_free() -> None:
    async with setting() as it:
        it.host.full = True
        with pytest.raises(MediaError):
            await it.open(ALIAS)
        assert len(it.registry) == 0
        it.host.full = False
        assert (await it.open(ALIAS)).is_new


async def test_a_caller_who_leaves_while_the_host_opens_leaves_no_session_behind() -> None:
    async with setting() as it:
        it.host.slow = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(it.open, ALIAS)
            await it.host.opening.wait()
            assert len(it.registry) == 1
            tasks.cancel_scope.cancel()
        assert len(it.registry) == 0


async def test_a_session_without_a_peer_expires_after_a_minute_and_one_with_a_peer_does_not() -> None:
    async with setting() as it:
        waiting = await it.open(ALIAS)
        connected = await it.open(via="whip")
        it.door.peer_connected(connected.session_id)
        it.now_ms += RESUMABLE_MS - 1
        await it.door.expire()
        assert len(it.registry) == 2
        it.now_ms += 1
        await it.door.expire()
        assert it.host.story[2:] == [("closed", waiting.session_id, "expired")]
        assert (await it.open(ALIAS)).is_new

        it.door.peer_lost(connected.session_id)
        it.now_ms += RESUMABLE_MS - 1
        await it.door.expire()
        assert it.registry.session(connected.session_id) is not None
        it.now_ms += 1
        await it.door.expire()
        assert len(it.registry) == 0


async def test_no_session_outlives_the_greatest_age_even_while_connected() -> None:
    async with setting() as it:
        opened = await it.open(ALIAS, via="whip")
        it.door.peer_connected(opened.session_id)
        it.now_ms += SESSION_MAX_MS
        await it.door.expire()
        assert it.host.story[1:] == [("closed", opened.session_id, "expired")]


async def test_a_session_closed_by_many_at_once_is_closed_once() -> None:
    async with setting() as it:
        opened = await it.open(ALIAS)
        it.now_ms += RESUMABLE_MS
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(it.door.close, opened.session_id, "ended")
            tasks.start_soon(it.door.expire)
        assert it.host.story[1:] == [("closed", opened.session_id, "ended")]


async def test_a_session_that_cannot_be_closed_while_the_log_is_down_is_closed_later() -> None:
    async with setting() as it:
        opened = await it.open(ALIAS, via="whip")
        it.door.peer_connected(opened.session_id)
        it.bus.is_down = True
        with pytest.raises(BusError):
            await it.door.close(opened.session_id, "ended")
        it.bus.is_down = False
        it.now_ms += RESUMABLE_MS
        await it.door.expire()
        assert it.host.story[1:] == [("closed", opened.session_id, "expired")]
        assert len(it.registry) == 0


async def test_news_of_the_peer_of_a_closed_session_changes_nothing() -> None:
    async with setting() as it:
        opened = await it.open(ALIAS, via="whip")
        await it.door.close(opened.session_id, "ended")
        it.door.peer_connected(opened.session_id)
        it.door.peer_lost(opened.session_id)
        it.now_ms += RESUMABLE_MS
        await it.door.expire()
        assert len(it.host.story) == 2


async def test_a_session_obeys_its_principal_and_its_token_and_nobody_else() -> None:
    async with setting() as it:
        mine = await it.open(ALIAS)
        theirs = await it.open(ALIAS, principal="bob")
        it.door.authorize(mine.session_id, principal="alice", session_token=None)
        it.door.authorize(mine.session_id, principal=ANONYMOUS, session_token=mine.token)
        for principal, token, code in (
            ("bob", None, "session_forbidden"),
            ("bob", mine.token, "session_forbidden"),
            ("bob", theirs.token, "session_forbidden"),
            (ANONYMOUS, None, "token_missing"),
            (ANONYMOUS, theirs.token, "session_forbidden"),
            (ANONYMOUS, "vst_unknown", "token_invalid"),
        ):
            with pytest.raises(SessionError, match=code):
                it.door.authorize(mine.session_id, principal=principal, session_token=token)
        with pytest.raises(SessionError, match="session_unknown"):
            it.door.authorize("session_1753590741399040_5cc15fe6", principal="alice", session_token=None)


async def test_a_thousand_callers_in_random_order_each_keep_their_own_session() -> None:
    async with setting() as it:
        seen: dict[str, str] = {}

        async def call(n: int) -> None:
            alias = f"session_1753590741399_{n % 500:09d}"
            first, second = random.sample(["whip", "ws"], 2)
            opened = await it.open(alias, principal=f"caller-{n}", via="whip" if first == "whip" else "ws")
            await checkpoint()
            joined = await it.open(
                alias, principal=f"caller-{n}", token=opened.token, via="whip" if second == "whip" else "ws"
            )
            assert joined.session_id == opened.session_id
            assert joined.frontend_session_id == alias
            assert it.registry.media_id_for(f"caller-{n}", alias) == opened.session_id
            seen[opened.session_id] = f"caller-{n}"

        async with anyio.create_task_group() as tasks:
            for n in random.sample(range(1_000), 1_000):
                tasks.start_soon(call, n)
        assert len(seen) == len(it.registry) == 1_000


@asynccontextmanager
async def two_processes() -> AsyncIterator[tuple[Setting, Setting]]:
    bus = FlakyBus()
    async with setting(bus=bus, media_id="media_a") as here, setting(bus=bus, media_id="media_b") as there:
        yield here, there


async def resume(at: Setting, token: str | None, principal: str = "alice") -> OpenedSession:
    assert token is not None
    return await at.door.resume(token, principal=principal, frontend_session_id=None)


async def folded(*processes: Setting) -> None:
    """Each of them has folded all there is on the log, for it has folded one refused claim more."""
    for process in processes:
        with pytest.raises(SessionError, match="session_unknown"):
            await process.registry.add_token("session_1753590741399040_5cc15fe6", b"")


async def test_a_call_is_resumed_at_another_process_and_the_one_it_was_at_lets_it_go_silently() -> None:
    async with two_processes() as (here, there):
        opened = await here.open(ALIAS, via="whip")
        here.door.peer_connected(opened.session_id)
        await folded(there)
        resumed = await resume(there, opened.resume_token)
        assert (resumed.session_id, resumed.frontend_session_id) == (opened.session_id, ALIAS)
        assert not resumed.is_new
        assert resumed.token != opened.token
        assert resumed.resume_token not in (None, opened.resume_token)
        assert there.host.story == [("resumed", opened.session_id, ALIAS)]
        assert there.host.epochs[0] > 0
        await folded(here)
        assert here.host.story[1:] == [("moved", opened.session_id)]
        for token in (opened.token, resumed.token):
            assert (await here.open(token=token)).session_id == opened.session_id


async def test_a_resume_token_is_used_up_wherever_it_is_shown_again() -> None:
    async with two_processes() as (here, there):
        opened = await here.open(via="whip")
        await folded(there)
        resumed = await resume(there, opened.resume_token)
        await folded(here)
        for at in (here, there):
            await refused(resume(at, opened.resume_token), "resume_token_invalid", 401)
        back = await resume(here, resumed.resume_token)
        assert back.session_id == opened.session_id
        assert [epoch > there.host.epochs[0] for epoch in here.host.epochs] == [True]


async def test_a_resume_token_shown_many_times_at_once_is_accepted_once() -> None:
    async with two_processes() as (here, there):
        opened = await here.open(via="whip")
        await folded(there)
        outcomes: list[str] = []

        async def call(at: Setting) -> None:
            try:
                await resume(at, opened.resume_token)
                outcomes.append("resumed")
            except SessionError as error:
                outcomes.append(error.code)

        async with anyio.create_task_group() as tasks:
            for at in (here, there) * 5:
                tasks.start_soon(call, at)
        assert sorted(outcomes) == [*["resume_token_invalid"] * 9, "resumed"]


@pytest.mark.parametrize("token", ["", "vrt_unknown", "x" * 200, "é", "\ud800"])
async def test_a_malformed_or_unknown_resume_token_resumes_nothing(token: str) -> None:
    async with setting() as it:
        opened = await it.open(via="whip")
        await refused(resume(it, token), "resume_token_invalid", 401)
        await refused(resume(it, opened.token), "resume_token_invalid", 401)
        await refused(resume(it, opened.session_id), "resume_token_invalid", 401)


async def test_a_resume_token_is_worth_nothing_to_another_principal_and_stays_good() -> None:
    async with setting() as it:
        opened = await it.open(via="whip", principal="alice")
        await refused(resume(it, opened.resume_token, principal="bob"), "resume_token_invalid", 401)
        assert (await resume(it, opened.resume_token, principal=ANONYMOUS)).session_id == opened.session_id


async def test_a_resume_token_is_dead_with_its_session() -> None:
    async with two_processes() as (here, there):
        opened = await here.open(via="whip")
        here.door.peer_connected(opened.session_id)
        here.door.peer_lost(opened.session_id)
        here.now_ms += RESUMABLE_MS
        await here.door.expire()
        await folded(there)
        for at in (here, there):
            await refused(resume(at, opened.resume_token), "resume_token_invalid", 401)


async def test_resuming_where_the_call_is_keeps_its_leg_and_rotates_the_token() -> None:
    async with setting() as it:
        opened = await it.open(via="whip")
        it.door.peer_connected(opened.session_id)
        resumed = await resume(it, opened.resume_token)
        assert it.host.story == [("opened", opened.session_id, "whip")]
        await refused(resume(it, opened.resume_token), "resume_token_invalid", 401)
        assert (await resume(it, resumed.resume_token)).session_id == opened.session_id


async def test_a_resumed_session_waits_a_minute_for_its_peer_where_it_is_now() -> None:
    async with two_processes() as (here, there):
        opened = await here.open(via="whip")
        await folded(there)
        await resume(there, opened.resume_token)
        await folded(here)
        here.now_ms += RESUMABLE_MS
        await here.door.expire()
        assert here.host.story[1:] == [("moved", opened.session_id)]
        there.now_ms += RESUMABLE_MS - 1
        await there.door.expire()
        assert there.registry.session(opened.session_id) is not None
        there.now_ms += 1
        await there.door.expire()
        assert there.host.story[1:] == [("closed", opened.session_id, "expired")]


async def test_a_session_resumed_elsewhere_as_it_expires_lives() -> None:
    async with two_processes() as (here, there):
        opened = await here.open(via="whip")
        await folded(there)
        here.now_ms += RESUMABLE_MS
        here.bus.takes_releases = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(here.door.expire)
            await resume(there, opened.resume_token)
            here.bus.takes_releases.set()
        await folded(here, there)
        assert there.registry.session(opened.session_id) is not None
        assert here.host.story[1:] == [("moved", opened.session_id)]


async def test_a_call_with_the_session_token_brings_the_leg_along_and_a_socket_does_not() -> None:
    async with two_processes() as (here, there):
        opened = await here.open(via="ws")
        assert opened.resume_token is None
        await folded(there)
        socket = await there.open(OTHER_ALIAS, token=opened.token, via="ws")
        assert socket.session_id == socket.frontend_session_id == opened.session_id
        assert there.host.story == []
        call = await there.open(OTHER_ALIAS, token=opened.token, via="whip")
        assert call.resume_token is not None
        assert there.host.story == [
            ("resumed", opened.session_id, opened.session_id),
            ("bound", opened.session_id, OTHER_ALIAS),
        ]


async def test_a_name_alone_takes_no_call_away_from_another_process() -> None:
    async with two_processes() as (here, there):
        opened = await here.open(ALIAS, via="whip")
        await folded(there)
        await refused(there.open(ALIAS, via="whip"), "alias_in_use", 409)
        assert (await there.open(ALIAS, via="ws")).session_id == opened.session_id


async def test_a_full_process_resumes_nothing_and_the_token_stays_good() -> None:
    async with two_processes() as (here, there):
        opened = await here.open(via="whip")
        await folded(there)
        there.host.full = True
        with pytest.raises(MediaError, match="no room"):
            await resume(there, opened.resume_token)
        there.host.full = False
        assert (await resume(there, opened.resume_token)).session_id == opened.session_id


async def test_a_process_that_fills_up_as_it_resumes_gives_the_token_back() -> None:
    async with two_processes() as (here, there):
        opened = await here.open(via="whip")
        await folded(there)
        there.host.fills_up = True
        for _ in range(2):
            with pytest.raises(MediaError, match="no room"):
                await resume(there, opened.resume_token)
        there.host.fills_up = False
        await folded(here)
        resumed = await resume(here, opened.resume_token)
        assert resumed.session_id == opened.session_id
        await folded(there)
        await refused(resume(there, opened.resume_token), "resume_token_invalid", 401)
        assert (await resume(there, resumed.resume_token)).session_id == opened.session_id


async def test_a_process_that_fills_up_while_the_log_is_away_answers_that_it_is_full() -> None:
    async with two_processes() as (here, there):
        opened = await here.open(via="whip")
        await folded(there)
        there.host.fills_up = there.bus.breaks_after_leg = True
        with pytest.raises(MediaError, match="no room"):
            await resume(there, opened.resume_token)
        there.host.fills_up = there.bus.breaks_after_leg = there.bus.is_down = False
        await refused(resume(there, opened.resume_token), "resume_token_invalid", 401)
        assert (await there.open(token=opened.token, via="whip")).session_id == opened.session_id


async def test_a_process_that_stops_leaves_its_sessions_and_takes_none_back() -> None:
    async with two_processes() as (here, there):
        opened = await here.open(via="whip")
        await folded(there)
        here.host.full = True
        here.door.leave_all()
        with pytest.raises(MediaError, match="no room"):
            await resume(here, opened.resume_token)
        here.now_ms += RESUMABLE_MS
        await here.door.expire()
        assert (await resume(there, opened.resume_token)).session_id == opened.session_id


async def test_each_process_counts_the_sessions_it_hosts() -> None:
    def hosted() -> float:
        return REGISTRY.get_sample_value("voxthread_sessions") or 0.0

    before = hosted()
    async with two_processes() as (here, there):
        opened = await here.open(via="whip")
        await folded(there)
        await resume(there, opened.resume_token)
        await folded(here)
        assert hosted() == before + 1  # both processes of the test count into one registry of metrics
        await there.door.close(opened.session_id, "ended")
        assert hosted() == before
