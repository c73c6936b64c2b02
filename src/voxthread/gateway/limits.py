"""How often and how much one caller may ask: by its address, and by its principal where it shows one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from starlette.requests import Request

from voxthread.gateway.problem import RETRY_AFTER_S, RequestError
from voxthread.observability.clock import now_ms

_MINUTE_MS: Final = 60_000
_MAX_BUCKETS: Final = 10_000
_IPV6_SITE_BITS: Final = 64
"""One customer has a whole /64 at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """Of one address, and of one principal; 0 is no limit."""

    calls_per_minute: int = 120
    requests_per_minute: int = 1_200
    max_pending_calls: int = 20
    """Answered and not connected yet."""
    max_calls: int = 0


class TokenBuckets:
    """A bucket for each key that holds what a minute allows, and fills up again over a minute."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._buckets: dict[str, tuple[float, int]] = {}
        """Tokens, and when there were so many."""

    def take(self, key: str, now: int) -> int:
        """Take a token at `now` (ms): 0, or in how many milliseconds there is one."""
        if not self._per_minute:
            return 0
        tokens, at = self._buckets.pop(key, (float(self._per_minute), now))
        tokens = min(self._per_minute, tokens + (now - at) * self._per_minute / _MINUTE_MS)
        is_taken = tokens >= 1
        # Those asked for longest ago come first, and are the first to be forgotten.
        self._buckets[key] = (tokens - is_taken, now)
        if len(self._buckets) > _MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        return 0 if is_taken else max(1, round((1 - tokens) * _MINUTE_MS / self._per_minute))


class Limiter:
    """Refuses with 429 what is too much. Requests from this machine itself are never limited."""

    def __init__(self, limits: CallLimits, now: Callable[[], int] = now_ms) -> None:
        self._limits = limits
        self._now = now
        self._calls = TokenBuckets(limits.calls_per_minute)
        self._requests = TokenBuckets(limits.requests_per_minute)

    def admit_call(self, key: str) -> None:
        """Raises `RequestError` 429."""
        self._take(self._calls, key, "http.too_many_calls")

    def admit_request(self, key: str) -> None:
        """Raises `RequestError` 429."""
        self._take(self._requests, key, "http.too_many_requests")

    def admit_one_more(self, are_connected: Iterable[bool], *, is_new: bool) -> None:
        """`are_connected` says it of each call that the caller has already. Raises `RequestError` 429."""
        calls = [*are_connected]
        if 0 < self._limits.max_pending_calls <= calls.count(False):
            raise _too_much("http.too_many_pending", "Some of your calls have not connected yet", RETRY_AFTER_S)
        if is_new and 0 < self._limits.max_calls <= len(calls):
            raise _too_much("http.too_many_open", "You have as many calls as you may", RETRY_AFTER_S)

    def _take(self, buckets: TokenBuckets, key: str, code: str) -> None:
        if key and (wait_ms := buckets.take(key, self._now())):
            raise _too_much(code, "Too many requests", -(-wait_ms // 1000))


def address_key(request: Request) -> str:
    """What the limits know the request's address by; empty for this machine itself."""
    if request.client is None:
        return ""
    try:
        address = ip_address(request.client.host)
    except ValueError:
        return request.client.host
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            site = ip_network((address, _IPV6_SITE_BITS), strict=False)
            return "" if address.is_loopback else str(site)
        address = address.ipv4_mapped
    return "" if address.is_loopback else str(address)


def _too_much(code: str, what: str, wait_s: int) -> RequestError:
    return RequestError(429, code, f"{what}; try again in {wait_s} s.", {"Retry-After": str(wait_s)})
