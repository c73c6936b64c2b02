"""Appending to Kafka: librdkafka batches and sends; a thread takes the delivery reports to the loop."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from voxthread.bus.kafka_settings import ANSWER_PATIENCE_S, KafkaSettings, bus_error
from voxthread.core.failures import BusError
from voxthread.observability.logs import get_logger
from voxthread.wire.log import Record

FLUSH_S: Final = 5
_POLL_S: Final = 0.1  # a report ends it at once

_FATAL: Final = frozenset(
    {
        KafkaError._FATAL,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
        KafkaError.UNKNOWN_PRODUCER_ID,
    }
)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Pending:
    topic: str
    partition: int
    record: Record
    is_tombstone: bool
    done: asyncio.Future[int]


class KafkaProducer:
    """Holds what is not acknowledged yet, in order. A producer that fails for good is replaced by a new one,
    which sends all of it again.
    """

    def __init__(self, settings: KafkaSettings, on_error: Callable[[KafkaError], None]) -> None:
        self._settings = settings.producer()
        self._on_error = on_error
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()  # guards the ring and which producer it goes to
        self._ring: dict[int, _Pending] = {}
        self._count = 0
        self._is_closed = False
        self._has_failed = False
        self._give_up_at = 0.0
        self._reports: list[tuple[asyncio.Future[int], int | BusError]] = []
        self._producer = self._new_producer()
        self._thread = threading.Thread(target=self._run, name="bus-append", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def append(self, topic: str, partition: int, record: Record, *, is_tombstone: bool) -> asyncio.Future[int]:
        """The future gives the offset once all replicas in sync have it, or a `BusError`.

        Raises `BusError` when nothing can be queued: `bus.queue_full` (retryable), `bus.closed`.
        """
        pending = _Pending(topic, partition, record, is_tombstone, self._loop.create_future())
        with self._lock:
            if self._is_closed:
                raise BusError("bus.closed", "the bus is closed")
            number = self._count = self._count + 1
            self._ring[number] = pending
            self._produce(number, pending)
        return pending.done

    def stop(self) -> None:
        """Return when everything is acknowledged or `FLUSH_S` is over; blocks."""
        with self._lock:
            self._is_closed = True
        self._give_up_at = monotonic() + FLUSH_S
        self._thread.join()
        closed = BusError(
            "bus.closed", "the bus was closed before Kafka acknowledged the record", retryable=True
        )
        self._report([(pending.done, closed) for pending in self._ring.values()])
        _discard(self._producer)

    def _produce(self, number: int, pending: _Pending) -> None:
        """Call with the lock held. Raises `BusError`; the record is then not in the ring any more."""
        record = pending.record
        try:
            self._producer.produce(
                pending.topic,
                value=None if pending.is_tombstone else record.value,
                key=record.key.encode(),
                partition=pending.partition,
                headers=list(record.headers) or None,
                on_delivery=partial(self._take_report, self._producer, number),
            )
        except BufferError as error:
            del self._ring[number]
            raise BusError("bus.queue_full", "too much waits for Kafka", retryable=True) from error
        except KafkaException as error:
            if not _is_fatal(error.args[0]):
                del self._ring[number]
                raise bus_error(error.args[0]) from error
            self._has_failed = True  # the next producer takes the record from the ring

    def _new_producer(self) -> Producer:
        return Producer(self._settings | {"error_cb": self._take_error})

    # -- in the thread ------------------------------------------------------------------------------------

    def _run(self) -> None:
        with suppress(KafkaException):  # the brokers are away; the first append then waits up to a second more
            self._producer.list_topics(timeout=ANSWER_PATIENCE_S)
        while not self._is_closed or (self._ring and monotonic() < self._give_up_at):
            self._producer.poll(_POLL_S)
            if self._reports:
                reports, self._reports = self._reports, []
                self._report(reports)
            if self._has_failed:
                self._replace()

    def _take_report(self, producer: Producer, number: int, error: KafkaError | None, message: Message) -> None:
        if producer is not self._producer:
            return  # of one that was replaced; its record was sent again
        if error is not None and _is_fatal(error):
            self._has_failed = True
            return
        with self._lock:
            pending = self._ring.pop(number)
        if error is None:
            offset = message.offset()
            assert offset is not None
            self._reports.append((pending.done, offset))
        else:
            self._reports.append((pending.done, bus_error(error)))

    def _take_error(self, error: KafkaError) -> None:
        if _is_fatal(error):
            self._has_failed = True
        self._on_error(error)

    def _replace(self) -> None:
        with self._lock:
            log.warning("bus.producer_replaced", unacknowledged=len(self._ring))
            failed, self._producer = self._producer, self._new_producer()
            self._has_failed = False
            for number, pending in [*self._ring.items()]:
                try:
                    self._produce(number, pending)
                except BusError as error:
                    self._reports.append((pending.done, error))
        _discard(failed)

    def _report(self, reports: list[tuple[asyncio.Future[int], int | BusError]]) -> None:
        if reports:
            self._loop.call_soon_threadsafe(_settle, reports)


def _is_fatal(error: KafkaError) -> bool:
    """The producer cannot go on: brokers have lost what it sent before, or its place in the sequence."""
    return error.fatal() or error.code() in _FATAL


def _discard(producer: Producer) -> None:
    producer.purge()
    producer.close()


def _settle(reports: list[tuple[asyncio.Future[int], int | BusError]]) -> None:
    for done, result in reports:
        if done.done():  # cancelled meanwhile
            continue
        if isinstance(result, BusError):
            done.set_exception(result)
        else:
            done.set_result(result)
