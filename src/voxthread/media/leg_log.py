"""A leg's two ways on the log: its records stamped and queued for `voxthread.in`, those of its owner fenced."""

from collections.abc import Iterable

from voxthread.core.failures import BusError
from voxthread.core.workers import Suspicion
from voxthread.media.outbox import Outbox
from voxthread.media.uplink import Batch
from voxthread.observability.clock import now_ms
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import BUS_RECORDS_FENCED
from voxthread.wire.audio import AudioRecord, MalformedRecordError, decode_audio, encode_audio, is_audio
from voxthread.wire.control import encode_control
from voxthread.wire.facts import InFact, OutFact, decode_out_fact
from voxthread.wire.log import Bus, Record, Stream
from voxthread.wire.stamp import Fence, Stamp

log = get_logger(__name__)


class LegLog:
    """`run` writes until `close`."""

    def __init__(self, bus: Bus, session_id: str, partition: int, *, epoch: int = 0) -> None:
        self.session_id = session_id
        self.said_at_ms = now_ms()
        self._bus = bus
        self._partition = partition
        self._stamp = Stamp(session_id, epoch=epoch)
        self._fence = Fence()
        self._owner_epoch = 0
        self._is_suspecting = False
        self._outbox = Outbox(bus, partition)

    async def run(self) -> None:
        """Return when everything said before `close` is on the log."""
        await self._outbox.run()

    def close(self) -> None:
        """What is said from now on is dropped."""
        self._outbox.close()

    def say(self, fact: InFact) -> None:
        """Put a fact on the log, after everything said and heard before."""
        self.said_at_ms = now_ms()
        self._outbox.put(self._stamp.in_fact(fact))

    def publish(self, batches: Iterable[Batch]) -> None:
        """Put the caller's audio on the log."""
        for batch in batches:
            record = AudioRecord(
                epoch=self._stamp.epoch,
                seq=self._stamp.take_seq(),
                timestamp=batch.timestamp,
                packets=batch.packets,
                packet_ms=batch.packet_ms,
            )
            self.said_at_ms = now_ms()
            self._outbox.put(Record(self.session_id, encode_audio(record)), audio_ms=record.duration_ms)

    def read(self, value: bytes) -> AudioRecord | OutFact | None:
        """What a record of `voxthread.out` says to this session; None if it was read before or its writer is
        the owner no more. Raises `MalformedRecordError`."""
        if is_audio(value):
            audio = decode_audio(value)
            return audio if self._admits(audio.epoch, audio.seq) else None
        record = decode_out_fact(value)
        if record.session_id != self.session_id:
            raise MalformedRecordError("the record's session is not its key")
        return record.fact if self._admits(record.epoch, record.seq) else None

    async def suspect_owner(self) -> None:
        """Say that output is overdue from the session's newest owner. A hint: it may be lost."""
        if self._is_suspecting:
            return
        self._is_suspecting = True
        suspicion = Suspicion(session_id=self.session_id, partition=self._partition, epoch=self._owner_epoch)
        try:
            await self._bus.append(Stream.CONTROL, 0, encode_control(suspicion))
        except BusError as error:
            log.warning("bus.append_failed", code=error.code, stream=Stream.CONTROL)
        finally:
            self._is_suspecting = False

    def _admits(self, epoch: int, seq: int) -> bool:
        if self._fence.admits(epoch, seq):
            self._owner_epoch = epoch
            return True
        BUS_RECORDS_FENCED.labels(Stream.OUT).inc()
        return False
