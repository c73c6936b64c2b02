"""Ownership in single scenes: who claims what and when, and what stops it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ownership_world import Worker, World
from voxthread.core.balance import claim_order, giver_and_taker, score
from voxthread.core.owners import Owners, PartitionClaim, PartitionHold, PartitionRelease, Tenure
from voxthread.core.ownership import Granted, Lost, Ownership, OwnershipPolicy
from voxthread.core.workers import DeathNotice, Heartbeat, LivenessPolicy, Workers

pytestmark = pytest.mark.unit


def claim(partition: int, previous_epoch: int, worker_id: str) -> PartitionClaim:
    return PartitionClaim(partition=partition, previous_epoch=previous_epoch, worker_id=worker_id)


def release(partition: int, epoch: int, worker_id: str) -> PartitionRelease:
    return PartitionRelease(partition=partition, epoch=epoch, worker_id=worker_id)


def hold(partition: int, epoch: int, worker_id: str) -> PartitionHold:
    return PartitionHold(partition=partition, epoch=epoch, worker_id=worker_id)


def settled(workers: int, partitions: int = 8) -> tuple[World, list[Worker]]:
    world = World(partitions, slowest_ms=2)
    joined = [world.join() for _ in range(workers)]
    world.run(10_000)
    world.check_settled()
    return world, joined


# -- the fold ---------------------------------------------------------------------------------------------


def test_of_two_claims_of_one_epoch_the_first_on_the_log_is_granted() -> None:
    owners = Owners()
    assert owners.apply(0, claim(3, 0, "a"))
    assert not owners.apply(1, claim(3, 0, "b"))
    assert owners[3] == Tenure(epoch=1, owner="a")
    assert owners.apply(2, claim(3, 1, "b"))
    assert owners[3] == Tenure(epoch=3, owner="b")


def test_a_record_folded_twice_changes_nothing() -> None:
    owners = Owners()
    owners.apply(0, claim(3, 0, "a"))
    owners.apply(1, release(3, 1, "a"))
    assert not owners.apply(0, claim(3, 0, "a"))
    assert owners[3] == Tenure(epoch=1, released_by="a")
    assert owners.next_position == 2


@pytest.mark.parametrize("stale", [release(3, 1, "a"), release(3, 3, "a"), hold(3, 1, "a")])
def test_who_lost_a_partition_cannot_release_or_hold_it(stale: PartitionRelease | PartitionHold) -> None:
    owners = Owners()
    owners.apply(0, claim(3, 0, "a"))
    owners.skip(1)
    owners.apply(2, claim(3, 1, "b"))
    assert not owners.apply(3, stale)
    assert owners[3] == Tenure(epoch=3, owner="b")


def test_a_released_partition_keeps_its_epoch_for_the_next_claim() -> None:
    owners = Owners()
    owners.apply(0, claim(3, 0, "a"))
    owners.apply(1, release(3, 1, "a"))
    assert not owners.apply(2, claim(3, 0, "b"))
    assert owners.apply(3, claim(3, 1, "b"))


@pytest.mark.parametrize(
    "kept", [hold(3, 5, "a"), claim(3, 5, "b"), release(3, 5, "a")], ids=lambda change: type(change).__name__
)
def test_a_reader_who_comes_after_the_claim_expired_learns_its_epoch(kept: PartitionHold) -> None:
    late, full = Owners(), Owners()
    full.apply(4, claim(3, 0, "a"))
    for owners in (late, full):
        owners.apply(9, kept)
    assert late[3] == full[3]


def test_an_epoch_from_the_future_is_not_believed() -> None:
    owners = Owners()
    for position, change in enumerate([claim(3, 7, "a"), hold(3, 7, "a"), release(3, 7, "a")]):
        assert not owners.apply(position, change)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.sampled_from("abc"))))
def test_epochs_only_grow_and_each_has_one_owner(claims: list[tuple[int, int, str]]) -> None:
    owners = Owners()
    whose: dict[int, str] = {}
    for position, (partition, previous_epoch, worker_id) in enumerate(claims):
        before = owners[partition].epoch
        if owners.apply(position, claim(partition, previous_epoch, worker_id)):
            assert owners[partition].epoch > before
            assert whose.setdefault(owners[partition].epoch, worker_id) == worker_id


# -- balance ----------------------------------------------------------------------------------------------


def test_a_score_is_the_same_in_every_process_and_version() -> None:
    assert [score("w1", 0), score("w1", 1), score("w2", 0)] == [
        0x0E24_5BB8_88C4_7A03,
        0xD793_F77A_269F_96C7,
        0xC05D_C9F7_F6BB_46FF,
    ]


def test_those_with_less_come_first_and_scores_break_ties_differently_for_each_partition() -> None:
    loads = {"a": 3, "b": 1, "c": 1}
    lines = {tuple(claim_order(partition, loads, loads)) for partition in range(20)}
    assert lines == {("b", "c", "a"), ("c", "b", "a")}


@pytest.mark.parametrize(
    ("loads", "move"),
    [
        ({}, None),
        ({"a": 8}, None),
        ({"a": 4, "b": 3}, None),
        ({"a": 5, "b": 3}, ("a", "b")),
        ({"b": 5, "a": 5, "d": 0, "c": 0}, ("a", "c")),
    ],
)
def test_a_move_goes_from_the_most_to_the_least(loads: dict[str, int], move: tuple[str, str] | None) -> None:
    assert giver_and_taker(loads) == move


# -- the worker -------------------------------------------------------------------------------------------


def test_one_worker_takes_every_partition_at_once() -> None:
    world = World(8, slowest_ms=2)
    worker = world.join()
    world.run(20)
    assert sorted(worker.ownership.held) == list(range(8))
    assert worker.told == [Granted(partition, epoch) for partition, epoch in worker.ownership.held.items()]


def test_a_spare_shares_evenly() -> None:
    _, (first, second) = settled(2)
    assert (len(first.ownership.held), len(second.ownership.held)) == (4, 4)


def test_a_worker_that_is_not_ready_takes_nothing_until_it_is() -> None:
    world, (first,) = settled(1)
    cold = world.join()
    cold.ownership.set_ready(False)
    world.run(5_000)
    assert (len(first.ownership.held), len(cold.ownership.held)) == (8, 0)
    cold.ownership.set_ready(True)
    world.run(5_000)
    assert (len(first.ownership.held), len(cold.ownership.held)) == (4, 4)


def test_a_death_notice_is_acted_on_at_once() -> None:
    world, (first, second) = settled(2)
    world.kill(first, with_notice=True)
    world.run(10)  # four hops of at most 2 ms
    assert len(second.ownership.held) == 8


def test_a_death_without_notice_is_noticed_after_a_lease() -> None:
    world, (first, second) = settled(2)
    world.kill(first, with_notice=False)
    world.run(700)
    assert len(second.ownership.held) == 4
    world.run(500)
    assert len(second.ownership.held) == 8


def test_a_zombie_loses_all_when_it_reads_and_takes_nothing_from_the_living() -> None:
    world, (zombie, other) = settled(2)
    world.stop(zombie)
    world.run(30_000)
    assert (len(zombie.ownership.held), len(other.ownership.held)) == (4, 8)
    other.told.clear()
    world.resume(zombie)
    world.run(4)
    assert not zombie.ownership.held
    assert {type(change) for change in zombie.told[-4:]} == {Lost}
    world.run(10_000)
    world.check_settled()
    assert [type(change) for change in other.told] == [Lost] * 4


def test_an_outage_of_the_log_costs_nobody_anything() -> None:
    world, workers = settled(3)
    moves = world.moves
    world.lose_log()
    world.run(60_000)
    world.bring_log_back()
    world.run(10_000)
    assert world.moves == moves
    assert sum(len(worker.ownership.held) for worker in workers) == 8


def test_workers_that_come_back_one_after_the_other_are_waited_for() -> None:
    world, (first, second) = settled(2)
    moves = world.moves
    world.cut_off(first)
    world.cut_off(second)
    world.run(5_000)
    world.put_back(first)
    world.run(1_500)
    world.put_back(second)
    world.run(5_000)
    assert world.moves == moves


def test_a_falsely_noticed_worker_loses_its_partitions_and_gets_a_share_again() -> None:
    world, (first, second) = settled(2)
    world.notice(first)
    world.run(10)
    assert (len(first.ownership.held), len(second.ownership.held)) == (0, 8)
    world.run(10_000)
    assert (len(first.ownership.held), len(second.ownership.held)) == (4, 4)


def test_a_suspected_partition_is_taken_from_a_quiet_owner_before_its_lease_is_over() -> None:
    world, (first, second) = settled(2)
    partition = min(first.ownership.held)
    world.stop(first)
    world.suspect(partition)
    world.run(700)
    assert world.owner[partition][1] == second.id
    assert len(second.ownership.held) == 5


def test_a_suspected_owner_that_is_heard_of_keeps_what_it_owns() -> None:
    world, (first, _) = settled(2)
    held = dict(first.ownership.held)
    for _ in range(20):
        world.suspect(min(held))
        world.run(250)
    assert first.ownership.held == held


def test_a_suspicion_that_nobody_could_act_on_is_forgotten() -> None:
    world, (only,) = settled(1)
    cold = world.join()
    cold.ownership.set_ready(False)
    world.run(1_000)
    world.suspect(3)
    world.run(3_000)
    cold.ownership.set_ready(True)
    world._poke(cold)
    world.run(200)  # before the first round
    assert len(only.ownership.held) == 8


def test_nothing_is_claimed_while_the_log_is_away() -> None:
    world, (first, second) = settled(2)
    world.lose_log()
    world.run(5_000)
    second.ownership.handle_control(DeathNotice(worker_id=first.id, by="a reader who was slow"), world.now)
    world._poke(second)
    world.run(5_000)
    assert {type(record) for record in world._waiting} == {Heartbeat}


def test_a_drained_worker_hands_all_over_at_once() -> None:
    world, (leaving, staying) = settled(2)
    world.drain(leaving)
    world.run(10)
    assert (len(leaving.ownership.held), len(staying.ownership.held)) == (0, 8)
    world.run(5_000)
    assert not leaving.ownership.held


def test_partitions_move_to_who_joined_one_in_a_round() -> None:
    world, _ = settled(1)
    moves = world.moves
    joined = world.join()
    for _ in range(40):
        world.run(100)
        free = [partition for partition, (_, owner) in world.owner.items() if owner is None]
        assert len(free) <= 1
    assert world.moves - moves == len(joined.ownership.held) == 4


def test_an_id_used_again_owns_nothing_of_its_earlier_life() -> None:
    world, (worker,) = settled(1)
    world.kill(worker, with_notice=False)
    epochs = dict(worker.ownership.held)
    again = world.join(worker.id)
    world.run(5_000)
    assert len(again.ownership.held) == 8
    assert all(again.ownership.held[partition] > epoch for partition, epoch in epochs.items())
    assert not any(isinstance(change, Lost) for change in again.told)


def test_a_worker_gives_partitions_without_calls_first() -> None:
    world, (worker,) = settled(1)
    occupied = sorted(worker.ownership.held)[1:]
    given: list[int] = []
    for now in range(world.now, world.now + 1_000, 50):
        for name in (worker.id, "other"):
            beat = Heartbeat(worker_id=name, at_ms=now, is_first=False, is_ready=True)
            worker.ownership.handle_control(beat, now)
        effects = worker.ownership.handle_deadline(now, occupied)
        given += [effect.partition for effect in effects if isinstance(effect, PartitionRelease)]
    assert given == [min(worker.ownership.held)]


def test_nothing_is_claimed_before_the_claims_are_read() -> None:
    worker = Ownership("w", 1)
    worker.catch_up_to(2)
    worker.set_ready(True)
    (beat,) = worker.handle_deadline(1_000)
    assert isinstance(beat, Heartbeat)
    worker.handle_control(beat, 1_001)
    worker.skip_claim(0, 1_002)
    assert worker.handle_deadline(1_003) == []
    worker.skip_claim(1, 1_004)
    assert worker.deadline() == 1_004
    assert worker.handle_deadline(1_004) == [claim(0, 0, "w")]


def test_a_worker_that_learns_last_that_there_are_no_claims_claims_at_once() -> None:
    worker = Ownership("w", 1)
    worker.set_ready(True)
    (beat,) = worker.handle_deadline(1_000)
    assert isinstance(beat, Heartbeat)
    worker.handle_control(beat, 1_001)
    assert worker.handle_deadline(1_001) == []
    worker.catch_up_to(0)
    assert worker.deadline() <= 1_002
    assert worker.handle_deadline(1_002) == [claim(0, 0, "w")]


def test_heartbeats_that_overtake_one_another_do_not_make_a_lease_shorter() -> None:
    workers = Workers("w", LivenessPolicy())
    workers.note("other")
    for at_ms in (0, 300, 150, 600, 450, 900, 750):
        beat = Heartbeat(worker_id="w", at_ms=at_ms, is_first=False, is_ready=True)
        workers.handle_heartbeat(beat, now=920)
        assert workers.silent() == []
    workers.handle_heartbeat(Heartbeat(worker_id="w", at_ms=1_000, is_first=False, is_ready=True), now=1_000)
    assert workers.silent() == ["other"]


def test_what_an_earlier_life_still_owned_is_released_by_one_that_leaves() -> None:
    world, (worker,) = settled(1)
    world.kill(worker, with_notice=False)
    world.drain(world.join(worker.id))
    other = world.join()
    world.run(2_000)
    assert len(other.ownership.held) == 8


def test_the_first_heartbeat_is_repeated_until_it_is_heard() -> None:
    worker = Ownership("w", 1)
    (first,) = worker.handle_deadline(0)
    (second,) = worker.handle_deadline(200)
    assert isinstance(first, Heartbeat)
    assert isinstance(second, Heartbeat)
    assert (first.is_first, second.is_first) == (True, True)
    worker.handle_control(second, 201)
    (third,) = worker.handle_deadline(400)
    assert isinstance(third, Heartbeat)
    assert not third.is_first
    worker.handle_control(DeathNotice(worker_id="w", by="another"), 401)
    assert worker.deadline() == 401


@pytest.mark.parametrize("much", [OwnershipPolicy(repeat_ms=300), OwnershipPolicy(repeat_records=1)])
def test_what_is_held_is_said_again_after_a_while(much: OwnershipPolicy) -> None:
    worker = Ownership("w", 1, much)
    worker.catch_up_to(0)
    worker.set_ready(True)
    (beat,) = worker.handle_deadline(0)
    assert isinstance(beat, Heartbeat)
    worker.handle_control(beat, 1)
    (asked,) = worker.handle_deadline(1)
    assert isinstance(asked, PartitionClaim)
    assert worker.handle_claim(0, asked, 2) == [Granted(0, 1)]
    effects = worker.handle_deadline(300)
    assert effects[1:] == [hold(0, 1, "w")]
    assert worker.handle_claim(1, hold(0, 1, "w"), 301) == []
