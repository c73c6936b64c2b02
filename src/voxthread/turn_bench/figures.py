"""From outcomes to the figures of `voxthread bench turns`."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from voxthread.turn_bench.performance import Outcome
from voxthread.turn_bench.scenes import PAUSE_GRADES_MS, Kind
from voxthread.turn_bench.words import drops_repeats, repeats, word_errors

TURNS = frozenset({Kind.PAUSES, Kind.NUMBERS, Kind.HESITATIONS, Kind.NOISE})
"""The kinds in which the caller has the floor."""

_Z = 1.96
"""Of the normal distribution 95 % lie so many standard deviations around the mean."""


@dataclass(frozen=True, slots=True)
class Count:
    """`k` of `n`."""

    k: int
    n: int

    @classmethod
    def of(cls, happened: Iterable[bool]) -> "Count":
        answers = list(happened)
        return cls(sum(answers), len(answers))

    def json(self) -> dict[str, Any]:
        low, high = wilson(self.k, self.n)
        return {"k": self.k, "n": self.n, "low": round(low, 4), "high": round(high, 4)}


def wilson(k: int, n: int) -> tuple[float, float]:
    """The 95 % interval of a share seen `k` times of `n` (E. B. Wilson, 1927); all of it for nothing seen."""
    if not n:
        return 0.0, 1.0
    share, spare = k / n, _Z**2 / n
    middle = (share + spare / 2) / (1 + spare)
    half = sqrt(share * (1 - share) * spare + spare**2 / 4) / (1 + spare)
    return max(0.0, middle - half), min(1.0, middle + half)


def figures(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """What the set as a whole shows, then its parts."""
    return {
        **_shared(outcomes),
        "cut_in_by_pause_ms": {
            f"{from_ms}-{to_ms}": Count.of(
                each.is_cut_in
                for each in outcomes
                if each.kind is Kind.PAUSES and from_ms <= each.pause_ms <= to_ms
            ).json()
            for from_ms, to_ms in PAUSE_GRADES_MS
        },
        "tuned": _shared([each for each in outcomes if not each.is_held_out]),
        "held_out": _shared([each for each in outcomes if each.is_held_out]),
        "kinds": {kind: _of_kind([each for each in outcomes if each.kind is kind]) for kind in Kind},
        "cases": [case for each in outcomes if (case := _case(each))],
    }


def _shared(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        **_turn_taking(outcomes),
        **_interruptions(outcomes),
        **_words(outcomes),
        "latency_ms": spread(_latencies(outcomes)),
        "hold_ms": spread([each.hold_ms for each in _of(outcomes, Kind.INTERRUPTIONS) if each.hold_ms]),
    }


def _of_kind(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Only what this kind can show."""
    if not outcomes:
        return {}
    if outcomes[0].kind not in TURNS:
        name = _INTERRUPTED[outcomes[0].kind]
        holds = [each.hold_ms for each in outcomes if each.hold_ms is not None]
        return {name: _interruptions(outcomes)[name], **({"hold_ms": spread(holds)} if holds else {})}
    return {
        **_turn_taking(outcomes),
        **_words(outcomes),
        "latency_ms": spread(_latencies(outcomes)),
    }


def _turn_taking(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    turns = [each for each in outcomes if each.kind in TURNS]
    whole = [each for each in turns if not each.is_cut_in]
    return {
        "cut_in": Count.of(each.is_cut_in for each in turns).json(),
        "missed_end": Count.of(each.latency_ms is None for each in whole).json(),
    }


_INTERRUPTED = {
    Kind.BACKCHANNELS: "false_interruption",
    Kind.INTERRUPTIONS: "missed_interruption",
    Kind.ECHO: "echo_interruption",
    Kind.DOUBLE_TALK: "missed_over_echo",
}

_REAL = frozenset({Kind.INTERRUPTIONS, Kind.DOUBLE_TALK})
"""The kinds in which the agent should be interrupted."""


def _interruptions(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        name: Count.of(each.is_interrupted is (kind not in _REAL) for each in _of(outcomes, kind)).json()
        for kind, name in _INTERRUPTED.items()
    }


def _words(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    turns = [each for each in outcomes if each.kind in TURNS]
    repeated = [each for each in turns if repeats(each.said)]
    errors = word_errors([(each.said, each.heard) for each in turns])
    reference = word_errors([(each.said, each.reference) for each in turns])
    return {
        "wer": round(errors.rate, 4),
        "wer_reference": round(reference.rate, 4),
        "words": errors.words,
        "repeats_dropped": Count.of(map(_drops_repeats, repeated)).json(),
        "repeats_missing": Count.of(
            drops_repeats(each.said, each.heard, each.reference) for each in repeated
        ).json(),
    }


def _drops_repeats(turn: Outcome) -> bool:
    """Whether the full window keeps what is said twice, also of just the piece of audio that was heard."""
    references = [each for each in (turn.reference, turn.of_same_piece) if each is not None]
    return all(drops_repeats(turn.said, turn.heard, reference) for reference in references)


def _latencies(outcomes: Sequence[Outcome]) -> list[int]:
    return [each.latency_ms for each in outcomes if each.latency_ms is not None]


def _of(outcomes: Sequence[Outcome], kind: Kind) -> list[Outcome]:
    return [each for each in outcomes if each.kind is kind]


def spread(values: Sequence[int]) -> dict[str, Any]:
    """Percentiles interpolate linearly between the two nearest values; None of nothing."""

    def at(percent: int) -> float | None:
        return round(float(np.percentile(values, percent)), 1) if values else None

    return {"median": at(50), "p95": at(95), "max": max(values, default=None), "n": len(values)}


_WRONG: dict[str, Callable[[Outcome], bool]] = {
    "cut_in": lambda each: each.is_cut_in,
    "missed_end": lambda each: each.kind in TURNS and not each.is_cut_in and each.latency_ms is None,
    "false_interruption": lambda each: each.kind is Kind.BACKCHANNELS and each.is_interrupted,
    "missed_interruption": lambda each: each.kind is Kind.INTERRUPTIONS and not each.is_interrupted,
    "echo_interruption": lambda each: each.kind is Kind.ECHO and each.is_interrupted,
    "missed_over_echo": lambda each: each.kind is Kind.DOUBLE_TALK and not each.is_interrupted,
    "repeats_dropped": lambda each: each.kind in TURNS and _drops_repeats(each),
}


def _case(outcome: Outcome) -> dict[str, Any] | None:
    wrong = [name for name, is_wrong in _WRONG.items() if is_wrong(outcome)]
    if not wrong:
        return None
    return {
        "name": outcome.name,
        "wrong": wrong,
        "voice": outcome.voice,
        "held_out": outcome.is_held_out,
        "pause_ms": outcome.pause_ms,
        "said": outcome.said,
        "heard": outcome.heard,
    }
