"""The table covers every pair, names real methods, and is what the documentation shows."""

import typing

import pytest

from voxthread.core.inputs import Input
from voxthread.core.turn_state import Deadline, State
from voxthread.core.turn_table import EXPIRIES, IGNORED, TRANSITIONS
from voxthread.core.turns import TurnMachine

pytestmark = pytest.mark.unit

INPUTS = typing.get_args(Input)


def test_every_pair_is_either_handled_or_ignored() -> None:
    for state in State:
        for kind in INPUTS:
            is_handled = (state, kind) in TRANSITIONS
            assert is_handled != (kind in IGNORED.get(state, ())), f"{state} x {kind.__name__}"


def test_every_entry_names_a_transition() -> None:
    for name in (*TRANSITIONS.values(), *EXPIRIES.values()):
        assert callable(getattr(TurnMachine, name)), name


def test_every_deadline_has_an_expiry() -> None:
    assert set(EXPIRIES) == set(Deadline)
