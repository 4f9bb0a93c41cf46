"""Loops that run without checks do what they would do with them."""

from __future__ import annotations

import pytest

from dvm_mpi.engine.interface import Reason
from dvm_mpi.engine.reference import ReferenceEngine
from tests.engine.agreement import disagreements
from tests.engine.machine import at, imm, op
from tests.engine.random_programs import VALUES, Scene
from tests.engine.translated import TranslatedEngine

ENGINES = {"reference": ReferenceEngine, "translate": TranslatedEngine}
COUNTER, VALUE = VALUES[:2]

#: A loop that may run without checks; what follows it is executed without one.
COUNTED = [
    op("mov", imm(0), at(COUNTER)),
    op("add", at(COUNTER), imm(1), at(COUNTER)),
    op("add", at(VALUE), at(COUNTER), at(VALUE)),
    op("br:l", at(COUNTER), imm(20), target=1),
    op("xor", at(VALUE), imm(5), at(VALUE)),
    op("add", at(VALUE), imm(1), at(VALUE)),
    op("add", at(VALUE), imm(2), at(VALUE)),
    op("br:l", at(VALUE), imm(2_000), target=0),
    op("exit:c"),
]  # fmt: skip


@pytest.mark.parametrize("fuel", range(55, 70))
def test_a_loop_without_checks_leaves_fuel_for_what_follows(fuel: int) -> None:
    found, expected = disagreements(Scene(COUNTED, slice_fuel=fuel), ENGINES)
    assert not found, "\n".join(found)
    ended = [stop for stop in expected["exits"] if stop.reason is Reason.SLICE_ENDED]
    assert {stop.instructions for stop in ended} == {fuel}


@pytest.mark.parametrize("fuel_max", range(55, 70))
def test_the_limit_of_an_attempt_is_exact_behind_a_loop(fuel_max: int) -> None:
    found, _ = disagreements(Scene(COUNTED, changes={"fuel_max": fuel_max}), ENGINES)
    assert not found, "\n".join(found)
