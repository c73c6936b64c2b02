"""When a role that has died is started again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.supervisor.restarts import Restart, RestartPolicy, Restarts

pytestmark = pytest.mark.unit

POLICY = RestartPolicy()


def test_the_first_death_restarts_at_once() -> None:
    assert Restarts(POLICY).handle_death(1_000) == Restart(0, is_failing=False)


def test_a_role_for_which_another_stands_in_waits_until_that_one_has_answered() -> None:
    restarts = Restarts(POLICY)
    assert restarts.handle_death(1_000, has_stand_in=True).delay_ms == POLICY.stand_in_ms
    assert restarts.handle_death(5_000).delay_ms == POLICY.first_ms


def test_deaths_in_a_row_restart_later_each_time_and_the_fifth_is_told() -> None:
    restarts = Restarts(POLICY)
    delays = [restarts.handle_death(at_ms) for at_ms in range(0, 6_000, 1_000)]
    assert [delay.delay_ms for delay in delays] == [0, 200, 400, 800, 5_000, 5_000]
    assert [delay.is_failing for delay in delays] == [False, False, False, False, True, True]


def test_a_role_that_ran_for_a_window_starts_with_a_clean_sheet() -> None:
    restarts = Restarts(POLICY)
    for at_ms in range(5):
        restarts.handle_death(at_ms)
    assert restarts.handle_death(4 + POLICY.window_ms) == Restart(0, is_failing=False)


@given(st.lists(st.integers(0, 60_000), max_size=200))
def test_whatever_happens_the_delay_is_bounded_and_failing_means_many_deaths(lives_ms: list[int]) -> None:
    restarts = Restarts(POLICY)
    now, deaths_ms = 0, []
    for life_ms in lives_ms:
        now += life_ms
        deaths_ms.append(now)
        restart = restarts.handle_death(now)
        recent = sum(now - at_ms < POLICY.window_ms for at_ms in deaths_ms)
        assert restart.is_failing == (recent >= POLICY.failing_deaths)
        assert (restart.delay_ms == 0) == (recent == 1)
        assert restart.delay_ms <= POLICY.longest_ms
