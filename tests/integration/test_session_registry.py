"""The registry over a real log in memory: claims, both directions, many tasks at once, many processes."""

import random
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import anyio
import pytest
import structlog
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from voxthread.bus.memory import MemoryBus
from voxthread.core.failures import BusError, SessionError
from voxthread.observability import clock
from voxthread.sessions.errors import http_status
from voxthread.sessions.identity import SessionIdMint
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.sessions.registry import SESSION_MAX_MS, SessionRegistry
from voxthread.wire.claims import SessionClaim, encode_claim
from voxthread.wire.log import Record, StoredRecord, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

ALIAS = "session_1753590741399_qlgq6cfjw"
OTHER_ALIAS = "session_1753590741400_aaaaaaaaa"


@pytest.fixture(autouse=True)
def plain_logs() -> None:
    structlog.reset_defaults()


@asynccontextmanager
async def running(
    *buses: MemoryBus,
    mint: SessionIdMint | None = None,
    now_ms: Callable[[], int] = clock.now_ms,
) -> AsyncIterator[list[SessionRegistry]]:
    """One registry for each bus given; a bus given twice is two processes on one log."""
    async with anyio.create_task_group() as tasks:
        registries = []
        for bus in buses:
            registry = SessionRegistry(
                bus,
                media_id=f"media_{len(registries)}",
                mint=mint or SessionIdMint(),
                invalid_ids=InvalidIds(),
                now_ms=now_ms,
            )
            await tasks.start(registry.run)
            registries.append(registry)
        yield registries
        tasks.cancel_scope.cancel()


class FalteringBus(MemoryBus):
    """Reading fails after each record, and may be begun again from the next."""

    async def read(
        self, stream: Stream, partition: int, from_position: int
    ) -> AsyncGenerator[StoredRecord, None]:
        async with aclosing(super().read(stream, partition, from_position)) as records:
            yield await anext(records)
        raise BusError("bus.failed", "the broker said something odd", retryable=True)


async def create(
    registry: SessionRegistry,
    alias: str | None = None,
    principal: str = "alice",
    token: bytes = b"",
    resume: bytes = b"",
) -> tuple[SessionClaim, bool]:
    return await registry.get_or_create_session(
        alias,
        principal=principal,
        agent="hotel",
        partition=3,
        token_sha256=token or random.randbytes(32),
        resume_sha256=resume,
        component="ws",
    )


async def refused(change: Awaitable[object]) -> SessionError:
    with pytest.raises(SessionError) as raised:
        await change
    return raised.value


async def test_a_new_session_is_found_by_its_id_its_alias_and_its_token() -> None:
    async with running(MemoryBus()) as [registry]:
        session, is_new = await create(registry, ALIAS, token=b"t" * 32)
        assert is_new
        assert registry.session(session.session_id) == session
        assert registry.media_id_for("alice", ALIAS) == session.session_id
        assert registry.frontend_id_for(session.session_id) == ALIAS
        assert registry.session_of_token(b"t" * 32) == session


async def test_an_id_without_alias_falls_back_to_itself_and_says_so_once() -> None:
    async with running(MemoryBus()) as [registry]:
        with capture_logs() as lines:
            session, _ = await create(registry)
            assert registry.frontend_id_for(session.session_id) == session.session_id
            assert registry.frontend_id_for(session.session_id) == session.session_id
        assert [line["event"] for line in lines] == ["session.created", "alias.fallback"]


async def test_an_unknown_id_is_never_guessed() -> None:
    async with running(MemoryBus()) as [registry]:
        await create(registry)
        await create(registry, OTHER_ALIAS)
        unknown = "session_1753590741399040_5cc15fe6"
        with capture_logs() as lines:
            assert registry.media_id_for("alice", ALIAS) is None
            assert registry.media_id_for("bob", OTHER_ALIAS) is None
            assert registry.frontend_id_for(unknown) == unknown
            assert registry.session(unknown) is None
        assert lines == []


async def test_get_or_create_with_a_known_alias_returns_its_session() -> None:
    async with running(MemoryBus()) as [registry]:
        session, _ = await create(registry, ALIAS)
        assert await create(registry, ALIAS) == (session, False)
        theirs, is_new = await create(registry, ALIAS, principal="bob")
        assert is_new
        assert theirs.session_id != session.session_id


@pytest.mark.parametrize(
    ("alias", "rule"), [("x", "too_short"), (ALIAS + "\n", "bad_character"), ("x" * 10_000_000, "too_long")]
)
async def test_an_invalid_id_is_refused_before_anything_else(alias: str, rule: str) -> None:
    bus = MemoryBus()
    async with running(bus) as [registry]:
        session, _ = await create(registry)
        before = await bus.head(Stream.CLAIMS, 0)
        for change in (
            create(registry, alias),
            registry.register_alias(session.session_id, alias, component="ws"),
        ):
            error = await refused(change)
            assert (error.code, http_status(error)) == (rule, 400)
        assert await bus.head(Stream.CLAIMS, 0) == before


async def test_an_alias_can_be_bound_later_and_is_one_to_one() -> None:
    async with running(MemoryBus()) as [registry]:
        first, _ = await create(registry)
        second, _ = await create(registry)
        await registry.register_alias(first.session_id, ALIAS, component="ws")
        await registry.register_alias(first.session_id, ALIAS, component="ws")
        assert registry.frontend_id_for(first.session_id) == ALIAS

        taken = await refused(registry.register_alias(second.session_id, ALIAS, component="ws"))
        assert (taken.code, http_status(taken)) == ("alias_in_use", 409)
        named = await refused(registry.register_alias(first.session_id, OTHER_ALIAS, component="ws"))
        assert (named.code, http_status(named)) == ("session_has_alias", 409)
        unknown = await refused(
            registry.register_alias("session_1753590741399040_5cc15fe6", OTHER_ALIAS, component="ws")
        )
        assert (unknown.code, http_status(unknown)) == ("session_unknown", 404)


async def test_removal_takes_both_directions_away_and_is_told_once() -> None:
    async with running(MemoryBus()) as [registry]:
        session, _ = await create(registry, ALIAS)
        with capture_logs() as lines:
            await registry.remove_alias(session.session_id)
            await registry.remove_alias(session.session_id)
        assert [line["event"] for line in lines] == ["alias.removed"]
        assert registry.media_id_for("alice", ALIAS) is None
        assert registry.frontend_id_for(session.session_id) == session.session_id
        await registry.register_alias(session.session_id, OTHER_ALIAS, component="ws")
        assert registry.media_id_for("alice", OTHER_ALIAS) == session.session_id


async def test_the_life_of_a_mapping_is_told_in_info_lines_with_both_ids() -> None:
    async with running(MemoryBus()) as [registry]:
        with capture_logs() as lines:
            session, _ = await create(registry, ALIAS)
            assert await registry.close(session.session_id, "ended")
            assert not await registry.close(session.session_id, "ended")
        assert [line["event"] for line in lines] == [
            "session.created",
            "alias.bound",
            "alias.removed",
            "session.closed",
        ]
        for line in lines:
            assert (line["session_id"], line["frontend_session_id"]) == (session.session_id, ALIAS)
            assert line["log_level"] == "info"
        assert len(registry) == 0


async def test_a_minted_id_that_is_taken_is_minted_again() -> None:
    draws = iter([b"aaaa", b"aaaa", b"bbbb"])
    mint = SessionIdMint(now_us=lambda: 1753590741399040, random_bytes=lambda _: next(draws))
    async with running(MemoryBus(), mint=mint) as [registry]:
        first, _ = await create(registry)
        second, is_new = await create(registry)
        assert is_new
        assert (first.session_id[-8:], second.session_id[-8:]) == ("61616161", "62626262")


async def test_a_mint_that_only_repeats_itself_is_an_error_and_not_a_loop() -> None:
    mint = SessionIdMint(now_us=lambda: 1753590741399040, random_bytes=bytes)
    async with running(MemoryBus(), mint=mint) as [registry]:
        await create(registry)
        error = await refused(create(registry))
        assert (error.code, error.retryable, http_status(error)) == ("session_id_unavailable", True, 503)


async def test_sessions_past_the_greatest_age_expire_and_younger_ones_stay() -> None:
    now_ms = 1_753_590_741_399
    async with running(MemoryBus(), now_ms=lambda: now_ms) as [registry]:
        old, _ = await create(registry, ALIAS)
        now_ms += 1
        young, _ = await create(registry)
        now_ms += SESSION_MAX_MS - 1
        assert await registry.expire() == [old.session_id]
        assert registry.media_id_for("alice", ALIAS) is None
        assert registry.session(young.session_id) == young


async def test_a_process_that_lives_ends_its_old_sessions_itself_and_others_those_of_the_dead() -> None:
    now_ms = 1_753_590_741_399
    bus = MemoryBus()
    async with running(bus, bus, now_ms=lambda: now_ms) as [here, there]:
        session, _ = await create(here)
        await create(there)
        now_ms += SESSION_MAX_MS + 59_999
        assert session.session_id not in await there.expire()
        now_ms += 1
        assert session.session_id in await there.expire()


async def test_another_process_resolves_what_one_has_bound_also_when_it_starts_later() -> None:
    bus = MemoryBus()
    async with running(bus) as [here]:
        session, _ = await create(here, ALIAS)
        async with running(bus) as [there]:
            assert there.media_id_for("alice", ALIAS) == session.session_id
            assert there.session(session.session_id) == session
            await here.close(session.session_id, "ended")
            await create(there)  # what is folded behind it has been folded too
            assert there.session(session.session_id) is None


async def test_a_leg_is_claimed_by_its_token_and_the_process_it_was_at_is_told() -> None:
    bus = MemoryBus()
    async with running(bus, bus) as [here, there]:
        moved: list[str] = []
        here.on_leg_moved(moved.append)
        there.on_leg_moved(moved.append)
        session, _ = await create(here, resume=b"1")
        assert (here.hosts(session.session_id), there.hosts(session.session_id)) == (True, False)
        epoch = await there.claim_leg(session.session_id, resume_sha256=b"1", next_resume_sha256=b"2")
        assert epoch > 0
        await create(here)  # what is folded before it has been folded too
        assert (here.hosts(session.session_id), there.hosts(session.session_id)) == (False, True)
        assert moved == [session.session_id]
        assert here.session_of_resume_token(b"1") is None
        assert here.session_of_resume_token(b"2") == session
        again = await there.claim_leg(session.session_id, resume_sha256=b"2", next_resume_sha256=b"3")
        assert again > epoch
        assert moved == [session.session_id]


async def test_a_stale_token_claims_no_leg_and_whoever_needs_none_claims_that_of_a_living_session() -> None:
    async with running(MemoryBus()) as [registry]:
        session, _ = await create(registry, resume=b"1")
        await registry.claim_leg(session.session_id, resume_sha256=b"1", next_resume_sha256=b"2")
        for stale in (b"1", b"3", b""):
            error = await refused(
                registry.claim_leg(session.session_id, resume_sha256=stale, next_resume_sha256=b"4")
            )
            assert (error.code, http_status(error)) == ("resume_token_invalid", 401)
        await registry.claim_leg(session.session_id, resume_sha256=None, next_resume_sha256=b"5")
        assert registry.session_of_resume_token(b"2") is None
        await registry.close(session.session_id, "ended")
        assert registry.session_of_resume_token(b"5") is None
        dead = registry.claim_leg(session.session_id, resume_sha256=b"5", next_resume_sha256=b"6")
        assert (await refused(dead)).code == "resume_token_invalid"
        gone = registry.claim_leg(session.session_id, resume_sha256=None, next_resume_sha256=b"7")
        assert (await refused(gone)).code == "session_unknown"


async def test_a_process_cannot_end_a_session_that_has_moved_away() -> None:
    bus = MemoryBus()
    async with running(bus, bus) as [here, there]:
        session, _ = await create(here, ALIAS, resume=b"1")

        async def move() -> None:
            await there.claim_leg(session.session_id, resume_sha256=b"1", next_resume_sha256=b"2")

        closed: list[bool] = []

        async def close() -> None:
            closed.append(await here.close(session.session_id, "expired"))

        async with anyio.create_task_group() as tasks:  # the claim is on the log before the release
            tasks.start_soon(move)
            tasks.start_soon(close)
        assert closed == [False]
        assert here.media_id_for("alice", ALIAS) == session.session_id
        assert await there.close(session.session_id, "ended")


async def test_many_who_show_one_token_at_once_at_many_processes_claim_the_leg_once() -> None:
    bus = MemoryBus()
    async with running(*[bus] * 4) as registries:
        session, _ = await create(registries[0], resume=b"token")
        outcomes: list[str] = []

        async def claim(registry: SessionRegistry) -> None:
            try:
                await registry.claim_leg(
                    session.session_id, resume_sha256=b"token", next_resume_sha256=random.randbytes(32)
                )
                outcomes.append("granted")
            except SessionError as error:
                outcomes.append(error.code)

        async with anyio.create_task_group() as tasks:
            for registry in registries * 3:
                tasks.start_soon(claim, registry)
        assert sorted(outcomes) == ["granted", *["resume_token_invalid"] * 11]
        for registry in registries:
            await create(registry)
        assert [registry.hosts(session.session_id) for registry in registries].count(True) == 1


async def test_an_alias_claimed_by_two_processes_at_once_names_one_session_in_both() -> None:
    bus = MemoryBus()
    async with running(bus, bus) as registries:
        found: list[SessionClaim] = []

        async def claim(registry: SessionRegistry) -> None:
            session, _ = await create(registry, ALIAS)
            found.append(session)

        async with anyio.create_task_group() as tasks:
            for registry in registries * 5:
                tasks.start_soon(claim, registry)
        assert len({session.session_id for session in found}) == 1
        assert [len(registry) for registry in registries] == [1, 1]


async def test_records_that_are_no_claims_are_passed_over_and_warned_of() -> None:
    bus = MemoryBus()
    async with running(bus) as [registry]:
        with capture_logs() as lines:
            await bus.append(Stream.CLAIMS, 0, Record("x", b"\x00garbage"))
            bad = SessionClaim(
                session_id="session_1\nINFO forged",
                principal="p",
                agent="hotel",
                partition=0,
                token_sha256=b"",
                at_ms=0,
            )
            await bus.append(Stream.CLAIMS, 0, encode_claim(bad))
            session, _ = await create(registry)
        events = [line["event"] for line in lines]
        assert events == ["claim.malformed", "session.id_invalid", "session.created"]
        assert "\n" not in lines[1]["shown"]
        assert registry.session(session.session_id) == session


@pytest.mark.parametrize("steps", range(6))
async def test_a_creation_cancelled_at_any_step_leaves_no_session_behind(steps: int) -> None:
    async with running(MemoryBus()) as [registry]:
        finished: list[SessionClaim] = []

        async def create_and_tell() -> None:
            session, _ = await create(registry, ALIAS)
            finished.append(session)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create_and_tell)
            for _ in range(steps):
                await checkpoint()
            tasks.cancel_scope.cancel()
        assert len(registry) == len(finished)
        assert (registry.media_id_for("alice", ALIAS) is not None) == bool(finished)


class Crowd:
    """Tasks that do random things to few names, and check after each step that both directions agree."""

    def __init__(self, registries: list[SessionRegistry], seed: int) -> None:
        self.registries = registries
        self.random = random.Random(seed)
        self.sessions: list[SessionClaim] = []
        self.refusals: set[str] = set()

    async def act(self, steps: int) -> None:
        for _ in range(steps):
            registry = self.random.choice(self.registries)
            try:
                await self.step(registry)
            except SessionError as error:
                self.refusals.add(error.code)
            self.check()

    async def step(self, registry: SessionRegistry) -> None:
        alias = f"session_175359074139{self.random.randrange(3)}_qlgq6cfjw"
        principal = self.random.choice(["alice", "bob"])
        session = self.random.choice(self.sessions) if self.sessions else None
        match self.random.randrange(5), session:
            case 0, SessionClaim():
                await registry.register_alias(session.session_id, alias, component="ws")
            case 1, SessionClaim():
                await registry.remove_alias(session.session_id)
            case 2, SessionClaim():
                await registry.close(session.session_id, "ended")
            case 3, _:
                created, _ = await create(registry, None, principal)
                self.sessions.append(created)
            case _:
                created, _ = await create(registry, alias, principal)
                self.sessions.append(created)

    def check(self) -> None:
        for registry in self.registries:
            for session in self.sessions:
                alias = registry.alias_of(session.session_id)
                if alias is not None:
                    assert registry.session(session.session_id) == session
                    assert registry.media_id_for(session.principal, alias) == session.session_id
            for principal in ("alice", "bob"):
                for n in range(3):
                    alias_text = f"session_175359074139{n}_qlgq6cfjw"
                    media_session_id = registry.media_id_for(principal, alias_text)
                    if media_session_id is not None:
                        assert registry.alias_of(media_session_id) == alias_text
                        owner = registry.session(media_session_id)
                        assert owner is not None
                        assert owner.principal == principal


@given(st.integers(0, 2**32), st.integers(1, 3), st.integers(1, 12))
@settings(max_examples=25)
def test_any_crowd_of_tasks_and_processes_sees_both_directions_agree(
    seed: int, processes: int, crowd_size: int
) -> None:
    async def run() -> None:
        bus = MemoryBus()
        async with running(*[bus] * processes) as registries:
            crowd = Crowd(registries, seed)
            async with anyio.create_task_group() as tasks:
                for _ in range(crowd_size):
                    tasks.start_soon(crowd.act, 10)
            assert crowd.refusals <= {"alias_in_use", "session_has_alias", "session_unknown"}
            for registry in registries:
                await create(registry)  # each has now folded all that the crowd did
            for session in crowd.sessions:
                resolved = {registry.frontend_id_for(session.session_id) for registry in registries}
                assert len(resolved) == 1

    anyio.run(run)


async def test_two_thousand_sessions_at_once_are_all_granted() -> None:
    async with running(MemoryBus()) as [registry]:
        async with anyio.create_task_group() as tasks:
            for n in range(2_000):
                tasks.start_soon(create, registry, f"session_1753590741399_{n:09d}")
        assert len(registry) == 2_000
        resolved = {registry.media_id_for("alice", f"session_1753590741399_{n:09d}") for n in range(2_000)}
        assert len(resolved) == 2_000
        assert None not in resolved


async def test_a_log_that_falters_is_read_on_and_nothing_is_missed() -> None:
    async with running(FalteringBus()) as (registry,):
        created = [(await create(registry))[0].session_id for _ in range(3)]
        assert [registry.session(session_id) is not None for session_id in created] == [True] * 3
