"""What is struck, when and how. A seed names the moments, so that a run can be repeated. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import cycle
from random import Random


class Target(StrEnum):
    ORCHESTRATOR = "orchestrator"
    """The one that owns the call."""
    MEDIA = "media"
    SERVE = "serve"
    BROKER = "broker"
    """The leader of the call's partition; the only broker for 10 s."""


class Phase(StrEnum):
    LISTENING = "listening"
    """While the caller speaks, from the first sound of the question to its last."""
    THINKING = "thinking"
    """From the last sound of the question to the first of the reply."""
    SPEAKING = "speaking"
    """While the reply is heard."""


class How(StrEnum):
    KILL = "kill"
    """SIGKILL."""
    STOP = "stop"
    """SIGSTOP, and SIGCONT after 5 s: a process that comes back and does not know it was away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """`fraction` of the phase has passed, 0 to 1."""

    phase: Phase
    fraction: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time, Unix microseconds."""

    first_us: int
    last_us: int

    def at(self, fraction: float) -> int:
        return self.first_us + round((self.last_us - self.first_us) * fraction)


_EDGE = 0.05
"""Kept from either end of a phase, which cannot be told in advance to the millisecond."""


def moments(seed: int, phases: Sequence[Phase]) -> Iterator[Moment]:
    """Without end: the phases in turn, at moments evenly distributed inside them."""
    chance = Random(seed)
    for phase in cycle(phases):
        yield Moment(phase=phase, fraction=chance.uniform(_EDGE, 1 - _EDGE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """One blow of a random chaos; `victim` (0 to 1) chooses among the processes there are of a kind."""

    after_ms: int
    target: Target
    victim: float


_WEIGHTS = {Target.ORCHESTRATOR: 6, Target.MEDIA: 2, Target.SERVE: 1}


def strikes(
    seed: int, targets: Sequence[Target], *, least_ms: int = 3_000, most_ms: int = 12_000
) -> Iterator[Strike]:
    """Without end: something every few seconds, orchestrators most often."""
    chance = Random(seed)
    weights = [_WEIGHTS.get(target, 1) for target in targets]
    while True:
        (target,) = chance.choices(targets, weights)
        yield Strike(after_ms=chance.randint(least_ms, most_ms), target=target, victim=chance.random())
