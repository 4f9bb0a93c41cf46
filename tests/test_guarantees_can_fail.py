"""Tests of docs/memory-model.md fail if the engine breaks what they show.

For the guarantees that no planted fault of tests/sim/bugs.py breaks: they concern what one attempt
does alone, and a replay would make the same fault of the reference engine again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dvm_mpi.disa.types import Kind, Type
from dvm_mpi.engine import reference
from dvm_mpi.engine.reference_arithmetic import ARITHMETIC, signed_of_bits
from dvm_mpi.engine.reference_memory import Coverage
from dvm_mpi.engine.reference_state import Attempt
from tests import test_guarantees
from tests.test_guarantees import Runner, runner_on


def assert_fails(shown: Callable[[Runner], None]) -> None:
    """Assert that a test fails by what it says itself, not by what it calls."""
    with pytest.raises(AssertionError) as raised:
        shown(runner_on("reference"))
    assert str(raised.traceback[-1].path) == test_guarantees.__file__


def test_stores_beside_declared_ranges_that_pass_are_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """G4: at its exit an attempt is asked for nothing."""
    monkeypatch.setattr(Coverage, "first_uncovered", lambda *_: None)
    assert_fails(test_guarantees.test_undeclared_access_traps)


def test_input_that_goes_on_between_attempts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """G22: each attempt reads on where the one before it stopped."""
    made: list[Attempt] = []

    def begin(*arguments: Any) -> Attempt:
        attempt = Attempt(*arguments)
        attempt.stdin_position = made[-1].stdin_position if made else 0
        made.append(attempt)
        return attempt

    monkeypatch.setattr(reference, "Attempt", begin)
    assert_fails(test_guarantees.test_every_runner_reads_the_same_input)


def test_a_division_that_rounds_down_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """G25: as Python divides, not as DISA does; floats are right."""
    divide = ARITHMETIC["div"]

    def floor(kind: Type, a: int, b: int) -> int:
        if kind.kind is Kind.FLOAT:
            return divide(kind, a, b)
        width = kind.width_bytes
        quotient = signed_of_bits(a, width) // signed_of_bits(b, width)
        return quotient & ((1 << 8 * width) - 1)

    monkeypatch.setitem(ARITHMETIC, "div", floor)
    assert_fails(test_guarantees.test_arithmetic_has_one_result)
