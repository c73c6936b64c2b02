"""Who wrote a record and in which order: stamping on the way out, fencing on the way in."""

from voxthread.wire.audio import AudioRecord, encode_audio
from voxthread.wire.facts import InFact, InRecord, OutFact, OutRecord, encode_fact
from voxthread.wire.log import Record


class Stamp:
    """Numbers the records that one writer puts on one stream for one session."""

    __slots__ = ("_epoch", "_next_seq", "_session_id")

    def __init__(self, session_id: str, *, epoch: int, next_seq: int = 1) -> None:
        self._session_id = session_id
        self._epoch = epoch
        self._next_seq = next_seq

    @property
    def session_id(self) -> str:
        return self._session_id

    @property
    def epoch(self) -> int:
        return self._epoch

    def take_seq(self) -> int:
        seq = self._next_seq
        self._next_seq += 1
        return seq

    def audio(self, packets: tuple[bytes, ...], *, timestamp: int, turn_id: int = 0) -> Record:
        return Record(
            self._session_id,
            encode_audio(
                AudioRecord(
                    epoch=self._epoch,
                    seq=self.take_seq(),
                    timestamp=timestamp,
                    packets=packets,
                    turn_id=turn_id,
                )
            ),
        )

    def in_fact(self, fact: InFact) -> Record:
        record = InRecord(session_id=self._session_id, epoch=self._epoch, seq=self.take_seq(), fact=fact)
        return Record(self._session_id, encode_fact(record))

    def out_fact(self, fact: OutFact) -> Record:
        record = OutRecord(session_id=self._session_id, epoch=self._epoch, seq=self.take_seq(), fact=fact)
        return Record(self._session_id, encode_fact(record))


class Fence:
    """Lets each record of one session and stream through once, and none from an older epoch."""

    __slots__ = ("_epoch", "_seq", "dropped")

    def __init__(self, *, epoch: int = 0, seq: int = 0) -> None:
        self._epoch = epoch
        self._seq = seq
        self.dropped = 0

    def admits(self, epoch: int, seq: int) -> bool:
        if (epoch, seq) <= (self._epoch, self._seq):
            self.dropped += 1
            return False
        self._epoch, self._seq = epoch, seq
        return True
