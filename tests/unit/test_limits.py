"""Token buckets, whom limits mean, and the credentials of TURN servers."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from voxthread.gateway.ice_servers import IceServers
from voxthread.gateway.limits import CallLimits, Limiter, TokenBuckets, address_key
from voxthread.gateway.problem import RequestError

pytestmark = pytest.mark.unit


def test_a_bucket_gives_what_a_minute_allows_and_then_as_it_fills() -> None:
    buckets = TokenBuckets(3)
    assert [buckets.take("a", 0) for _ in range(4)] == [0, 0, 0, 20_000]
    assert buckets.take("b", 0) == 0
    assert buckets.take("a", 15_000) == 5_000
    assert [buckets.take("a", 20_000), buckets.take("a", 20_000)] == [0, 20_000]
    assert [buckets.take("a", 10_000_000) for _ in range(4)] == [0, 0, 0, 20_000]


def test_a_bucket_without_a_limit_is_never_empty() -> None:
    buckets = TokenBuckets(0)
    assert {buckets.take("a", 0) for _ in range(1_000)} == {0}


def test_buckets_of_many_addresses_are_forgotten_oldest_first() -> None:
    buckets = TokenBuckets(1)
    for index in range(10_001):
        assert buckets.take(str(index), 0) == 0
    assert buckets.take("10000", 0) > 0
    assert buckets.take("0", 0) == 0


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=200), st.integers(1, 100))
def test_no_minute_gives_more_than_two_buckets_full(pauses: list[int], per_minute: int) -> None:
    buckets, now, taken = TokenBuckets(per_minute), 0, []
    for pause in pauses:
        now += pause
        if not buckets.take("a", now):
            taken.append(now)
    for at in taken:
        assert sum(at <= each < at + 60_000 for each in taken) <= 2 * per_minute


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("127.0.0.1", ""),
        ("127.9.9.9", ""),
        ("::1", ""),
        ("::ffff:127.0.0.1", ""),
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
    ],
)
def test_this_machine_is_not_limited_and_an_ipv6_site_is_one(host: str, key: str) -> None:
    assert address_key(Request({"type": "http", "client": (host, 1)})) == key


def test_a_request_over_a_local_socket_is_not_limited() -> None:
    assert address_key(Request({"type": "http", "client": None})) == ""


def test_s02_pending_and_live_calls_are_counted_apart() -> None:
    limiter = Limiter(CallLimits(max_pending_calls=2, max_calls=3))
    limiter.admit_one_more([False], is_new=True)
    limiter.admit_one_more([True, True, True], is_new=False)
    for calls, code in ([False, False], "http.too_many_pending"), ([True] * 3, "http.too_many_open"):
        with pytest.raises(RequestError) as refused:
            limiter.admit_one_more(calls, is_new=True)
        assert (refused.value.status, refused.value.code) == (429, code)
        assert int(refused.value.headers["Retry-After"]) > 0


def test_s13_a_turn_user_is_a_time_and_its_password_follows_from_it() -> None:
    servers = IceServers(["stun:s.example", "turns:t.example?transport=tcp"], "shared", ttl_s=600)
    stun, turn = servers.links("session_1", now_s=1_000)
    password = base64.b64encode(hmac.digest(b"shared", b"1600:session_1", hashlib.sha1)).decode()
    assert stun == '<stun:s.example>; rel="ice-server"'
    assert turn == (
        '<turns:t.example?transport=tcp>; rel="ice-server"; username="1600:session_1"; '
        f'credential="{password}"; credential-type="password"'
    )
    assert "shared" not in repr(servers)
