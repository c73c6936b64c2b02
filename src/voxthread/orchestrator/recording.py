"""A session read back off the log: what its turn machine was told, what it published, what came in."""

from dataclasses import dataclass, field

from voxthread.core.failures import SessionError
from voxthread.orchestrator.inbox import Arrived
from voxthread.orchestrator.recovery import until_now
from voxthread.wire.audio import AudioRecord, MalformedRecordError, decode_audio, is_audio
from voxthread.wire.events import Envelope, decode_event, is_public
from voxthread.wire.facts import InRecord, decode_in_fact
from voxthread.wire.log import Bus, StoredRecord, Stream
from voxthread.wire.recordings import Recording
from voxthread.wire.stamp import Fence


@dataclass(slots=True)
class RecordedSession:
    """Its events come with their positions on `voxthread.events`."""

    session_id: str
    partition: int
    recording: Recording = field(default_factory=Recording)
    events: list[tuple[int, Envelope]] = field(default_factory=list)
    _fence: Fence = field(default_factory=Fence)

    def add(self, stored: StoredRecord) -> None:
        """Raises `MalformedRecordError`."""
        if not is_public(stored.record):
            self.recording.add(stored.position, stored.record.value)
            return
        envelope = decode_event(stored.record.value)
        if self._fence.admits(envelope.epoch, envelope.seq):
            self.events.append((stored.position, envelope))


async def read_session(bus: Bus, session_id: str) -> RecordedSession:
    """What `voxthread.events` holds of a session up to now, wherever it lies.

    Raises `SessionError` `session_unknown`, `session_not_replayable`; `BusError`.
    """
    for partition in range(bus.partitions):
        session = RecordedSession(session_id, partition)
        async for stored in until_now(bus, Stream.EVENTS, partition, 0):
            if stored.record.key == session_id:
                _add(session, stored)
        if session.events or session.recording.values:
            return session
    raise SessionError(
        "session_unknown", f"the log holds nothing of {session_id!r}; ask by the id the server gave the session"
    )


async def read_arrivals(bus: Bus, session: RecordedSession) -> list[Arrived]:
    """What came in of a session, each once, as far as `voxthread.in` still holds it. Raises `BusError`."""
    arrivals: list[Arrived] = []
    fence = Fence()
    async for stored in until_now(bus, Stream.IN, session.partition, 0):
        if stored.record.key != session.session_id:
            continue
        try:
            arrived = _decode_arrival(stored.record.value)
        except MalformedRecordError:
            continue  # its owner has not heard it either
        if fence.admits(arrived.epoch, arrived.seq):
            content = arrived if isinstance(arrived, AudioRecord) else arrived.fact
            arrivals.append(Arrived(stored.position, content))
    return arrivals


def _add(session: RecordedSession, stored: StoredRecord) -> None:
    try:
        session.add(stored)
    except MalformedRecordError as error:
        raise SessionError(
            "session_not_replayable", f"voxthread.events, {session.partition}, {stored.position}: {error}"
        ) from None


def _decode_arrival(value: bytes) -> AudioRecord | InRecord:
    return decode_audio(value) if is_audio(value) else decode_in_fact(value)
