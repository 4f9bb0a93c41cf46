from __future__ import annotations

from dvm_mpi.engine.trap_text import describe, nearest_range
from dvm_mpi.layout import CELL_STDIN, DATA_START
from tests.engine.machine import at, imm, op, via

CELL = 0x2_0000_0010
MEMORY = {CELL: DATA_START, CELL + 8: 0x40C8_1CD6_E631_F8A1, DATA_START + 8: 7}


def peek(address: int, width: int) -> int | None:
    value = MEMORY.get(address)
    return None if value is None else value & (1 << 8 * width) - 1


def texts(instruction: object) -> tuple[str, ...]:
    return describe(instruction, peek, -1, []).operands  # type: ignore[arg-type]


def test_operands_show_place_and_value() -> None:
    assert texts(op("div", via(CELL, 8), imm(0), at(CELL))) == (
        "a at 8(0x200000010) -> 0x440000008 = 7",
        "b = $0",
        "dst at 0x200000010 = 18253611008 (0x440000000)",
    )


def test_values_have_the_operand_s_type() -> None:
    assert texts(op("mov", at(CELL + 8), at(CELL), types="fd sb"))[0].endswith("= 12345.6789")
    assert texts(op("mov", imm(0xFF), at(DATA_START + 8), types="sb ub"))[0] == "a = $-1"


def test_what_cannot_be_seen_is_said_so() -> None:
    assert texts(op("mov", at(DATA_START), at(CELL)))[0].endswith("cannot be read")
    assert "pointer cell cannot be read" in texts(op("mov", via(DATA_START), at(CELL)))[0]
    assert texts(op("mov", at(CELL_STDIN), at(CELL)))[0].endswith("cannot be read")


def test_the_nearest_range_is_the_lowest_of_equals() -> None:
    at_fault = DATA_START + 100
    below, above = (DATA_START, 91), (DATA_START + 110, 5)
    assert nearest_range(at_fault, [above, below]) == below
    assert nearest_range(at_fault + 1, [above, below]) == above
    assert nearest_range(at_fault, [(at_fault, 0)]) is None
    assert nearest_range(-1, [below]) is None
    assert nearest_range(CELL, [below]) is None, "private memory has no declared ranges"
