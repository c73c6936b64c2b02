"""Bearer tokens, session tokens, and when a server may start without a key."""

import base64
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core.failures import SessionError
from voxthread.observability.clock import now_ms
from voxthread.sessions.errors import http_status
from voxthread.sessions.tokens import (
    LEEWAY_S,
    Access,
    Algorithm,
    Authenticator,
    Scope,
    TokenVerifier,
    check_bind,
    is_anonymous,
    mint_session_token,
    mint_token,
    session_token_sha256,
)

pytestmark = pytest.mark.unit

KEY = "k" * 32
NOW_S = now_ms() // 1000
HOUR_S = 3_600


def signed(key: str = KEY, **changes: Any) -> str:
    claims = {"sub": "alice", "aud": "voxthread", "exp": NOW_S + HOUR_S, "scope": "whip:publish"} | changes
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm="HS256")


def unsigned() -> str:
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims: dict[str, object] = {"sub": "alice", "aud": "voxthread", "exp": NOW_S + HOUR_S, "scope": "admin"}
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part(claims)}."


def verifier(key: str = KEY, algorithm: Algorithm = "HS256") -> TokenVerifier:
    return TokenVerifier(key, algorithm=algorithm, audience="voxthread")


def pem_pair(algorithm: Algorithm) -> tuple[str, str]:
    private = (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        if algorithm == "RS256"
        else ec.generate_private_key(ec.SECP256R1())
    )
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    return secret, public


def refused(token: str) -> SessionError:
    with pytest.raises(SessionError) as raised:
        verifier().verify(token)
    return raised.value


def test_a_minted_token_names_its_principal_and_scopes() -> None:
    token = mint_token(
        KEY,
        algorithm="HS256",
        audience="voxthread",
        principal="alice",
        scopes=[Scope.PUBLISH, Scope.READ_EVENTS],
        expires_at_s=NOW_S + HOUR_S,
    )
    assert verifier().verify(token) == Access("alice", frozenset({"whip:publish", "events:read"}))


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_token_signed_with_a_private_key_is_verified_with_the_public_one(algorithm: Algorithm) -> None:
    secret, public = pem_pair(algorithm)
    token = mint_token(
        secret,
        algorithm=algorithm,
        audience="voxthread",
        principal="alice",
        scopes=[],
        expires_at_s=NOW_S + HOUR_S,
    )
    assert verifier(public, algorithm).verify(token).principal == "alice"
    with pytest.raises(SessionError, match="token_invalid"):
        verifier(pem_pair(algorithm)[1], algorithm).verify(token)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_the_wrong_half_of_a_key_pair_is_refused_at_the_start(algorithm: Algorithm) -> None:
    secret, public = pem_pair(algorithm)
    with pytest.raises(SessionError, match="needs the public key"):
        verifier(secret, algorithm)
    with pytest.raises(SessionError, match="needs the private key"):
        mint_token(
            public,
            algorithm=algorithm,
            audience="voxthread",
            principal="alice",
            scopes=[],
            expires_at_s=NOW_S + HOUR_S,
        )


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("", id="empty"),
        pytest.param("a.b.c", id="garbage"),
        pytest.param("\ud800", id="surrogate"),
        pytest.param("é.é.é", id="not ASCII"),
        pytest.param("a" * 10_000_000, id="10 MB"),
        pytest.param(unsigned(), id="alg none"),
        pytest.param(signed("another key of sufficient length!"), id="another key"),
        pytest.param(signed()[:-2] + "xx", id="signature changed"),
        pytest.param(signed(aud="somewhere else"), id="foreign audience"),
        pytest.param(signed(aud=None), id="no audience"),
        pytest.param(signed(exp=None), id="no expiry"),
        pytest.param(signed(exp="soon"), id="expiry is no number"),
        pytest.param(signed(nbf=NOW_S + HOUR_S), id="not valid yet"),
        pytest.param(signed(sub=None), id="no principal"),
        pytest.param(signed(sub=""), id="empty principal"),
        pytest.param(signed(sub="x" * 257), id="long principal"),
        pytest.param(signed(sub="a\r\nb"), id="principal with a line break"),
        pytest.param(signed(sub="\ud800"), id="principal that is no Unicode"),
        pytest.param(signed(sub="anonymous_0011223344556677"), id="posing as anonymous"),
        pytest.param(signed(scope=["admin"]), id="scope is no string"),
        pytest.param(
            jwt.encode({"sub": "a", "aud": "voxthread", "exp": NOW_S + 60}, "k" * 64, algorithm="HS512"),
            id="another algorithm",
        ),
    ],
)
def test_a_token_that_is_not_for_us_is_invalid_whatever_the_reason(token: str) -> None:
    error = refused(token)
    assert (error.code, http_status(error)) == ("token_invalid", 401)
    assert error.detail == "the bearer token is not valid here"


def test_a_public_key_does_not_pass_for_an_hmac_secret() -> None:
    _, public = pem_pair("RS256")
    header_and_claims = signed().rsplit(".", 1)[0]
    with pytest.raises(SessionError, match="token_invalid"):
        verifier(public, "RS256").verify(f"{header_and_claims}.AAAA")
    with pytest.raises(SessionError, match="key_unusable"):
        verifier(public, "HS256")


def test_an_expired_token_says_so_but_a_clock_may_be_a_little_off() -> None:
    error = refused(signed(exp=NOW_S - LEEWAY_S - 60))
    assert (error.code, http_status(error)) == ("token_expired", 401)
    just_now_s = now_ms() // 1000 - 1  # other tests may have taken long
    assert verifier().verify(signed(exp=just_now_s)).principal == "alice"


@given(st.text(max_size=200))
def test_any_text_as_a_bearer_token_is_refused_not_a_crash(text: str) -> None:
    assert refused(text).code == "token_invalid"


@pytest.mark.parametrize("key", ["", "short", "k" * 31])
def test_a_weak_secret_is_refused_at_the_start(key: str) -> None:
    with pytest.raises(SessionError, match="key_unusable"):
        verifier(key)


def test_a_text_that_is_no_pem_is_refused_at_the_start() -> None:
    with pytest.raises(SessionError, match="key_unusable"):
        verifier("not a PEM file, but long enough to be one", "RS256")


@pytest.mark.parametrize("principal", ["", "anonymous_1", "x" * 257, "a\nb"])
def test_no_token_is_minted_for_a_principal_that_none_may_have(principal: str) -> None:
    with pytest.raises(SessionError, match="principal_unusable"):
        mint_token(
            KEY,
            algorithm="HS256",
            audience="voxthread",
            principal=principal,
            scopes=[],
            expires_at_s=NOW_S + HOUR_S,
        )


def test_a_request_needs_a_token_with_its_scope_or_admin() -> None:
    authenticator = Authenticator(verifier())
    assert authenticator.authenticate(signed(), Scope.PUBLISH) == "alice"
    assert authenticator.authenticate(signed(scope="admin"), Scope.READ_EVENTS) == "alice"
    for token, code, status in (
        (None, "token_missing", 401),
        ("", "token_missing", 401),
        (signed(), "scope_missing", 403),
        (signed(scope=None), "scope_missing", 403),
        (signed(scope="events:reader"), "scope_missing", 403),
    ):
        with pytest.raises(SessionError) as raised:
            authenticator.authenticate(token, Scope.READ_EVENTS)
        assert (raised.value.code, http_status(raised.value)) == (code, status)


def test_in_open_mode_each_request_is_somebody_new_and_anonymous() -> None:
    authenticator = Authenticator(None)
    principals = {authenticator.authenticate("whatever", Scope.ADMIN) for _ in range(100)}
    assert authenticator.is_open
    assert len(principals) == 100
    assert all(is_anonymous(principal) for principal in principals)


def test_session_tokens_are_long_and_differ_and_are_known_by_their_digest() -> None:
    tokens = {mint_session_token() for _ in range(100)}
    assert len({session_token_sha256(token) for token in tokens}) == 100
    assert all(len(token) >= 43 for token in tokens)


@pytest.mark.parametrize("token", ["x" * 129, "é", "\ud800", "x" * 10_000_000])
def test_a_text_that_no_session_token_can_be_is_invalid(token: str) -> None:
    with pytest.raises(SessionError, match="token_invalid"):
        session_token_sha256(token)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "localhost", "::1", "[::1]"])
def test_on_loopback_a_server_may_start_without_a_key(host: str) -> None:
    check_bind(host, None)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "192.168.1.2", "voice.example.org", "127.0.0.1.evil.org"]
)
def test_off_loopback_a_server_without_a_key_refuses_to_start(host: str) -> None:
    check_bind(host, KEY)
    for no_key in (None, ""):
        with pytest.raises(SessionError, match="VOXTHREAD_AUTH__KEY") as raised:
            check_bind(host, no_key)
        assert raised.value.code == "key_missing"
