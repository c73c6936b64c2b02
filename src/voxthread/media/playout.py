"""What the caller is to hear, packet by packet, and how much of it was heard. Pure.

`next_packet` is called on every 20 ms tick on which somebody listens, or nobody ever did, so that a session
without audio still knows what would have been heard. Turns play one after the other. A turn that was flushed,
or one older than the newest turn, is stale: its audio and its commands are dropped.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from voxthread.core.audio import PACKET_MS, RTP_CLOCK_HZ
from voxthread.wire.audio import AudioRecord
from voxthread.wire.facts import (
    FlushPlayout,
    HoldPlayout,
    PlayoutProgress,
    PlayoutState,
    ReplyEnded,
    ResumePlayout,
    RewindPlayout,
)

MAX_QUEUED_MS: Final = 30_000
"""Replies are paced two seconds ahead; a writer that ignores that loses what does not fit, the newest."""

REPORT_MS: Final = 200

GIVE_WAY_MS: Final = 400
"""Playout goes on by itself when its owner has not said by then that it shall not."""

STEADFAST_MS: Final = 5_000
"""Then it does not give way again for so long: what seemed a voice may be the agent's own, or the street."""

_SAMPLES_PER_MS: Final = RTP_CLOCK_HZ // 1000
_PACKET_SAMPLES: Final = PACKET_MS * _SAMPLES_PER_MS


class Played(NamedTuple):
    """Of this turn so much had left for the caller. Both None while nothing has."""

    turn_id: int | None
    played_ms: int | None


@dataclass(slots=True)
class _Turn:
    turn_id: int
    packets: deque[bytes] = field(default_factory=deque)
    received_samples: int = 0
    played_ms: int = 0
    report_at_ms: int = 0
    """Played so much, it is reported again."""
    has_begun: bool = False
    is_ended: bool = False


PlayoutCommand = ReplyEnded | HoldPlayout | ResumePlayout | RewindPlayout | FlushPlayout


class PlayoutQueue:
    """The replies of one session on their way to the caller."""

    def __init__(self) -> None:
        self.dropped_ms = 0
        """Audio that did not fit."""
        self.stale_records = 0
        self.underruns = 0
        self._turns: deque[_Turn] = deque()
        self._newest_turn_id = 0
        self._flushed_turn_id = 0
        self._held_turn_id: int | None = None
        self._gives_way_ticks = 0
        self._steadfast_ticks = 0
        self._reports: list[PlayoutProgress] = []
        self._is_playing = False
        self._played = Played(None, None)

    @property
    def is_playing(self) -> bool:
        """Whether the last tick had a packet, or would have had one but that way was given."""
        return self._is_playing

    @property
    def is_starved(self) -> bool:
        """Whether a turn that is being played has run dry."""
        turn = self._turns[0] if self._turns else None
        if turn is None or self._held_turn_id == turn.turn_id or self._gives_way_ticks:
            return False
        return turn.has_begun and not turn.packets and not turn.is_ended

    @property
    def played(self) -> Played:
        """How far the caller has come, or was sent back to."""
        return self._played

    @property
    def queued_ms(self) -> int:
        return sum(len(turn.packets) for turn in self._turns) * PACKET_MS

    def add(self, record: AudioRecord) -> None:
        """Queue audio of a reply. What repeats audio already received, by its timestamp, is dropped.

        The first audio of a turn says where it begins: what was before it was played somewhere else.
        """
        turn = self._turn(record.turn_id)
        if turn is None or record.packet_ms != PACKET_MS:
            self.stale_records += 1
            return
        repeated = max(0, turn.received_samples - record.timestamp) // _PACKET_SAMPLES
        packets = record.packets[repeated:]
        if not packets:
            return
        if not turn.received_samples:
            turn.played_ms = record.timestamp // _SAMPLES_PER_MS
        turn.received_samples = record.timestamp + len(record.packets) * _PACKET_SAMPLES
        room = (MAX_QUEUED_MS - self.queued_ms) // PACKET_MS
        turn.packets.extend(packets[:room])
        self.dropped_ms += len(packets[room:]) * PACKET_MS

    def command(self, fact: PlayoutCommand) -> None:
        """Obey the session's owner; takes effect on the next tick."""
        match fact:
            case RewindPlayout(turn_id=turn_id, to_ms=to_ms):
                self._rewind(turn_id, to_ms)
            case FlushPlayout(turn_id=turn_id):
                self._flush(turn_id)
            case HoldPlayout(turn_id=turn_id) if self._turn(turn_id) is not None:
                self._gives_way_ticks = 0
                if self._held_turn_id != turn_id:
                    self._held_turn_id = turn_id
                    self._report(turn_id, "held")
            case ResumePlayout(turn_id=turn_id):
                self._resume(turn_id)
            case ReplyEnded(turn_id=turn_id):
                if (turn := self._turn(turn_id)) is not None:
                    turn.is_ended = True
            case _:
                self.stale_records += 1

    def next_packet(self) -> bytes | None:
        """The packet of this tick: None when there is none to play, empty for a hole in the reply."""
        was_playing, self._is_playing = self._is_playing, False
        self._steadfast_ticks = max(0, self._steadfast_ticks - 1)
        turn = self._current()
        if turn is None or self._held_turn_id == turn.turn_id:
            return None
        if self._gives_way_ticks:
            self._gives_way_ticks -= 1
            if not self._gives_way_ticks:
                self._steadfast_ticks = STEADFAST_MS // PACKET_MS
            self._is_playing = True
            turn.report_at_ms = 0
            return None
        if not turn.packets:
            self.underruns += was_playing
            return None
        packet = turn.packets.popleft()
        turn.played_ms += PACKET_MS
        turn.has_begun = True
        self._is_playing = True
        self._played = Played(turn.turn_id, turn.played_ms)
        if turn.played_ms >= turn.report_at_ms:
            turn.report_at_ms = turn.played_ms + REPORT_MS
            self._report(turn.turn_id, "playing")
        return packet

    def give_way(self) -> None:
        """The caller seems to begin to speak: hold what is played until its owner says more, or for a while."""
        if self._is_playing and not self._gives_way_ticks and not self._steadfast_ticks:
            self._gives_way_ticks = GIVE_WAY_MS // PACKET_MS
            self._report(self._turns[0].turn_id, "giving_way")

    def pause(self) -> None:
        """Let a tick pass on which nobody listens."""
        self._is_playing = False

    def take_reports(self) -> list[PlayoutProgress]:
        """Reports due since the last call, in order."""
        reports, self._reports = self._reports, []
        return reports

    def _turn(self, turn_id: int) -> _Turn | None:
        """The named turn, made if it is new; None if it is stale."""
        for turn in self._turns:
            if turn.turn_id == turn_id:
                return turn
        if turn_id <= self._newest_turn_id or turn_id <= self._flushed_turn_id:
            return None
        self._newest_turn_id = turn_id
        self._turns.append(_Turn(turn_id))
        return self._turns[-1]

    def _current(self) -> _Turn | None:
        """The turn to play from. Turns that are over are reported and left behind.

        A turn is over when it was said to be, or when a newer one has audio and its own has run out.
        """
        while self._turns:
            turn = self._turns[0]
            if turn.packets or not (turn.is_ended or len(self._turns) > 1):
                return turn
            self._report(turn.turn_id, "drained")
            self._turns.popleft()
            if self._held_turn_id == turn.turn_id:
                self._held_turn_id = None
        return None

    def _resume(self, turn_id: int) -> None:
        turn = self._turns[0] if self._turns else None
        if self._gives_way_ticks and turn is not None and turn.turn_id == turn_id:
            self._gives_way_ticks = 0
        if self._held_turn_id == turn_id:
            self._held_turn_id = None
            if (held := self._turn(turn_id)) is not None:
                held.report_at_ms = 0

    def _rewind(self, turn_id: int, to_ms: int) -> None:
        """Also a turn that has been played to its end, for not all of that need have been heard."""
        if turn_id < self._newest_turn_id or turn_id <= self._flushed_turn_id:
            self.stale_records += 1
            return
        if self._turns and self._turns[-1].turn_id == turn_id:
            self._turns.pop()
        to_ms -= to_ms % PACKET_MS
        self._turns.append(_Turn(turn_id, received_samples=to_ms * _SAMPLES_PER_MS, played_ms=to_ms))
        self._newest_turn_id = turn_id
        self._played = Played(turn_id, to_ms)
        self._is_playing = False
        self._gives_way_ticks = 0

    def _flush(self, turn_id: int) -> None:
        if turn_id <= self._flushed_turn_id:
            self.stale_records += 1
            return
        self._flushed_turn_id = turn_id
        if all(turn.turn_id != turn_id for turn in self._turns):
            self.stale_records += 1
        while self._turns and self._turns[0].turn_id <= turn_id:
            flushed = self._turns[0]
            flushed.packets.clear()
            self._report(flushed.turn_id, "flushed")
            self._turns.popleft()
            self._is_playing = False
            self._gives_way_ticks = 0
        if self._held_turn_id is not None and self._held_turn_id <= turn_id:
            self._held_turn_id = None

    def _report(self, turn_id: int, state: PlayoutState) -> None:
        turn = next((turn for turn in self._turns if turn.turn_id == turn_id), None)
        self._reports.append(
            PlayoutProgress(
                turn_id=turn_id,
                played_ms=turn.played_ms if turn else 0,
                queued_ms=len(turn.packets) * PACKET_MS if turn else 0,
                state=state,
            )
        )
