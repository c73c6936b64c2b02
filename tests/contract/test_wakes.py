"""The datagrams by which processes wake each other: only those who wait, and never a file left behind."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from shutil import rmtree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.bus.wakes import Wakes

pytestmark = pytest.mark.contract

PATIENCE_S = 5


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Wakes]]:
    with ExitStack() as stack:
        yield [stack.enter_context(closing(Wakes(tmp_path / "wakes"))) for _ in range(3)]


def test_who_waits_for_a_place_is_woken_and_others_are_not(three: list[Wakes]) -> None:
    writer, waiting, other = three
    waiting.await_place(3)
    other.await_place(4)
    writer.tell([3])
    assert waiting.listen(PATIENCE_S) == [[3]]
    assert other.listen(0) == []


def test_who_waits_for_one_of_many_places_hears_of_all(three: list[Wakes]) -> None:
    writer, waiting, _ = three
    waiting.await_place(300)
    waiting.await_place(5)
    writer.tell([5, 6, 300])
    assert waiting.listen(PATIENCE_S) == [[5, 6, 300]]


def test_a_place_awaited_later_is_told_of_at_once(three: list[Wakes]) -> None:
    writer, waiting, _ = three
    for place in range(70):
        waiting.await_place(place)
        writer.tell([place])
        assert waiting.listen(PATIENCE_S) == [[place]]


def test_one_rings_itself_under_every_name(three: list[Wakes]) -> None:
    (wakes, *_) = three
    for place in range(3):
        wakes.await_place(place)
        wakes.ring()
        assert wakes.listen(PATIENCE_S) == [[]]


def test_without_its_directory_nothing_fails(tmp_path: Path) -> None:
    with closing(Wakes(tmp_path / "wakes")) as wakes:
        rmtree(tmp_path / "wakes")
        wakes.await_place(3)
        wakes.tell([3])
        wakes.ring()
        assert wakes.listen(0) == []


def test_what_is_closed_leaves_nothing(tmp_path: Path) -> None:
    with closing(Wakes(tmp_path)) as wakes:
        wakes.await_place(63)
    assert list(tmp_path.iterdir()) == []


@given(awaited=st.sets(st.integers(0, 500)), told=st.lists(st.integers(0, 500), min_size=1))
def test_nobody_who_waits_is_passed_over(
    tmp_path_factory: pytest.TempPathFactory, awaited: set[int], told: list[int]
) -> None:
    directory = tmp_path_factory.mktemp("wakes")
    with closing(Wakes(directory)) as writer, closing(Wakes(directory)) as waiting:
        for place in awaited:
            waiting.await_place(place)
        writer.tell(told)
        hints = waiting.listen(PATIENCE_S if awaited & set(told) else 0)
        assert hints == [told] or not awaited & set(told)
