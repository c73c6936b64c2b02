"""Whether a caller is there, how much they heard, and whether the owner owes more."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.media.owed import OVERDUE_MS, SUSPECT_EACH_MS, Owed
from voxthread.media.playout import Played, PlayoutQueue
from voxthread.media.presence import Presence
from voxthread.media.settings import MediaSettings
from voxthread.wire.audio import AudioRecord
from voxthread.wire.facts import HoldPlayout, PeerHeard, PeerSilent, ReplyEnded, RewindPlayout

pytestmark = pytest.mark.unit

SETTINGS = MediaSettings()
BEGAN_MS = 1_000_000
NOTHING = Played(None, None)


def presence(heard: Played = NOTHING) -> Presence:
    return Presence(SETTINGS, BEGAN_MS, heard)


def test_quiet_caller_is_silent_after_5_s_unplayed_to_after_15_and_gone_after_30() -> None:
    caller = presence()
    assert caller.notice(BEGAN_MS + 4_999) is None
    assert caller.notice(BEGAN_MS + 5_000) == PeerSilent()
    assert caller.notice(BEGAN_MS + 14_999) is None
    assert caller.is_listening(BEGAN_MS + 14_999)
    assert not caller.is_listening(BEGAN_MS + 15_000)
    assert not caller.is_gone(BEGAN_MS + 29_999)
    assert caller.is_gone(BEGAN_MS + 30_000)


def test_silent_caller_is_told_of_with_what_they_had_been_sent_when_last_there() -> None:
    caller = presence()
    assert caller.arrived(BEGAN_MS + 700, Played(3, 640)) is None
    assert caller.notice(BEGAN_MS + 5_700) == PeerSilent(turn_id=3, heard_ms=640)
    assert caller.heard == (3, 640)


def test_silent_caller_who_comes_back_is_heard_and_listens() -> None:
    caller = presence()
    caller.notice(BEGAN_MS + 20_000)
    assert caller.arrived(BEGAN_MS + 20_000, Played(3, 5_000)) == PeerHeard()
    assert caller.is_listening(BEGAN_MS + 20_001)
    assert caller.arrived(BEGAN_MS + 20_020, Played(3, 5_020)) is None
    assert caller.heard == (3, 5_020)


def test_caller_of_whom_nothing_came_has_heard_what_they_had_before() -> None:
    assert presence(Played(2, 400)).heard == (2, 400)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9_000)), max_size=40))
def test_silence_and_return_are_told_in_turns(steps: list[tuple[bool, int]]) -> None:
    caller, now = presence(), BEGAN_MS
    last_ms, told = now, []
    for arrives, pause_ms in steps:
        now += pause_ms
        if arrives:
            told.append(caller.arrived(now, NOTHING))
            last_ms = now
        else:
            told.append(caller.notice(now))
            assert caller.is_listening(now) == (now - last_ms < 15_000)
    news = [type(each) for each in told if each is not None]
    assert news == [PeerHeard if index % 2 else PeerSilent for index in range(len(news))]


# -- what the owner owes ---------------------------------------------------------------------------------


def overdue_at(owed: Owed, *, until_ms: int, is_starved: bool = True, since_ms: int = 0) -> list[int]:
    return [now for now in range(since_ms, until_ms, 20) if owed.is_overdue(is_starved=is_starved, now_ms=now)]


def test_reply_that_ran_dry_is_overdue_after_half_a_second_and_each_second() -> None:
    assert overdue_at(Owed(), until_ms=3_000) == [OVERDUE_MS, OVERDUE_MS + SUSPECT_EACH_MS, 2_500]


def test_owner_that_writes_anything_has_another_half_second() -> None:
    owed = Owed()
    assert overdue_at(owed, until_ms=400) == []
    owed.received()
    assert overdue_at(owed, since_ms=400, until_ms=1_000) == [900]


def test_reply_that_goes_on_owes_nothing() -> None:
    owed = Owed()
    overdue_at(owed, until_ms=400)
    assert overdue_at(owed, since_ms=400, until_ms=420, is_starved=False) == []
    assert overdue_at(owed, since_ms=420, until_ms=900) == []


def test_owner_is_suspected_once_a_second_whatever_it_sends_between() -> None:
    owed, suspected = Owed(), []
    for now in range(0, 10_000, 20):
        is_starved = now % 600 != 0
        suspected += [now] if owed.is_overdue(is_starved=is_starved, now_ms=now) else []
    assert len(suspected) > 1
    assert all(b - a >= SUSPECT_EACH_MS for a, b in itertools.pairwise(suspected))


def test_only_a_reply_being_played_starves() -> None:
    queue = PlayoutQueue()
    assert not queue.is_starved
    queue.add(AudioRecord(epoch=1, seq=1, timestamp=0, packets=(b"a", b"b"), turn_id=1))
    queue.next_packet()
    assert not queue.is_starved
    queue.next_packet()
    assert queue.is_starved
    queue.command(HoldPlayout(turn_id=1))
    assert not queue.is_starved
    queue.command(RewindPlayout(turn_id=1, to_ms=20))
    assert not queue.is_starved


def test_reply_that_ended_does_not_starve() -> None:
    queue = PlayoutQueue()
    queue.add(AudioRecord(epoch=1, seq=1, timestamp=0, packets=(b"a",), turn_id=1))
    queue.next_packet()
    queue.command(ReplyEnded(turn_id=1, total_ms=20))
    assert not queue.is_starved
