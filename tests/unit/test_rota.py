import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.engines.tts.rota import Rota

pytestmark = pytest.mark.unit


def served(rota: Rota[str], turns: int) -> list[str]:
    order = []
    for _ in range(turns):
        turn = rota.next()
        if turn is None:
            break
        request, work = turn
        rota.spend(request)
        order.append(work)
    return order


def test_two_requests_take_turns() -> None:
    rota: Rota[str] = Rota()
    rota.add(1, "a", 10)
    rota.add(2, "b", 10)
    assert served(rota, 4) == ["a", "b", "a", "b"]


def test_a_newcomer_goes_before_those_already_served() -> None:
    rota: Rota[str] = Rota()
    rota.add(1, "a", 10)
    rota.add(2, "b", 10)
    served(rota, 3)
    rota.add(3, "new", 10)
    assert served(rota, 2) == ["new", "b"]


def test_a_request_without_credit_waits_until_its_listener_takes_more() -> None:
    rota: Rota[str] = Rota()
    rota.add(1, "a", 2)
    assert served(rota, 5) == ["a", "a"]
    rota.grant(1)
    assert served(rota, 5) == ["a"]


def test_a_dropped_request_is_never_next_and_crossing_messages_are_harmless() -> None:
    rota: Rota[str] = Rota()
    rota.add(1, "a", 2)
    rota.drop(1)
    rota.drop(1)
    rota.grant(1)
    rota.spend(1)
    assert rota.next() is None


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6))
def test_no_request_gets_two_turns_more_than_another_that_has_credit(credits: list[int]) -> None:
    rota: Rota[str] = Rota()
    for number, credit in enumerate(credits):
        rota.add(number, str(number), credit)
    shortest = min(credits)
    order = served(rota, shortest * len(credits))
    assert {order.count(str(number)) for number in range(len(credits))} == {shortest}
