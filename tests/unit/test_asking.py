"""Lost packets asked for again while that can help, and our own sent again, but never much."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.media.asking import MAX_ASKED, MAX_HOLE, MAX_ROUND_TRIP_MS, Asking
from voxthread.media.reorder import WAIT_MS
from voxthread.media.sent_packets import KEPT_MS, MAX_KEPT, MAX_RESENT, SentPackets

pytestmark = pytest.mark.unit


def arrive(asking: Asking, sequences: list[int], now_ms: int, trip_ms: int | None = 20) -> int:
    """How many of them came because they were asked for."""
    return sum(asking.arrived(sequence & 0xFFFF, now_ms, round_trip_ms=trip_ms) for sequence in sequences)


def due(asking: Asking, now_ms: int, trip_ms: int | None = 20, jitter_ms: int = 0) -> list[int]:
    return asking.due(now_ms, round_trip_ms=trip_ms, jitter_ms=jitter_ms)


@pytest.mark.parametrize("start", [10, 65_534])
def test_hole_is_asked_for_at_once_on_a_steady_line(start: int) -> None:
    asking = Asking()
    arrive(asking, [start, start + 3], 0)
    assert due(asking, 0) == [(start + 1) & 0xFFFF, (start + 2) & 0xFFFF]
    assert due(asking, 1) == []


def test_packets_in_order_leave_nothing_to_ask_for() -> None:
    asking = Asking()
    arrive(asking, [1, 2, 2, 3], 0)
    assert not asking.has_holes
    assert due(asking, 0) == []


def test_packet_that_is_only_late_is_not_asked_for() -> None:
    asking = Asking()
    arrive(asking, [1, 3], 0)
    assert due(asking, 0, jitter_ms=15) == []
    assert arrive(asking, [2], 10) == 0
    assert due(asking, 20, jitter_ms=15) == []


def test_hole_on_a_line_that_jitters_is_asked_for_while_an_answer_can_still_help() -> None:
    asking = Asking()
    arrive(asking, [1, 3], 0)
    assert due(asking, WAIT_MS - 20 - 6, jitter_ms=200) == []
    assert due(asking, WAIT_MS - 20 - 5, jitter_ms=200) == [2]


def test_request_that_was_lost_is_repeated_once_if_there_is_time() -> None:
    asking = Asking()
    arrive(asking, [1, 3], 0, 10)
    assert [due(asking, now, 10) for now in (0, 14, 15, 30, 45)] == [[2], [], [2], [], []]


@pytest.mark.parametrize("trip_ms", [MAX_ROUND_TRIP_MS + 1, 200])
def test_nothing_is_asked_for_on_a_line_that_answers_too_late(trip_ms: int) -> None:
    asking = Asking()
    arrive(asking, [1, 3], 0, trip_ms)
    assert due(asking, 0, trip_ms) == []


def test_hole_is_asked_for_while_the_round_trip_is_not_known() -> None:
    asking = Asking()
    arrive(asking, [1, 3], 0, None)
    assert due(asking, 0, None) == [2]


def test_answer_is_told_from_a_packet_that_was_only_late() -> None:
    asking = Asking()
    arrive(asking, [1, 3, 5], 0)
    assert due(asking, 0) == [2, 4]
    assert not asking.arrived(2, 5, round_trip_ms=20)
    assert asking.arrived(4, 21, round_trip_ms=20)


def test_outage_is_not_asked_for() -> None:
    asking = Asking()
    arrive(asking, [1, 1 + MAX_HOLE + 2], 0)
    assert not asking.has_holes


def test_source_that_counts_from_elsewhere_is_followed() -> None:
    asking = Asking()
    arrive(asking, [1000, 20, 21, 23], 0)
    assert due(asking, 0) == [22]


@given(
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 100)), max_size=80),
    st.none() | st.integers(0, 100),
    st.integers(0, 100),
)
def test_whatever_arrives_no_packet_is_asked_for_often_or_late(
    arrivals: list[tuple[int, int]], trip_ms: int | None, jitter_ms: int
) -> None:
    asking, now_ms, asked, answered = Asking(), 0, 0, 0
    for sequence, pause_ms in arrivals:
        now_ms += pause_ms
        answered += arrive(asking, [sequence], now_ms, trip_ms)
        requested = due(asking, now_ms, trip_ms, jitter_ms)
        asked += len(requested)
        assert len(requested) <= 4 * MAX_HOLE
    assert asked <= len(arrivals) * MAX_HOLE * MAX_ASKED
    assert answered <= asked


def test_packet_of_the_last_half_second_is_sent_again_twice_at_most() -> None:
    sent = SentPackets()
    sent.add(65_536, b"packet", 0)
    assert [sent.again(0, KEPT_MS) for _ in range(MAX_RESENT + 1)] == [b"packet"] * MAX_RESENT + [None]
    assert sent.resent == MAX_RESENT


def test_packet_that_is_old_or_was_never_sent_is_not_sent_again() -> None:
    sent = SentPackets()
    sent.add(1, b"packet", 0)
    assert sent.again(1, KEPT_MS + 1) is None
    assert sent.again(2, 0) is None


@given(st.lists(st.integers(0, 0xFFFF), max_size=500))
def test_a_caller_who_asks_for_everything_gets_three_times_what_it_was_sent(asked: list[int]) -> None:
    sent = SentPackets()
    for sequence in range(100):
        sent.add(sequence, b"packet", 0)
    answers = [sequence for sequence in asked * 3 if sent.again(sequence % 110, 0)]
    assert len(answers) <= MAX_KEPT * MAX_RESENT
