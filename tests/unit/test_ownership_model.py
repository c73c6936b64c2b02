"""Ownership under arbitrary lives and deaths: what must hold whatever happens to workers and to the log."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ownership_world import Worker, World

pytestmark = pytest.mark.unit

PARTITIONS = 7
SETTLE_MS = 12_000
"""Leases, an outage of one's own, and a round for each partition."""

_who = st.integers(0, 5)
_long = st.sampled_from([100, 400, 700, 1_200, 4_000])
_fault = st.one_of(
    st.tuples(st.just("kill"), _who, st.booleans()),
    st.tuples(st.just("stop"), _who, _long),
    st.tuples(st.just("cut off"), _who, _long),
    st.tuples(st.just("log away"), _long),
    st.tuples(st.just("falsely notice"), _who),
    st.tuples(st.just("suspect"), st.integers(0, PARTITIONS - 1)),
    st.tuples(st.just("drain"), _who),
    st.tuples(st.just("join")),
    st.tuples(st.just("again"), _who),
)
_faults = st.lists(st.tuples(st.sampled_from([0, 3, 30, 200, 1_000]), _fault), max_size=14)


def inflict(world: World, fault: tuple[object, ...]) -> None:
    workers = list(world.workers.values())

    def worker(index: int) -> Worker:
        return workers[index % len(workers)]

    match fault:
        case ("kill", int(index), bool(with_notice)):
            world.kill(worker(index), with_notice=with_notice)
        case ("stop", int(index), int(ms)):
            stopped = worker(index)
            world.stop(stopped)
            world._later(ms, lambda: world.resume(stopped))
        case ("cut off", int(index), int(ms)):
            cut_off = worker(index)
            world.cut_off(cut_off)
            world._later(ms, lambda: world.put_back(cut_off))
        case ("log away", int(ms)):
            world.lose_log()
            world._later(ms, world.bring_log_back)
        case ("falsely notice", int(index)):
            world.notice(worker(index))
        case ("suspect", int(partition)):
            world.suspect(partition)
        case ("drain", int(index)):
            world.drain(worker(index))
        case ("again", int(index)) if not worker(index).is_alive:
            world.join(worker(index).id)
        case _ if len(workers) < 6:
            world.join()


@given(_faults, st.integers(0, 2**32), st.integers(1, 3), st.sampled_from([5, 40, 300]))
def test_no_two_own_one_epoch_and_all_settles(
    faults: list[tuple[int, tuple[object, ...]]], seed: int, workers: int, slowest_ms: int
) -> None:
    world = World(PARTITIONS, seed, slowest_ms=slowest_ms)
    for _ in range(workers):
        world.join()
    for pause_ms, fault in faults:
        world.run(pause_ms)
        inflict(world, fault)
    world.run(4_000)  # whatever was to end has ended
    if not any(worker.is_alive and not worker.is_leaving for worker in world.workers.values()):
        world.join()
    world.run(SETTLE_MS)
    world.check_settled()
    written = len(world.claims)
    world.run(5_000)
    assert len(world.claims) == written, "it never rests"


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 24))
def test_workers_that_join_are_given_their_share_with_the_fewest_moves(
    seed: int, workers: int, partitions: int
) -> None:
    world = World(partitions, seed)
    for _ in range(workers):
        world.join()
    world.run(6_000)
    world.check_settled()
    before, moves = world.loads(), world.moves
    world.join()
    world.run(6_000)
    world.check_settled()
    after = world.loads()
    assert world.moves - moves == sum((after - before).values()) == partitions // (workers + 1)


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.integers(2, 5), st.booleans())
def test_a_death_moves_the_partitions_of_the_dead_only(seed: int, workers: int, with_notice: bool) -> None:
    world = World(12, seed)
    for _ in range(workers):
        world.join()
    world.run(6_000)
    random.Random(seed).shuffle(names := list(world.workers))
    dead, moves = world.workers[names[0]], world.moves
    world.kill(dead, with_notice=with_notice)
    world.run(6_000)
    world.check_settled()
    # A claim that overtakes the notice at one of its readers makes that one see the rest differently.
    assert world.moves - moves - len(dead.ownership.held) in (0, 1)
