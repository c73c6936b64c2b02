"""A recorded conversation told to a turn machine again: the same inputs must have the same effects.

    owner 1: MachineStarted  input  input  deadline          owner 2: MachineStarted  input ...
             a new machine                                            the machine before, resumed

What was told is recorded with a digest of the effects it had. Pure, so that replay, takeover and the tests
drive a machine in one and the same way.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache

from voxthread.core.effects import Effect
from voxthread.core.inputs import Input
from voxthread.core.turn_resume import resume
from voxthread.core.turn_state import TurnPolicy
from voxthread.core.turns import TurnMachine

_DIGEST_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineStarted:
    """An owner of the session has made its turn machine: a new one, or from where that of the owner before it
    stood."""

    policy: TurnPolicy


Told = Input | MachineStarted | None
"""What a machine may be told; None: the deadline it waited for has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something told, at `now`, and the digest of the effects it had. `position`: where that is recorded."""

    position: int
    now: int
    told: Told
    effects_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The effects a step has now are not those it had."""

    step: Step
    effects: tuple[Effect, ...]


def drive(machine: TurnMachine, told: Told, now: int) -> tuple[TurnMachine, list[Effect]]:
    """The machine to go on with, which is another one after `MachineStarted`, and what it wants done."""
    if isinstance(told, MachineStarted):
        turn, effects = resume(machine.snapshot(), now)
        return TurnMachine(told.policy, turn), effects
    return machine, machine.handle_deadline(now) if told is None else machine.handle(told, now)


def replay(steps: Iterable[Step]) -> Difference | None:
    """The first step that has other effects than it had, None if all are the same.

    The first step must be `MachineStarted`, else `ValueError`.
    """
    machine: TurnMachine | None = None
    for step in steps:
        effects: list[Effect] = []
        if machine is not None:
            machine, effects = drive(machine, step.told, step.now)
        elif isinstance(step.told, MachineStarted):
            machine = TurnMachine(step.told.policy)
        else:
            raise ValueError("a replay begins where the first owner made its machine")
        if effects_digest(effects) != step.effects_digest:
            return Difference(step=step, effects=tuple(effects))
    return None


def effects_digest(effects: Sequence[Effect]) -> str:
    """The same for equal effects in every process. A field that has its default does not count, so that one
    added later, with a default, leaves the digests of older recordings as they are."""
    canonical = ascii([_plain(effect) for effect in effects])
    return hashlib.blake2s(canonical.encode("ascii"), digest_size=_DIGEST_BYTES).hexdigest()


def _plain(value: object) -> object:
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if not is_dataclass(value) or isinstance(value, type):
        return value
    told: list[object] = [type(value).__name__]
    for name, default in _defaults(type(value)):
        if (part := getattr(value, name)) != default:
            told += (name, _plain(part))
    return told


@cache
def _defaults(kind: type) -> tuple[tuple[str, object], ...]:
    """Each field and its default; a field without one has a default that nothing equals."""
    return tuple((field.name, field.default) for field in fields(kind))
