"""A line that loses and delays datagrams, the same ones for the same seed. Pure but for its own chance."""

from random import Random

from voxthread.media_bench.plan import Conditions


class BadLine:
    """Losses come one by one or, with a `burst`, in runs of that mean length (Gilbert): a line that is down
    comes back with each datagram with a chance of 1/burst, and goes down as often as makes `loss` of all."""

    def __init__(self, conditions: Conditions, seed: int) -> None:
        self._chance = Random(seed)
        self._loss = conditions.loss
        self._round_trip_us = conditions.round_trip_ms * 1000
        self._jitter_us = conditions.jitter_ms * 1000
        self._is_down = False
        if conditions.burst:
            self._recover = 1 / conditions.burst
            self._fail = self._recover * conditions.loss / (1 - conditions.loss)
        else:
            self._recover, self._fail = 1 - conditions.loss, conditions.loss

    def carry(self) -> int | None:
        """By how many microseconds the next datagram is delayed; None if it is lost."""
        if self._loss:
            change = self._recover if self._is_down else self._fail
            if self._chance.random() < change:
                self._is_down = not self._is_down
            if self._is_down:
                return None
        jitter_us = self._chance.random() * self._jitter_us if self._jitter_us else 0
        return int(self._round_trip_us + jitter_us)
