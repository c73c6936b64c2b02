"""One follower of one session: the past it asked for, then what comes, then why it ended."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import anyio
import msgspec

from voxthread.core.events import ErrorOccurred, SessionClosed
from voxthread.core.failures import BusError, Failure
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import BUS_RECORDS_MALFORMED
from voxthread.wire.events import EVENT_VERSION, is_public
from voxthread.wire.log import StoredRecord, Stream

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why no more events come, as a WebSocket close code (RFC 6455 section 7.4 and its registry)."""

    code: int
    reason: str


SESSION_OVER = Ending(1000, "the session is over")
RESTARTING = Ending(1012, "the server is restarting, come back with last_event_id")
TOO_SLOW = Ending(1013, "too slow, come back with last_event_id")


class _Place(msgspec.Struct):
    """What the hub needs to know of an event; the rest passes through as it is."""

    type: str
    session_id: str
    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class PlacedEvent:
    position: int
    type: str
    epoch: int
    seq: int
    text: str


def error_text(failure: Failure, session_id: str | None = None) -> str:
    """An `error` that belongs to one socket: it is not on the log and has no `seq`."""
    return msgspec.json.encode(
        {
            "type": ErrorOccurred.TYPE,
            "v": EVENT_VERSION,
            "session_id": session_id,
            "code": failure.code,
            "stage": failure.stage,
            "retryable": failure.retryable,
            "message": failure.detail,
        }
    ).decode()


_place_decoder = msgspec.json.Decoder(_Place)


def read_event(stored: StoredRecord) -> PlacedEvent | None:
    """The public event in a record; None for a private record, and for a malformed one, which is counted."""
    record = stored.record
    if not is_public(record):
        return None
    try:
        place = _place_decoder.decode(record.value)
        if place.session_id != record.key:
            raise ValueError("the record's key is another session's")
        return PlacedEvent(stored.position, place.type, place.epoch, place.seq, record.value.decode())
    except ValueError:  # msgspec's errors and UnicodeDecodeError are ValueErrors
        BUS_RECORDS_MALFORMED.labels(Stream.EVENTS).inc()
        log.warning("event.malformed", position=stored.position)
        return None


class Following:
    """One socket's view of one session."""

    def __init__(
        self,
        older: AsyncGenerator[PlacedEvent] | None,
        remembered: tuple[PlacedEvent, ...],
        after_seq: int,
        waiting_events: int,
    ) -> None:
        self.ending = RESTARTING
        """Why `events` ended, once it has."""
        self._older = older
        self._remembered = remembered
        self._after_seq = after_seq
        self._send, self._receive = anyio.create_memory_object_stream[PlacedEvent](waiting_events)

    async def events(self) -> AsyncGenerator[str]:
        """JSON of every event after the asked one, in order and without holes: first the past, then live.

        When the log no longer holds the session's beginning, an `error` event says so and the rest follows.
        """
        async with aclosing(self._all()) as events:
            async for event in events:
                if isinstance(event, Failure):
                    yield error_text(event)
                    continue
                if event.seq > self._after_seq:
                    yield event.text
                if event.type == SessionClosed.TYPE:
                    self.ending = SESSION_OVER
                    return

    async def _all(self) -> AsyncGenerator[PlacedEvent | Failure]:
        if self._older is not None:
            try:
                async with aclosing(self._older) as older:
                    async for event in older:
                        yield event
            except BusError as error:
                yield error.failure
        for event in self._remembered:
            yield event
        try:
            async for event in self._receive:
                yield event
        except anyio.ClosedResourceError:
            return

    def offer(self, event: PlacedEvent) -> None:
        """Queue a live event; a follower too slow to have room loses its following, never an event."""
        try:
            self._send.send_nowait(event)
        except anyio.WouldBlock:
            self.ending = TOO_SLOW
            self.close()
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            return

    def finish(self, ending: Ending) -> None:
        """No more live events; what is queued is still read."""
        if self.ending is not TOO_SLOW:
            self.ending = ending
        self._send.close()

    def close(self) -> None:
        self._send.close()
        self._receive.close()
