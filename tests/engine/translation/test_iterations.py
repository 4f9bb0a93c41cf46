"""Loops without checks that branch do what they would do with them, and count it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.engine.interface import Reason, TrapKind
from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.engine.agreement import chosen, disagreements
from tests.engine.hot_draft import ODD_DOUBLES
from tests.engine.machine import Task, at, imm, op, via
from tests.engine.random_programs import POINTERS, VALUES, Scene

ENGINES = chosen(["reference", "translate", "translate-hard", "translate-windows"])
X, LEAST, WHICH = VALUES[:3]
SOURCE, TARGET = POINTERS[:2]
PAGES = 5
HALF = PAGES * PAGE_BYTES // 2
TWO = 0x4000_0000_0000_0000


def sorting(end: int) -> list[Instruction]:
    """Return a loop that writes for each number which of some ranges it lies in.

    How many instructions a turn takes depends on the number.
    """
    turn = [
        op("mov", via(SOURCE), at(X), types="fd"),
        op("add", at(SOURCE), imm(8), at(SOURCE)),
        op("mov", imm(0), at(WHICH)),
        op("mov", at(X), at(LEAST), types="fd"),
        op("br:le", at(X), imm(TWO), types="fd", target=11),
        op("mul", at(X), at(X), at(LEAST), types="fd"),
        op("mov", imm(1), at(WHICH)),
        op("br:j", target=13),
        op("sub", at(LEAST), at(X), at(LEAST), types="fd"),
        op("add", at(WHICH), imm(2), at(WHICH)),
        op("br:ne", at(LEAST), at(LEAST), types="fd", target=15),
        op("add", at(WHICH), imm(16), at(WHICH)),
    ]
    return [
        op("mov", imm(DATA_START), at(SOURCE)),
        op("mov", imm(DATA_START + HALF), at(TARGET)),
        op("nop"),
        *turn,
        op("nop"),
        op("mov", at(WHICH), via(TARGET)),
        op("add", at(TARGET), imm(8), at(TARGET)),
        op("br:l", at(SOURCE), imm(end), target=3),
        op("exit:c"),
    ]


def memory(odd_share: float) -> dict[int, int]:
    """Return numbers, NaNs of all kinds among them."""
    rng = random.Random("numbers")
    data = bytearray()
    while len(data) < HALF:
        odd = rng.choice(ODD_DOUBLES)
        plain = rng.choice([0x3FF0_0000_0000_0000, TWO, TWO + (1 << 50), 0xC008_0000_0000_0000])
        data += (odd if rng.random() < odd_share else plain).to_bytes(8, "little")
    return dict(enumerate(data, DATA_START))


def scene(end: int, odd_share: float = 0.3, **more: Any) -> Scene:
    given: dict[str, Any] = {
        "tasks": [Task(grants=((DATA_START, PAGES * PAGE_BYTES, 0),))],
        "memory": memory(odd_share),
        "slice_fuel": 100_000,
    }
    return Scene(sorting(end), **(given | more))


def test_every_iteration_goes_its_own_way() -> None:
    for odd_share in (0.0, 0.1, 1.0):
        found, _ = disagreements(scene(DATA_START + HALF, odd_share), ENGINES)
        assert not found, "\n".join(found)


@pytest.mark.parametrize("fuel", [*range(40, 75), 300])
def test_slices_end_where_the_interpreter_would_end_them(fuel: int) -> None:
    found, expected = disagreements(scene(DATA_START + 320, slice_fuel=fuel), ENGINES)
    assert not found, "\n".join(found)
    ended = [stop for stop in expected["exits"] if stop.reason is Reason.SLICE_ENDED]
    assert {stop.instructions for stop in ended} == {fuel}


@pytest.mark.parametrize("fuel_max", range(200, 230))
def test_the_limit_of_an_attempt_is_exact(fuel_max: int) -> None:
    changes = {"fuel_max": fuel_max}
    found, _ = disagreements(scene(DATA_START + 320, changes=changes), ENGINES)
    assert not found, "\n".join(found)


@pytest.mark.parametrize("beyond", [0, 8, PAGE_BYTES - 8])
def test_it_is_stopped_at_the_first_byte_that_it_may_not_touch(beyond: int) -> None:
    """The targets' pages end before the sources' do."""
    length = HALF + PAGE_BYTES + beyond
    found, expected = disagreements(
        scene(DATA_START + HALF, tasks=[Task(grants=((DATA_START, length, 0),))]), ENGINES
    )
    assert not found, "\n".join(found)
    (ended,) = expected["ended"]
    # A page that is covered in part is judged at the end.
    assert ended.row["trap"] in {TrapKind.UNDECLARED, TrapKind.UNDECLARED_STORE}
    assert DATA_START + length <= ended.row["trap_address"] < DATA_START + length + PAGE_BYTES
