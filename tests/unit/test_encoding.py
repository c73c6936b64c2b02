"""A lossy line gets redundancy at once and loses it slowly; a slow one gets fewer bits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.core.encoding import BAD, CALM_REPORTS, CONGESTED, LOSSY, STEADY, LineQuality

pytestmark = pytest.mark.unit


def after(*reports: tuple[float | None, int | None]) -> LineQuality:
    quality = LineQuality()
    for loss_fraction, round_trip_ms in reports:
        quality.reported(loss_fraction, round_trip_ms)
    return quality


def test_call_begins_ready_for_loss() -> None:
    assert LineQuality().encoding == after((None, None), (0.0, 20)).encoding == STEADY


@pytest.mark.parametrize(
    ("loss_fraction", "round_trip_ms", "encoding"),
    [
        (0.04, 1_000, STEADY),
        (0.05, None, LOSSY),
        (0.14, 399, LOSSY),
        (0.15, 20, BAD),
        (1.0, 20, BAD),
        (0.05, 400, CONGESTED),
    ],
)
def test_worse_line_is_encoded_for_with_the_first_report(
    loss_fraction: float, round_trip_ms: int | None, encoding: object
) -> None:
    assert after((loss_fraction, round_trip_ms)).encoding == encoding


def test_line_is_taken_for_better_only_after_ten_calm_seconds() -> None:
    quality = after((0.2, 20))
    assert not any(quality.reported(0.0, 20) for _ in range(CALM_REPORTS - 1))
    assert quality.encoding == BAD
    assert quality.reported(0.0, 20)
    assert quality.encoding == STEADY


def test_line_that_eases_a_little_is_left_as_it_is() -> None:
    quality = after((0.06, 20))
    assert not any(quality.reported(0.045, 20) for _ in range(3 * CALM_REPORTS))


def test_single_bad_report_begins_the_calm_anew() -> None:
    quality = after((0.06, 20), *[(0.0, 20)] * (CALM_REPORTS - 1), (0.06, 20))
    assert not quality.reported(0.0, 20)
    assert quality.encoding == LOSSY


@given(st.lists(st.tuples(st.none() | st.floats(0, 1), st.none() | st.integers(0, 5_000)), max_size=300))
def test_encoding_never_changes_for_the_better_within_ten_seconds(
    reports: list[tuple[float | None, int | None]],
) -> None:
    quality, order, since = LineQuality(), (STEADY, LOSSY, BAD, CONGESTED), CALM_REPORTS
    for report in reports:
        before = quality.encoding
        has_changed = quality.reported(*report)
        assert has_changed == (quality.encoding != before)
        since += 1
        if order.index(quality.encoding) < order.index(before):
            assert since >= CALM_REPORTS
        if has_changed:
            since = 0
