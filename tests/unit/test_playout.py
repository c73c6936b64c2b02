"""What is played, held, flushed and reported, packet by packet."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.media.downlink import KEEPALIVE_TICKS, MAX_GAP_TICKS, TRAILING_SILENCE_TICKS, Downlink
from voxthread.media.opus_packets import SILENCE
from voxthread.media.playout import GIVE_WAY_MS, MAX_QUEUED_MS, STEADFAST_MS, PlayoutQueue
from voxthread.wire.audio import AudioRecord
from voxthread.wire.facts import FlushPlayout, HoldPlayout, ReplyEnded, ResumePlayout, RewindPlayout

pytestmark = pytest.mark.unit

GIVE_WAY_TICKS = GIVE_WAY_MS // 20


def audio(turn_id: int, first: int, count: int) -> AudioRecord:
    packets = tuple(f"{turn_id}.{index}".encode() for index in range(first, first + count))
    return AudioRecord(epoch=1, seq=1, timestamp=first * 960, packets=packets, turn_id=turn_id)


def play(queue: PlayoutQueue, ticks: int) -> list[bytes | None]:
    return [queue.next_packet() for _ in range(ticks)]


def reports(queue: PlayoutQueue) -> list[tuple[int, str, int, int]]:
    return [(each.turn_id, each.state, each.played_ms, each.queued_ms) for each in queue.take_reports()]


def test_reply_is_played_packet_by_packet_and_reported_each_200_ms() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 12))
    queue.command(ReplyEnded(turn_id=1, total_ms=240))
    assert play(queue, 13) == [*audio(1, 0, 12).packets, None]
    assert reports(queue) == [
        (1, "playing", 20, 220),
        (1, "playing", 220, 20),
        (1, "drained", 240, 0),
    ]


def test_reply_without_audio_drains_at_once() -> None:
    queue = PlayoutQueue()
    queue.command(ReplyEnded(turn_id=1, total_ms=0))
    assert play(queue, 1) == [None]
    assert reports(queue) == [(1, "drained", 0, 0)]


def test_audio_that_is_late_is_an_underrun_not_an_end() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 1))
    assert play(queue, 3) == [b"1.0", None, None]
    assert queue.underruns == 1
    queue.add(audio(1, 1, 1))
    assert play(queue, 1) == [b"1.1"]
    assert [state for _, state, _, _ in reports(queue)] == ["playing"]


def test_held_reply_stays_where_it_is_until_resumed() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 4))
    play(queue, 2)
    queue.command(HoldPlayout(turn_id=1))
    queue.command(HoldPlayout(turn_id=1))
    assert play(queue, 3) == [None, None, None]
    assert queue.underruns == 0
    queue.command(ResumePlayout(turn_id=1))
    assert play(queue, 1) == [b"1.2"]
    assert reports(queue) == [(1, "playing", 20, 60), (1, "held", 40, 40), (1, "playing", 60, 20)]


def test_hold_that_comes_before_the_audio_holds_it() -> None:
    queue = PlayoutQueue()
    queue.command(HoldPlayout(turn_id=1))
    queue.add(audio(1, 0, 1))
    assert play(queue, 1) == [None]


def test_reply_gives_way_to_a_voice_and_goes_on_by_itself_if_nobody_says_more() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 10))
    play(queue, 2)
    queue.give_way()
    assert queue.is_playing
    assert play(queue, GIVE_WAY_TICKS) == [None] * GIVE_WAY_TICKS
    assert queue.is_playing
    assert not queue.is_starved
    assert play(queue, 1) == [b"1.2"]
    assert reports(queue) == [(1, "playing", 20, 180), (1, "giving_way", 40, 160), (1, "playing", 60, 140)]
    assert queue.underruns == 0


def test_reply_that_gave_way_for_nothing_does_not_for_a_while() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 600))
    for _ in range(2):
        play(queue, 1)
        queue.give_way()
        assert play(queue, GIVE_WAY_TICKS) == [None] * GIVE_WAY_TICKS
        for _ in range(STEADFAST_MS // 20 - 1):
            assert play(queue, 1) != [None]
            queue.give_way()


def test_reply_that_gave_way_rightly_does_so_again() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 10))
    for _ in range(2):
        play(queue, 1)
        queue.give_way()
        assert play(queue, 2) == [None, None]
        queue.command(HoldPlayout(turn_id=1))
        queue.command(ResumePlayout(turn_id=1))


def test_reply_that_gives_way_is_held_once_its_owner_says_so() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 10))
    play(queue, 1)
    queue.give_way()
    queue.command(HoldPlayout(turn_id=1))
    assert play(queue, 2 * GIVE_WAY_TICKS) == [None] * 2 * GIVE_WAY_TICKS
    queue.command(ResumePlayout(turn_id=1))
    assert play(queue, 1) == [b"1.1"]


def test_reply_that_gives_way_goes_on_at_once_when_its_owner_says_so() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 10))
    play(queue, 1)
    queue.give_way()
    queue.command(ResumePlayout(turn_id=2))
    assert play(queue, 1) == [None]
    queue.command(ResumePlayout(turn_id=1))
    assert play(queue, 1) == [b"1.1"]


@pytest.mark.parametrize("command", [FlushPlayout(turn_id=1), RewindPlayout(turn_id=1, to_ms=0)])
def test_what_follows_a_reply_that_gave_way_does_not(command: FlushPlayout | RewindPlayout) -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 10))
    play(queue, 1)
    queue.give_way()
    queue.command(command)
    queue.add(audio(2, 0, 2) if isinstance(command, FlushPlayout) else audio(1, 0, 2))
    assert play(queue, 1)[0] is not None


def test_nothing_gives_way_while_nothing_is_played() -> None:
    queue = PlayoutQueue()
    queue.give_way()
    queue.add(audio(1, 0, 2))
    queue.command(HoldPlayout(turn_id=1))
    play(queue, 1)
    queue.give_way()
    queue.command(ResumePlayout(turn_id=1))
    assert play(queue, 2) == [b"1.0", b"1.1"]


def test_flushed_reply_and_what_comes_of_it_later_are_never_played() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 5))
    play(queue, 2)
    queue.command(FlushPlayout(turn_id=1))
    queue.add(audio(1, 5, 5))
    queue.command(ResumePlayout(turn_id=1))
    queue.command(FlushPlayout(turn_id=1))
    assert play(queue, 1) == [None]
    assert reports(queue) == [(1, "playing", 20, 80), (1, "flushed", 40, 0)]
    assert queue.stale_records == 2
    queue.add(audio(2, 0, 1))
    assert play(queue, 1) == [b"2.0"]


def test_flush_takes_older_turns_along() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 5))
    queue.add(audio(2, 0, 5))
    queue.command(FlushPlayout(turn_id=2))
    assert [(turn, state) for turn, state, _, _ in reports(queue)] == [(1, "flushed"), (2, "flushed")]
    assert play(queue, 1) == [None]


def test_flush_of_a_turn_not_seen_yet_fences_it() -> None:
    queue = PlayoutQueue()
    queue.command(FlushPlayout(turn_id=3))
    queue.add(audio(3, 0, 5))
    assert play(queue, 1) == [None]


def test_next_turn_plays_after_the_one_before_has_run_out() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 1))
    queue.add(audio(2, 0, 1))
    assert play(queue, 3) == [b"1.0", b"2.0", None]


def test_audio_that_repeats_what_was_received_is_dropped() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 4))
    queue.add(audio(1, 2, 4))
    queue.add(audio(1, 1, 2))
    assert play(queue, 7) == [*audio(1, 0, 6).packets, None]


def test_audio_that_does_not_fit_is_dropped_and_counted() -> None:
    queue = PlayoutQueue()
    for first in range(0, MAX_QUEUED_MS // 20 + 100, 100):
        queue.add(audio(1, first, 100))
    assert queue.queued_ms == MAX_QUEUED_MS
    assert queue.dropped_ms == 100 * 20


# -- going back ------------------------------------------------------------------------------------------


def test_rewound_reply_goes_on_with_the_audio_that_follows() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 30))
    assert len(play(queue, 20)) == 20
    queue.command(RewindPlayout(turn_id=1, to_ms=100))
    assert (queue.queued_ms, queue.played) == (0, (1, 100))
    assert play(queue, 1) == [None]
    queue.add(audio(1, 5, 2))
    assert play(queue, 3) == [b"1.5", b"1.6", None]
    assert reports(queue)[-1] == (1, "playing", 120, 20)
    assert queue.underruns == 1


def test_rewind_of_a_turn_not_seen_yet_makes_it() -> None:
    queue = PlayoutQueue()
    queue.command(RewindPlayout(turn_id=3, to_ms=1_010))
    assert queue.played == (3, 1_000)
    queue.add(audio(2, 0, 1))
    queue.add(audio(3, 48, 4))
    queue.command(ReplyEnded(turn_id=3, total_ms=1_040))
    assert play(queue, 3) == [b"3.50", b"3.51", None]
    assert reports(queue) == [(3, "playing", 1_020, 20), (3, "drained", 1_040, 0)]


def test_rewound_reply_is_not_ended_until_that_is_told_again() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 2))
    queue.command(ReplyEnded(turn_id=1, total_ms=40))
    queue.command(RewindPlayout(turn_id=1, to_ms=20))
    assert play(queue, 1) == [None]
    assert reports(queue) == []
    queue.add(audio(1, 1, 1))
    queue.command(ReplyEnded(turn_id=1, total_ms=40))
    assert play(queue, 2) == [b"1.1", None]
    assert reports(queue)[-1] == (1, "drained", 40, 0)


def test_reply_played_to_its_end_can_be_rewound_for_not_all_of_it_need_have_been_heard() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 3))
    queue.command(ReplyEnded(turn_id=1, total_ms=60))
    play(queue, 4)
    queue.command(RewindPlayout(turn_id=1, to_ms=20))
    queue.add(audio(1, 1, 2))
    assert play(queue, 3) == [b"1.1", b"1.2", None]


def test_rewind_of_a_flushed_or_older_turn_is_stale() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 1))
    queue.add(audio(2, 0, 1))
    queue.command(RewindPlayout(turn_id=1, to_ms=0))
    assert play(queue, 2) == [b"1.0", b"2.0"]
    queue.command(FlushPlayout(turn_id=2))
    queue.command(RewindPlayout(turn_id=2, to_ms=0))
    queue.add(audio(2, 0, 1))
    assert play(queue, 1) == [None]
    assert queue.stale_records == 3


def test_held_reply_that_is_rewound_stays_held() -> None:
    queue = PlayoutQueue()
    queue.add(audio(1, 0, 3))
    play(queue, 2)
    queue.command(HoldPlayout(turn_id=1))
    queue.command(RewindPlayout(turn_id=1, to_ms=20))
    queue.add(audio(1, 1, 2))
    assert play(queue, 1) == [None]
    queue.command(ResumePlayout(turn_id=1))
    assert play(queue, 1) == [b"1.1"]


def test_turn_whose_first_audio_is_not_its_beginning_was_played_up_to_there() -> None:
    queue = PlayoutQueue()
    queue.add(audio(2, 50, 1))
    play(queue, 1)
    assert queue.played == (2, 1_020)
    assert reports(queue) == [(2, "playing", 1_020, 0)]


class Owner:
    """Writes one reply after the other, without a hole, and knows what each tick must play."""

    def __init__(self) -> None:
        self.queue = PlayoutQueue()
        self.turn_id = 1
        self.written = self.position = 0
        self.has_ended = self.is_held = self.is_flushed = False

    def write(self, count: int) -> None:
        if not self.has_ended and not self.is_flushed:
            repeated = min(2, self.written)
            self.queue.add(audio(self.turn_id, self.written - repeated, repeated + count))
            self.written += count

    def end(self) -> None:
        self.has_ended = True
        self.queue.command(ReplyEnded(turn_id=self.turn_id, total_ms=self.written * 20))

    def rewind(self, back: int) -> None:
        if not self.is_flushed:
            self.position = self.written = max(0, self.position - back)
            self.has_ended = False
        self.queue.command(RewindPlayout(turn_id=self.turn_id, to_ms=max(0, self.position) * 20))

    def hold(self) -> None:
        if not (self.has_ended and self.position == self.written):  # a reply that is over is not held
            self.is_held = True
            self.queue.command(HoldPlayout(turn_id=self.turn_id))

    def resume(self) -> None:
        self.is_held = False
        self.queue.command(ResumePlayout(turn_id=self.turn_id))

    def flush(self) -> None:
        self.is_flushed, self.is_held = True, False
        self.queue.command(FlushPlayout(turn_id=self.turn_id))

    def begin(self) -> None:
        self.flush()
        self.turn_id += 1
        self.written = self.position = 0
        self.has_ended = self.is_flushed = False

    def move(self) -> None:
        """To a fresh queue, which knows nothing of what was."""
        self.queue = PlayoutQueue()
        self.is_held = False
        self.rewind(3)

    def tick(self) -> None:
        packet = self.queue.next_packet()
        plays = self.position < self.written and not self.is_held and not self.is_flushed
        assert packet == (f"{self.turn_id}.{self.position}".encode() if plays else None)
        self.position += plays
        for report in self.queue.take_reports():
            if report.turn_id == self.turn_id and report.state != "flushed":
                assert report.played_ms == self.position * 20
            if report.state == "drained":
                assert self.has_ended
                assert self.position == self.written
                self.is_held = False


steps = st.one_of(
    st.tuples(st.just("write"), st.integers(0, 12)),
    st.tuples(st.just("rewind"), st.integers(0, 20)),
    st.tuples(st.sampled_from(["tick", "tick", "end", "hold", "resume", "flush", "begin", "move"])),
)


@given(st.lists(steps, max_size=80))
def test_rewound_reply_is_played_from_there_once_and_drains_only_when_ended_again(
    steps: list[tuple[str, int] | tuple[str]],
) -> None:
    owner = Owner()
    for name, *count in steps:
        getattr(owner, name)(*count)
        owner.tick()


# -- whatever an owner writes ----------------------------------------------------------------------------

Command = Callable[[PlayoutQueue], object]
turns = st.integers(1, 4)
commands: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        lambda turn, first, count: lambda queue: queue.add(audio(turn, first, count)),
        turns,
        st.integers(0, 30),
        st.integers(0, 30),
    ),
    st.builds(lambda turn: lambda queue: queue.command(HoldPlayout(turn_id=turn)), turns),
    st.builds(lambda turn: lambda queue: queue.command(ResumePlayout(turn_id=turn)), turns),
    st.builds(lambda turn: lambda queue: queue.command(FlushPlayout(turn_id=turn)), turns),
    st.builds(lambda turn: lambda queue: queue.command(ReplyEnded(turn_id=turn, total_ms=1)), turns),
    st.builds(lambda ticks: lambda queue: play(queue, ticks), st.integers(1, 40)),
    st.just(PlayoutQueue.give_way),
)


@given(st.lists(commands, max_size=40))
def test_nothing_is_played_twice_out_of_order_or_after_its_flush(steps: list[Command]) -> None:
    queue = PlayoutQueue()
    played: list[tuple[int, int]] = []
    flushed: dict[int, int] = {}
    counted: dict[int, int] = {}
    for step in steps:
        result = step(queue)
        for packet in result if isinstance(result, list) else []:
            if packet:
                turn, index = packet.decode().split(".")
                assert int(turn) not in flushed
                played.append((int(turn), int(index)))
                counted[int(turn)] = counted.get(int(turn), int(index) * 20) + 20
        for report in queue.take_reports():
            assert report.queued_ms >= 0
            if report.state in ("flushed", "drained"):
                assert report.turn_id not in flushed
                flushed[report.turn_id] = report.played_ms
                assert report.played_ms == counted.get(report.turn_id, report.played_ms)
    assert played == sorted(set(played))
    assert queue.queued_ms <= MAX_QUEUED_MS


class Line:
    """Stands for an `RtpLink`: remembers what was sent and when on its clock."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, int]] = []
        self.reports = 0
        self._clock = 0

    def send(self, payload: bytes, timestamp_increment: int) -> bool:
        self._clock += timestamp_increment
        self.sent.append((payload, self._clock // 960))
        return True

    def send_report(self) -> None:
        self.reports += 1


def test_silence_trails_off_to_a_keepalive_and_timestamps_go_on() -> None:
    line = Line()
    downlink = Downlink(line, receives_audio=True)
    for tick in range(1, 101):
        downlink.tick(b"voice" if tick in (1, 100) else None, 1)
    first, *silence, last = line.sent
    assert first == (b"voice", 1)
    assert [payload for payload, _ in silence] == [SILENCE] * len(silence)
    expected = [*range(TRAILING_SILENCE_TICKS), *range(KEEPALIVE_TICKS, 98, KEEPALIVE_TICKS)]
    assert [at - 2 for _, at in silence] == expected
    assert last == (b"voice", 100)
    assert line.reports == 2


def test_hole_and_stall_leave_a_gap_in_the_timestamps() -> None:
    line = Line()
    downlink = Downlink(line, receives_audio=True)
    downlink.tick(b"a", 1)
    downlink.tick(b"", 1)
    downlink.tick(b"b", 1)
    downlink.tick(b"c", 7)
    assert line.sent == [(b"a", 1), (b"b", 3), (b"c", 10)]


def test_reply_that_does_not_go_on_leaves_a_gap_and_then_silence() -> None:
    line = Line()
    downlink = Downlink(line, receives_audio=True)
    for packet in (b"a", *[b""] * (MAX_GAP_TICKS + 2), b"b", b"", b"c", None):
        downlink.tick(packet, 1)
    resumed = MAX_GAP_TICKS + 4
    assert line.sent == [
        (b"a", 1),
        (SILENCE, MAX_GAP_TICKS + 2),
        (SILENCE, MAX_GAP_TICKS + 3),
        (b"b", resumed),
        (b"c", resumed + 2),
        (SILENCE, resumed + 3),
    ]


def test_peer_that_receives_no_audio_is_sent_reports_only() -> None:
    line = Line()
    downlink = Downlink(line, receives_audio=False)
    for _ in range(100):
        downlink.tick(b"voice", 1)
    assert line.sent == []
    assert line.reports == 2
