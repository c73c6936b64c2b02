"""The fold of the claims against a model that is slow, plain and obviously right."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from voxthread.core.ids import IdRule
from voxthread.core.owners import PartitionChange, PartitionClaim
from voxthread.sessions.table import MAX_TOKENS, HostedLeg, Refusal, SessionTable
from voxthread.wire.claims import (
    AliasClaim,
    AliasRelease,
    Claim,
    LegClaim,
    ReaderCaughtUp,
    SessionClaim,
    SessionRelease,
    TokenClaim,
)

pytestmark = pytest.mark.unit

MEDIA_IDS = [f"session_175359074139904{n}_5cc15fe6" for n in range(5)]
FRONTEND_IDS = [f"session_175359074139{n}_qlgq6cfjw" for n in range(4)]
PRINCIPALS = ["alice", "bob"]
TOKENS = [bytes([n]) * 32 for n in range(8)]
MEDIA = ["media_a", "media_b", "media_c"]

media_ids = st.sampled_from(MEDIA_IDS)
frontend_ids = st.sampled_from(FRONTEND_IDS)
principals = st.sampled_from(PRINCIPALS)
tokens = st.sampled_from(TOKENS)
processes = st.sampled_from(MEDIA)


def session_claim(
    session_id: str = MEDIA_IDS[0],
    *,
    principal: str = "alice",
    token: bytes = TOKENS[0],
    alias: str | None = None,
    at_ms: int = 0,
    media_id: str = MEDIA[0],
    resume: bytes = b"",
) -> SessionClaim:
    return SessionClaim(
        session_id=session_id,
        principal=principal,
        agent="hotel",
        partition=0,
        token_sha256=token,
        frontend_session_id=alias,
        media_id=media_id,
        resume_sha256=resume,
        at_ms=at_ms,
    )


def leg_claim(
    media_id: str, resume: bytes | None, following: bytes, session_id: str = MEDIA_IDS[0]
) -> LegClaim:
    return LegClaim(
        session_id=session_id, media_id=media_id, resume_sha256=resume, next_resume_sha256=following, at_ms=0
    )


def released(media_id: str = "", session_id: str = MEDIA_IDS[0]) -> SessionRelease:
    return SessionRelease(session_id=session_id, reason="ended", media_id=media_id, at_ms=0)


def alias_claim(session_id: str, alias: str, principal: str = "alice") -> AliasClaim:
    return AliasClaim(session_id=session_id, principal=principal, frontend_session_id=alias, at_ms=0)


def fold(*claims: Claim) -> tuple[SessionTable, list[Refusal | IdRule | None]]:
    table = SessionTable()
    return table, [table.apply(position, claim) for position, claim in enumerate(claims)]


def test_the_first_claim_of_an_alias_wins_and_the_later_session_is_not_made() -> None:
    table, outcomes = fold(
        session_claim(MEDIA_IDS[0], token=TOKENS[0], alias=FRONTEND_IDS[0]),
        session_claim(MEDIA_IDS[1], token=TOKENS[1], alias=FRONTEND_IDS[0]),
    )
    assert outcomes == [None, Refusal.ALIAS_TAKEN]
    assert (len(table), table.session(MEDIA_IDS[1])) == (1, None)
    assert table.session_of_token(TOKENS[1]) is None


def test_a_minted_id_that_is_taken_is_refused_and_the_first_session_stays() -> None:
    first = session_claim(token=TOKENS[0])
    table, outcomes = fold(first, session_claim(principal="bob", token=TOKENS[1]))
    assert outcomes == [None, Refusal.SESSION_TAKEN]
    assert table.session(MEDIA_IDS[0]) == first


def test_a_claim_stored_twice_is_granted_once_and_harmless() -> None:
    claim = session_claim(alias=FRONTEND_IDS[0])
    table, outcomes = fold(claim, claim, alias_claim(MEDIA_IDS[0], FRONTEND_IDS[0]))
    assert outcomes == [None, None, None]
    assert len(table) == 1


def test_an_alias_needs_a_living_session_of_the_same_principal_without_one() -> None:
    _, outcomes = fold(
        session_claim(MEDIA_IDS[0], token=TOKENS[0]),
        alias_claim(MEDIA_IDS[1], FRONTEND_IDS[0]),
        alias_claim(MEDIA_IDS[0], FRONTEND_IDS[0], principal="bob"),
        alias_claim(MEDIA_IDS[0], FRONTEND_IDS[0]),
        alias_claim(MEDIA_IDS[0], FRONTEND_IDS[1]),
    )
    assert outcomes == [
        None,
        Refusal.SESSION_UNKNOWN,
        Refusal.SESSION_FORBIDDEN,
        None,
        Refusal.SESSION_HAS_ALIAS,
    ]


@pytest.mark.parametrize(
    "claim",
    [
        session_claim("session_x\n"),
        session_claim(alias="session_1753590741399_a\r\nb"),
        alias_claim(MEDIA_IDS[0], "nonsense"),
        alias_claim("nonsense", FRONTEND_IDS[0]),
    ],
)
def test_a_claim_with_an_invalid_id_is_refused_by_its_rule(claim: Claim) -> None:
    table, outcomes = fold(claim)
    assert isinstance(outcomes[0], IdRule)
    assert len(table) == 0


def test_a_late_release_of_an_alias_does_not_remove_its_successor() -> None:
    table, _ = fold(
        session_claim(alias=FRONTEND_IDS[0]),
        AliasRelease(session_id=MEDIA_IDS[0], frontend_session_id=FRONTEND_IDS[0], at_ms=0),
        alias_claim(MEDIA_IDS[0], FRONTEND_IDS[1]),
        AliasRelease(session_id=MEDIA_IDS[0], frontend_session_id=FRONTEND_IDS[0], at_ms=0),
    )
    assert table.frontend_id(MEDIA_IDS[0]) == FRONTEND_IDS[1]


def test_a_record_read_again_changes_nothing() -> None:
    table, _ = fold(session_claim(), SessionRelease(session_id=MEDIA_IDS[0], reason="ended", at_ms=0))
    assert table.apply(0, session_claim()) is None
    assert len(table) == 0
    assert table.next_position == 2


def test_only_the_newest_tokens_of_a_session_open_it() -> None:
    table, _ = fold(
        session_claim(token=TOKENS[0]),
        *(TokenClaim(session_id=MEDIA_IDS[0], token_sha256=token, at_ms=0) for token in TOKENS[1:6]),
    )
    opening = [token for token in TOKENS if table.session_of_token(token) is not None]
    assert opening == TOKENS[6 - MAX_TOKENS : 6]


def test_the_oldest_session_is_the_one_claimed_first_of_those_that_live() -> None:
    table, _ = fold(
        *(session_claim(MEDIA_IDS[n], token=TOKENS[n], at_ms=n) for n in range(3)),
        SessionRelease(session_id=MEDIA_IDS[0], reason="ended", at_ms=9),
    )
    oldest = table.oldest()
    assert oldest is not None
    assert oldest.session_id == MEDIA_IDS[1]


def test_a_leg_moves_under_the_position_of_its_claim_and_its_token_is_used_up() -> None:
    table, outcomes = fold(
        session_claim(resume=b"1"),
        leg_claim("media_b", b"1", b"2"),
        leg_claim("media_c", b"1", b"3"),
        leg_claim("media_c", b"2", b"3"),
    )
    assert outcomes == [None, None, Refusal.RESUME_TOKEN_STALE, None]
    assert table.leg(MEDIA_IDS[0]) == HostedLeg("media_c", 3, b"3")
    resumable = [token for token in (b"1", b"2", b"3") if table.session_of_resume_token(token)]
    assert resumable == [b"3"]


def test_a_token_that_is_given_back_moves_the_leg_once_more() -> None:
    table, outcomes = fold(
        session_claim(resume=b"1"),
        leg_claim("media_b", b"1", b"2"),
        leg_claim("media_b", b"2", b"1"),
        leg_claim("media_c", b"1", b"3"),
        leg_claim("media_b", b"2", b"1"),
    )
    assert outcomes == [None, None, None, None, Refusal.RESUME_TOKEN_STALE]
    assert table.leg(MEDIA_IDS[0]) == HostedLeg("media_c", 3, b"3")


def test_a_leg_claim_without_token_replaces_the_token_there_is() -> None:
    table, outcomes = fold(
        session_claim(resume=b"1"), leg_claim("media_a", None, b"2"), leg_claim("media_b", b"1", b"3")
    )
    assert outcomes == [None, None, Refusal.RESUME_TOKEN_STALE]
    assert table.leg(MEDIA_IDS[0]) == HostedLeg("media_a", 1, b"2")


@pytest.mark.parametrize("resume", [b"", b"other", b"theirs"])
def test_no_other_token_moves_a_leg_nor_does_the_lack_of_one(resume: bytes) -> None:
    _, outcomes = fold(
        session_claim(resume=b"mine"),
        session_claim(MEDIA_IDS[1], token=TOKENS[1], resume=b"theirs"),
        session_claim(MEDIA_IDS[2], token=TOKENS[2]),
        leg_claim("media_b", resume, b"next"),
        leg_claim("media_b", resume, b"next", MEDIA_IDS[2]),
    )
    assert outcomes[3:] == [Refusal.RESUME_TOKEN_STALE, Refusal.RESUME_TOKEN_STALE]


def test_a_leg_claim_stored_twice_keeps_the_epoch_of_the_first() -> None:
    claim = leg_claim("media_b", b"1", b"2")
    table, _ = fold(session_claim(resume=b"1"), claim, claim)
    assert table.leg(MEDIA_IDS[0]) == HostedLeg("media_b", 1, b"2")


def test_a_claim_that_would_leave_a_token_in_use_is_refused() -> None:
    table, outcomes = fold(
        session_claim(resume=b"1"),
        session_claim(MEDIA_IDS[1], token=TOKENS[1], resume=b"1"),
        session_claim(MEDIA_IDS[2], token=TOKENS[2], resume=b"2"),
        leg_claim("media_b", b"1", b"1"),
        leg_claim("media_b", b"1", b"2"),
    )
    assert outcomes == [None, Refusal.TOKEN_TAKEN, None, Refusal.TOKEN_TAKEN, Refusal.TOKEN_TAKEN]
    assert table.leg(MEDIA_IDS[0]) == HostedLeg("media_a", 0, b"1")


def test_a_released_session_is_resumed_by_nothing_and_a_moved_one_is_not_released_from_where_it_was() -> None:
    table, outcomes = fold(
        session_claim(resume=b"1"),
        leg_claim("media_b", b"1", b"2"),
        released("media_a"),
        released("media_b"),
        leg_claim("media_a", b"2", b"3"),
        leg_claim("media_a", None, b"3"),
    )
    assert outcomes[2:] == [Refusal.LEG_MOVED, None, Refusal.SESSION_UNKNOWN, Refusal.SESSION_UNKNOWN]
    assert table.leg(MEDIA_IDS[0]) is None
    assert table.session_of_resume_token(b"2") is None


def test_an_owner_that_was_succeeded_ends_no_session_any_more() -> None:
    table = SessionTable()

    def applied(position: int, claim: Claim | PartitionChange) -> Refusal | IdRule | None:
        return table.apply(position, claim)

    def ended_by(epoch: int) -> SessionRelease:
        return SessionRelease(session_id=MEDIA_IDS[0], reason="media_lost", epoch=epoch, at_ms=0)

    applied(0, PartitionClaim(partition=0, previous_epoch=0, worker_id="first"))
    applied(1, session_claim())
    applied(2, PartitionClaim(partition=1, previous_epoch=0, worker_id="other"))
    applied(3, PartitionClaim(partition=0, previous_epoch=1, worker_id="second"))
    applied(4, PartitionClaim(partition=0, previous_epoch=1, worker_id="too late"))
    assert applied(5, ended_by(1)) is Refusal.OWNER_MOVED
    assert table.session(MEDIA_IDS[0]) is not None
    assert applied(6, ended_by(4)) is None
    assert table.session(MEDIA_IDS[0]) is None


@given(st.data())
def test_a_resume_token_is_accepted_once_whatever_the_interleaving_of_processes(data: st.DataObject) -> None:
    """Processes claim with tokens they were shown, some of them at once, some twice; each reads the log at its
    own pace, parts of it again."""
    minted = [b"first"]
    records: list[Claim] = [session_claim(resume=minted[0])]
    for number in range(data.draw(st.integers(1, 12))):
        if data.draw(st.integers(0, 9)) == 0:
            records.append(records[data.draw(st.integers(0, len(records) - 1))])  # appended again
            continue
        shown = data.draw(st.none() | st.sampled_from(minted))
        minted.append(b"next %d" % number)
        records.append(leg_claim(data.draw(processes), shown, minted[-1]))
    tables = [SessionTable() for _ in MEDIA]
    accepted: list[bytes] = []
    for position, record in enumerate(records):
        for table in tables:
            before = table.leg(MEDIA_IDS[0])
            table.apply(position, record)
            after = table.leg(MEDIA_IDS[0])
            if table is tables[0] and before is not None and after != before:
                assert isinstance(record, LegClaim)
                assert after == HostedLeg(record.media_id, position, record.next_resume_sha256)
                accepted += [] if record.resume_sha256 is None else [record.resume_sha256]
            again = data.draw(st.integers(0, position))
            table.apply(again, records[again])
    assert len(accepted) == len(set(accepted))
    assert len({table.leg(MEDIA_IDS[0]) for table in tables}) == 1
    current = tables[0].leg(MEDIA_IDS[0])
    assert current is not None
    assert [token for token in minted if tables[0].session_of_resume_token(token)] == [current.resume_sha256]


class TableModel(RuleBasedStateMachine):
    """Any claims in any order: the table holds what a list of granted facts holds, found by walking it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = SessionTable()
        self.position = 0
        self.sessions: list[SessionClaim] = []
        self.aliases: list[tuple[str, str, str]] = []
        self.tokens: list[tuple[str, bytes]] = []
        self.legs: dict[str, HostedLeg] = {}
        self.minted: list[bytes] = [b""]

    def applied(self, claim: Claim) -> bool:
        self.position += 2  # positions may have holes
        return self.table.apply(self.position, claim) is None

    def living(self, session_id: str) -> SessionClaim | None:
        return next((claim for claim in self.sessions if claim.session_id == session_id), None)

    def alias_is_free(self, principal: str, alias: str) -> bool:
        return not any((p, f) == (principal, alias) for p, f, _ in self.aliases)

    def mint(self) -> bytes:
        self.minted.append(b"resume %d" % len(self.minted))
        return self.minted[-1]

    @rule(
        session_id=media_ids,
        principal=principals,
        token=tokens,
        alias=st.none() | frontend_ids,
        media_id=processes,
        is_resumable=st.booleans(),
    )
    def claim_session(
        self,
        session_id: str,
        principal: str,
        token: bytes,
        alias: str | None,
        media_id: str,
        is_resumable: bool,
    ) -> None:
        resume = self.mint() if is_resumable else b""
        claim = session_claim(
            session_id, principal=principal, token=token, alias=alias, media_id=media_id, resume=resume
        )
        holder = self.living(session_id)
        new = (
            holder is None
            and token not in [t for _, t in self.tokens]
            and (alias is None or self.alias_is_free(principal, alias))
        )
        assert self.applied(claim) == (new or holder == claim)
        if new:
            self.sessions.append(claim)
            self.tokens.append((session_id, token))
            self.legs[session_id] = HostedLeg(media_id, 0, resume)
            if alias is not None:
                self.aliases.append((principal, alias, session_id))

    @rule(session_id=media_ids, media_id=processes, data=st.data())
    def claim_leg(self, session_id: str, media_id: str, data: st.DataObject) -> None:
        leg = self.legs.get(session_id)
        shown = data.draw(st.none() | st.sampled_from(self.minted))
        in_use = {shown, *(each.resume_sha256 for each in self.legs.values())}
        spent = [token for token in self.minted[1:] if token not in in_use]
        following = data.draw(st.sampled_from(spent)) if spent and data.draw(st.booleans()) else self.mint()
        granted = leg is not None and (shown is None or (shown != b"" and shown == leg.resume_sha256))
        assert self.applied(leg_claim(media_id, shown, following, session_id)) == granted
        if granted:
            self.legs[session_id] = HostedLeg(media_id, self.position, following)

    @rule(session_id=media_ids, principal=principals, alias=frontend_ids)
    def claim_alias(self, session_id: str, principal: str, alias: str) -> None:
        session = self.living(session_id)
        mine = session is not None and session.principal == principal
        new = (
            mine and self.alias_is_free(principal, alias) and session_id not in [s for _, _, s in self.aliases]
        )
        repeated = mine and (principal, alias, session_id) in self.aliases
        assert self.applied(alias_claim(session_id, alias, principal)) == (new or repeated)
        if new:
            self.aliases.append((principal, alias, session_id))

    @rule(session_id=media_ids, token=tokens)
    def claim_token(self, session_id: str, token: bytes) -> None:
        holder = next((s for s, t in self.tokens if t == token), None)
        new = self.living(session_id) is not None and holder is None
        repeated = self.living(session_id) is not None and holder == session_id
        claim = TokenClaim(session_id=session_id, token_sha256=token, at_ms=0)
        assert self.applied(claim) == (new or repeated)
        if new:
            self.tokens.append((session_id, token))
            of_session = [t for s, t in self.tokens if s == session_id]
            self.tokens = [(s, t) for s, t in self.tokens if t not in of_session[:-MAX_TOKENS]]

    @rule(session_id=media_ids, media_id=st.just("") | processes)
    def release_session(self, session_id: str, media_id: str) -> None:
        leg = self.legs.get(session_id)
        may_release = leg is not None and media_id in ("", leg.media_id)
        assert self.applied(released(media_id, session_id)) == may_release
        if not may_release:
            return
        del self.legs[session_id]
        self.sessions = [claim for claim in self.sessions if claim.session_id != session_id]
        self.aliases = [entry for entry in self.aliases if entry[2] != session_id]
        self.tokens = [entry for entry in self.tokens if entry[0] != session_id]

    @rule(session_id=media_ids, alias=frontend_ids)
    def release_alias(self, session_id: str, alias: str) -> None:
        named = [entry for entry in self.aliases if entry[1:] == (alias, session_id)]
        release = AliasRelease(session_id=session_id, frontend_session_id=alias, at_ms=0)
        assert self.applied(release) == bool(named)
        self.aliases = [entry for entry in self.aliases if entry not in named]

    @rule()
    def catch_up(self) -> None:
        assert self.applied(ReaderCaughtUp(at_ms=0))

    @invariant()
    def both_directions_hold_what_was_granted_and_nothing_else(self) -> None:
        for session_id in MEDIA_IDS:
            alias = next((f for _, f, s in self.aliases if s == session_id), None)
            assert self.table.frontend_id(session_id) == alias
            assert self.table.session(session_id) == self.living(session_id)
            assert self.table.leg(session_id) == self.legs.get(session_id)
        for principal in PRINCIPALS:
            for alias in FRONTEND_IDS:
                named = next((s for p, f, s in self.aliases if (p, f) == (principal, alias)), None)
                assert self.table.media_id(principal, alias) == named
        for token in TOKENS:
            holder = next((s for s, t in self.tokens if t == token), None)
            assert self.table.session_of_token(token) == (None if holder is None else self.living(holder))
        for token in self.minted[-8:]:
            resumes = next((s for s, leg in self.legs.items() if token and leg.resume_sha256 == token), None)
            found = self.table.session_of_resume_token(token)
            assert found == (None if resumes is None else self.living(resumes))
        assert len(self.table) == len(self.sessions)
        assert self.table.oldest() == (self.sessions[0] if self.sessions else None)


TestTableModel = TableModel.TestCase
TestTableModel.settings = settings(max_examples=100, stateful_step_count=40)


@given(
    st.lists(st.builds(session_claim, media_ids, principal=principals, token=tokens), max_size=20), st.data()
)
def test_any_claims_folded_twice_over_come_to_the_same_answer(
    claims: list[SessionClaim], data: st.DataObject
) -> None:
    whole, _ = fold(*claims)
    restarted = SessionTable()
    for position, claim in enumerate(claims):
        restarted.apply(position, claim)
        seen = data.draw(st.integers(0, position))
        restarted.apply(seen, claims[seen])
    assert [restarted.session(s) for s in MEDIA_IDS] == [whole.session(s) for s in MEDIA_IDS]
