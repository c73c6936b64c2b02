"""What arrives at a port is told apart by its first byte, and strangers are looked at so often and no more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.media.datagrams import Allowance, Kind, kind_of

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", Kind.OTHER),
        (b"\x00\x01", Kind.STUN),
        (b"\x03", Kind.STUN),
        (b"\x04", Kind.OTHER),
        (b"\x13", Kind.OTHER),
        (b"\x14", Kind.DTLS),
        (b"\x3f\xfe", Kind.DTLS),
        (b"\x40", Kind.OTHER),
        (b"\x7f", Kind.OTHER),
        (b"\x80", Kind.RTP),
        (b"\x80\x6f", Kind.RTP),
        (b"\x80\xef", Kind.RTP),
        (b"\x80\xc8", Kind.RTCP),
        (b"\xbf\xcd", Kind.RTCP),
        (b"\xc0\xc8", Kind.OTHER),
        (b"\xff", Kind.OTHER),
    ],
)
def test_kind_of_a_datagram_is_told_by_its_first_bytes(data: bytes, kind: Kind) -> None:
    assert kind_of(data) is kind


def test_strangers_are_let_in_up_to_the_burst_and_then_at_the_rate() -> None:
    allowance = Allowance(per_s=50, burst=10)
    assert sum(allowance.takes(0) for _ in range(1_000)) == 10
    assert sum(allowance.takes(us) for us in range(0, 1_000_000, 50)) == 49
    assert sum(allowance.takes(3_600_000_000) for _ in range(1_000)) == 10


@given(st.lists(st.integers(-1_000_000, 1_000_000), max_size=200))
def test_no_clock_lets_in_more_than_burst_and_rate(steps_us: list[int]) -> None:
    allowance, now_us, forward_us, taken = Allowance(per_s=50, burst=10), 0, 0, 0
    for step_us in steps_us:
        now_us += step_us
        forward_us += max(0, step_us)
        taken += allowance.takes(now_us)
    assert taken <= 10 + forward_us * 50 // 1_000_000
