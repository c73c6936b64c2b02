"""Reading from Kafka: one consumer follows many partitions by hand, in a thread of its own."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import methodcaller
from typing import Final, cast

import anyio
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from voxthread.bus.kafka_settings import ANSWER_PATIENCE_S, KafkaSettings, bus_error
from voxthread.bus.policies import MIB
from voxthread.core.failures import BusError
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import BUS_RECORDS_MALFORMED
from voxthread.wire.log import Record, StoredRecord

log = get_logger(__name__)

BUFFER_BYTES: Final = 4 * MIB
"""What may wait for a slow reader before its partition is paused; fetching goes on at a quarter of it."""

_RECORD_OVERHEAD_BYTES: Final = 400
_HEADERS: Final = methodcaller("headers")
"""For a name that is not UTF-8 the client (2.16.1) sets an error and returns a broken list all the same.
CPython's specialized calls take the list, and the process dies of it; this call always sees the error."""
_POLL_S: Final = 0.02  # a record ends it at once; what the loop asks for waits this long
_DRAIN_MESSAGES: Final = 500

Place = tuple[str, int]
"""A topic and a partition."""


@dataclass(slots=True, eq=False)
class Following:
    """One reader. The thread writes `next_position`, `given_bytes` and `is_paused`, the loop all else."""

    place: Place
    next_position: int
    """Of the records before it all are given."""
    arrived: deque[StoredRecord] = field(default_factory=deque)
    failure: BusError | None = None
    news: anyio.Event = field(default_factory=anyio.Event)
    given_bytes: int = 0
    taken_bytes: int = 0
    is_paused: bool = False

    async def next_record(self) -> StoredRecord:
        """Raises `BusError`."""
        while not self.arrived:
            if self.failure is not None:
                raise self.failure
            self.news = anyio.Event()
            await self.news.wait()
        stored = self.arrived.popleft()
        self.taken_bytes += _held_bytes(stored)
        return stored


class KafkaConsumer:
    """Follows each partition for one reader at most. `start` and `stop` frame its use."""

    def __init__(self, settings: KafkaSettings, on_error: Callable[[KafkaError], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._topic_prefix = settings.topic_prefix
        self._consumer = Consumer(settings.consumer() | {"error_cb": on_error})
        self._readers: set[Following] = set()
        self._ended_by: BusError | None = None
        self._wishes: deque[Callable[[], None]] = deque()
        self._followed: dict[Place, Following] = {}
        self._is_stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bus-read", daemon=True)

    # -- in the loop --------------------------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """May be called in any thread and does not wait; `join` does."""
        self._is_stopping.set()

    def join(self) -> None:
        self._thread.join()

    @property
    def is_idle(self) -> bool:
        return not self._readers

    def is_free(self, place: Place) -> bool:
        return all(reader.place != place for reader in self._readers)

    def follow(self, place: Place, from_position: int) -> Following:
        """Raises `BusError`: `bus.closed`, or what the thread died of."""
        if self._ended_by is not None:
            raise self._ended_by
        following = Following(place, from_position)
        self._readers.add(following)
        self._wishes.append(lambda: self._assign(following))
        return following

    def leave(self, following: Following) -> None:
        self._readers.discard(following)
        self._wishes.append(lambda: self._unassign(following))

    def drained(self, following: Following) -> None:
        """A reader has taken a record; a partition paused for it goes on when there is room."""
        if following.is_paused and following.given_bytes - following.taken_bytes < BUFFER_BYTES // 4:
            following.is_paused = False
            self._wishes.append(lambda: self._resume(following))

    def _hand_over(self, arrivals: Sequence[tuple[Following, StoredRecord | BusError]]) -> None:
        for following, arrival in arrivals:
            if following not in self._readers:
                continue  # it has left meanwhile
            if isinstance(arrival, BusError):
                following.failure = arrival
            else:
                following.arrived.append(arrival)
            following.news.set()

    def _end(self, reason: BusError) -> None:
        self._ended_by = reason
        self._hand_over([(following, reason) for following in self._readers])

    # -- in the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        reason = BusError("bus.closed", "the bus is closed")
        try:
            with suppress(KafkaException):  # brokers that are away now are found later
                self._consumer.list_topics(timeout=ANSWER_PATIENCE_S)  # else a first read waits for it
            while not self._is_stopping.is_set():
                while self._wishes:
                    self._wishes.popleft()()
                first = self._consumer.poll(_POLL_S)
                if first is not None:
                    self._sort([first, *self._consumer.consume(_DRAIN_MESSAGES, 0)])
        except Exception as error:  # whatever it is: readers that are told nothing wait for ever
            log.exception("bus.reader_died")
            reason = BusError("bus.failed", f"the thread that reads from Kafka has died: {error!r}")
        finally:
            self._loop.call_soon_threadsafe(self._end, reason)
            self._consumer.close()

    def _assign(self, following: Following) -> None:
        try:
            self._consumer.incremental_assign([TopicPartition(*following.place, following.next_position)])
        except KafkaException as error:
            failure = [(following, bus_error(error.args[0]))]
            self._loop.call_soon_threadsafe(self._hand_over, failure)
        else:
            self._followed[following.place] = following

    def _unassign(self, following: Following) -> None:
        if self._followed.get(following.place) is following:
            del self._followed[following.place]
            self._consumer.incremental_unassign([TopicPartition(*following.place)])

    def _resume(self, following: Following) -> None:
        if self._followed.get(following.place) is following:
            self._consumer.resume([TopicPartition(*following.place)])

    def _sort(self, messages: Sequence[Message]) -> None:
        arrivals: list[tuple[Following, StoredRecord | BusError]] = []
        for message in messages:
            topic, partition = message.topic(), message.partition()
            if topic is None or partition is None:
                continue  # about no partition; the error callback has told it
            following = self._followed.get((topic, partition))
            if following is None:
                continue
            error = message.error()
            if error is None:
                stored = self._stored(message, topic)
                following.next_position = stored.position + 1
                following.given_bytes += _held_bytes(stored)
                arrivals.append((following, stored))
            elif not error.retriable():
                arrivals.append((following, self._failure(following, error)))
                self._unassign(following)
        for following in {each for each, _ in arrivals}:
            if following.given_bytes - following.taken_bytes > BUFFER_BYTES and not following.is_paused:
                self._pause(following)
        if arrivals:
            self._loop.call_soon_threadsafe(self._hand_over, arrivals)

    def _pause(self, following: Following) -> None:
        if self._followed.get(following.place) is following:
            self._consumer.pause([TopicPartition(*following.place)])
            following.is_paused = True

    def _kept(self, place: Place) -> tuple[int, int]:
        # Only in this thread: beside a `poll` in another one it never returns (confluent-kafka 2.16.1).
        try:
            kept = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=ANSWER_PATIENCE_S)
        except KafkaException as error:
            raise bus_error(error.args[0]) from error
        if kept is None:
            raise BusError("bus.unreachable", "Kafka does not say where a partition ends", retryable=True)
        return kept

    def _stored(self, message: Message, topic: str) -> StoredRecord:
        key, value, offset = message.key(), message.value(), message.offset()
        assert offset is not None
        try:
            headers = cast("list[tuple[str, bytes | None]] | None", _HEADERS(message))  # values are bytes
        except (SystemError, UnicodeDecodeError):
            BUS_RECORDS_MALFORMED.labels(topic.removeprefix(self._topic_prefix)).inc()
            log.warning(
                "record.headers_unreadable", topic=topic, partition=message.partition(), position=offset
            )
            headers = None
        record = Record(
            key.decode(errors="replace") if key else "",
            value or b"",
            tuple((name, content or b"") for name, content in headers or ()),
        )
        return StoredRecord(offset, record)

    def _failure(self, following: Following, error: KafkaError) -> BusError:
        if error.code() != KafkaError._AUTO_OFFSET_RESET:
            return bus_error(error)
        position = following.next_position
        try:
            oldest, head = self._kept(following.place)
        except BusError as unknown:
            return unknown
        if position < oldest:
            return BusError(
                "bus.position_expired", f"position {position} has expired, the oldest kept is {oldest}"
            )
        if position > head:
            return BusError(
                "bus.position_lost", f"position {position} lies beyond the end, {head}: Kafka has lost records"
            )
        return BusError("bus.failed", f"Kafka has no position {position}, and then has it", retryable=True)


def _held_bytes(stored: StoredRecord) -> int:
    return len(stored.record.value) + _RECORD_OVERHEAD_BYTES
