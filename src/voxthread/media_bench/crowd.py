"""Many callers in one loop: what is due is sent before anything is received; how late it is, is measured."""

import heapq
import select
import sys
from collections.abc import Callable, Sequence
from itertools import count
from typing import Final
from urllib.parse import urljoin

import httpx
import pylibsrtp

from voxthread.client.failures import BenchError
from voxthread.media.interfaces import host_addresses
from voxthread.media_bench.bad_line import BadLine
from voxthread.media_bench.caller import Caller
from voxthread.media_bench.dtls import DtlsIdentity
from voxthread.media_bench.plan import PACKET_US, Conditions, Measured, Tracks, instant_us

_CONNECT_US: Final = 15_000_000
_NEVER_US: Final = 1 << 62
_GOLDEN: Final = 0.618034
"""Its multiples spread over the unit evenly, however many: callers speak at all instants of 20 ms."""


class Crowd:
    """The callers of one server."""

    def __init__(self, url: str, tracks: Tracks, conditions: Conditions) -> None:
        self._url = url
        self._http = httpx.Client(trust_env=False, timeout=30)
        self._tracks = tracks.callers
        self._conditions = conditions
        self._identity = DtlsIdentity()
        self._addresses = [each for each in ("127.0.0.1", *host_addresses("0.0.0.0")) if ":" not in each]
        self._callers: dict[int, Caller] = {}
        self._due: list[tuple[int, int, Callable[[int], None]]] = []
        self._numbers = count()
        self._opened = 0
        self._late_us: list[int] = []

    def open(self, calls: int) -> list[Caller]:
        """One after the other, each when the one before has media. Raises `BenchError`."""
        opened = []
        for _ in range(calls):
            opened.append(self._post())
            self._until_media(opened[-1:])
        return opened

    def open_at_once(self, calls: int) -> list[Caller]:
        opened = [self._post() for _ in range(calls)]
        self._until_media(opened)
        return opened

    def close(self, callers: Sequence[Caller]) -> None:
        """Hang up."""
        for caller in callers:
            del self._callers[caller.socket.fileno()]
            caller.close()
            self._http.delete(caller.location, headers={"X-Session-Token": caller.token})

    def close_all(self) -> None:
        self.close([*self._callers.values()])

    def port_of_one(self) -> tuple[str, int]:
        """The server's port of a call that stands."""
        return next(iter(self._callers.values())).server

    def measure(self, seconds: float) -> Measured:
        """Call on for so long."""
        self._late_us = []
        began_us = instant_us()
        self.run(began_us + int(seconds * 1_000_000))
        calls = [caller.call for caller in self._callers.values()]
        return Measured(calls=calls, began_us=began_us, ended_us=instant_us(), late_us=self._late_us)

    def run(self, until_us: int = _NEVER_US, *, until_input: bool = False) -> None:
        """Until an instant, or there is something to read on standard input."""
        while instant_us() < until_us:
            if self._turn(until_us, until_input=until_input):
                return

    def _turn(self, until_us: int, *, until_input: bool) -> bool:
        due, now_us = self._due, instant_us()
        while due and due[0][0] <= now_us:
            due_us, _, act = heapq.heappop(due)
            self._late_us.append(instant_us() - due_us)
            act(due_us)
        next_us = min(due[0][0], until_us) if due else until_us
        wait_s = min(1.0, max(0, next_us - instant_us()) / 1_000_000)
        watched = [*self._callers, sys.stdin.fileno()] if until_input else [*self._callers]
        ready, _, _ = select.select(watched, (), (), wait_s)
        for descriptor in ready:
            caller = self._callers.get(descriptor)
            if caller is None:
                return True
            try:
                caller.receive()
            except pylibsrtp.Error as error:
                raise BenchError(
                    "bench.bad_packet", f"a packet of the server is not authentic: {error}"
                ) from None
        return False

    def _post(self) -> Caller:
        number, self._opened = self._opened, self._opened + 1
        conditions = self._conditions
        is_bad = conditions.loss or conditions.jitter_ms or conditions.round_trip_ms
        again, track = divmod(number, len(self._tracks))
        caller = Caller(
            self._identity,
            self._addresses,
            (track, self._tracks[track]),
            BadLine(conditions, (conditions.seed + again) * 1_000_003 + track) if is_bad else None,
            wait_us=int(self._opened * _GOLDEN % 1 * PACKET_US),
            nack=conditions.nack,
            later=self._later,
        )
        posted_us = instant_us()
        response = self._http.post(
            f"{self._url}/whip", content=caller.offer, headers={"Content-Type": "application/sdp"}
        )
        if response.status_code != httpx.codes.CREATED:
            raise BenchError("bench.refused", f"POST /whip: {response.status_code} {response.text[:200]}")
        caller.call.session_id = response.headers["X-Session-ID"]
        caller.token = response.headers.get("X-Session-Token", "")
        caller.location = urljoin(str(response.url), response.headers["Location"])
        self._callers[caller.socket.fileno()] = caller
        caller.connect(response.text, posted_us=posted_us)
        return caller

    def _until_media(self, callers: Sequence[Caller]) -> None:
        deadline_us = instant_us() + _CONNECT_US
        while not all(caller.has_media for caller in callers):
            if instant_us() > deadline_us:
                raise BenchError("bench.no_media", "a call was answered and then there was no media")
            self._turn(deadline_us, until_input=False)

    def _later(self, due_us: int, act: Callable[[int], None]) -> None:
        heapq.heappush(self._due, (due_us, next(self._numbers), act))
