"""Claims on the log."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.claims import (
    AliasClaim,
    AliasRelease,
    Claim,
    ReaderCaughtUp,
    SessionClaim,
    SessionRelease,
    TokenClaim,
    decode_claim,
    encode_claim,
)

pytestmark = pytest.mark.unit

# JSON holds Unicode scalar values; a lone surrogate never gets past the edges.
texts = st.text(st.characters(exclude_categories=["Cs"]))
instants = st.integers(0, 2**53)
claims: st.SearchStrategy[Claim] = st.one_of(
    st.builds(
        SessionClaim,
        session_id=texts,
        principal=texts,
        agent=texts,
        partition=st.integers(0, 255),
        token_sha256=st.binary(min_size=32, max_size=32),
        frontend_session_id=st.none() | texts,
        at_ms=instants,
    ),
    st.builds(SessionRelease, session_id=texts, reason=texts, at_ms=instants),
    st.builds(AliasClaim, session_id=texts, principal=texts, frontend_session_id=texts, at_ms=instants),
    st.builds(AliasRelease, session_id=texts, frontend_session_id=texts, at_ms=instants),
    st.builds(TokenClaim, session_id=texts, token_sha256=st.binary(), at_ms=instants),
    st.builds(ReaderCaughtUp, at_ms=instants),
)


@given(claims)
def test_a_claim_is_read_as_it_was_written(claim: Claim) -> None:
    record = encode_claim(claim)
    assert decode_claim(record.value) == claim
    assert record.key == getattr(claim, "session_id", "")


def test_a_field_of_a_later_version_is_ignored() -> None:
    claim = b'{"kind":"session.release","session_id":"s","reason":"r","at_ms":1,"more":{}}'
    value = b'{"v":1,"later":1,"claim":' + claim + b"}"
    assert decode_claim(value) == SessionRelease(session_id="s", reason="r", at_ms=1)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"\xff\xfe",
        b'{"v":1,"claim":{"kind":"session.steal","session_id":"s","at_ms":1}}',
        b'{"v":2,"claim":{"kind":"reader.caught_up","at_ms":1}}',
        b'{"v":1,"claim":{"kind":"session.release","session_id":"s","at_ms":1}}',
        b'{"v":1,"claim":{"kind":"session.release","session_id":7,"reason":"r","at_ms":1}}',
        b'{"v":1,"claim":{"kind":"token.claim","session_id":"s","token_sha256":"?","at_ms":1}}',
    ],
)
def test_what_is_no_claim_is_malformed(value: bytes) -> None:
    with pytest.raises(MalformedRecordError):
        decode_claim(value)


@given(st.binary())
def test_any_bytes_are_a_claim_or_malformed(value: bytes) -> None:
    with suppress(MalformedRecordError):
        decode_claim(value)
