from __future__ import annotations

import ctypes

import pytest

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.engine import records as r
from dvm_mpi.engine.address_space import VIEW
from dvm_mpi.engine.predecode import CELLS_PAGE, STATIC_PAGES_MAX, Program, widened_constant
from dvm_mpi.engine.records import Operation, Word
from dvm_mpi.layout import CELL_CONSOLE, CELL_STDIN, DATA_START, PAGE_BYTES, PR_END, TEXT_START
from tests.engine.machine import at, imm, op, program, via

CELL = 0x2_0000_0010


def word(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


def field(image_program: Program, pc: int, offset: int) -> int:
    return word(int(image_program.record_at[pc - TEXT_START]) + offset)


def first_record(*instructions: Instruction) -> tuple[Program, int]:
    made = Program(program(*instructions))
    return made, int(made.record_at[0])


def test_private_cells_become_host_addresses_without_a_check() -> None:
    made, record = first_record(op("add", at(CELL), imm(5), at(CELL + 8)))
    assert word(record + r.OPERATION) == Operation.ADD
    assert word(record + r.SHAPE) == 0
    assert word(record + r.A) == VIEW + CELL
    assert word(word(record + r.B)) == 5
    assert word(record + r.D) == VIEW + CELL + 8
    assert made.static_pages == [CELLS_PAGE, CELL // PAGE_BYTES]


def test_shared_cells_are_checked_through_a_cell_that_holds_their_address() -> None:
    _, record = first_record(op("mov", at(DATA_START), via(CELL, -8), types="sd ub"))
    shape = word(record + r.SHAPE)
    assert shape == r.A_CHECKED | r.A_NARROW | r.D_CHECKED | r.D_NARROW
    assert word(word(record + r.A)) == DATA_START
    assert word(record + r.A_WORD) == Word.SD + 4 * r.WIDTH_UNIT
    assert word(record + r.D) == VIEW + CELL
    assert word(record + r.D_OFFSET) == -8
    assert word(record + r.D_WORD) == Word.UB + r.WIDTH_UNIT


@pytest.mark.parametrize(
    ("source", "target", "shape"),
    [
        (CELL_STDIN, CELL, r.A_CHECKED),
        (CELL_STDIN + 8, CELL, 0),
        (CELL, CELL_CONSOLE, r.D_CHECKED),
        (CELL, CELL_STDIN, 0),
        (CELL_CONSOLE, CELL, 0),
    ],
)
def test_cells_with_effects_are_always_checked(source: int, target: int, shape: int) -> None:
    _, record = first_record(op("mov", at(source), at(target)))
    assert word(record + r.SHAPE) == shape


def test_a_pointer_cell_outside_of_static_pages_is_checked_itself() -> None:
    for cell in (DATA_START, CELL_STDIN, PR_END - 4):
        _, record = first_record(op("mov", via(cell), at(CELL)))
        assert word(record + r.SHAPE) == r.A_CHECKED | r.A_FAR
        assert word(record + r.A) == cell


def test_only_so_many_private_pages_are_static() -> None:
    """The rest is checked: a program with thousands of private names costs what it touches."""
    pages = [0x2_0000_0000 + i * PAGE_BYTES for i in range(STATIC_PAGES_MAX + 4)]
    instructions = [op("mov", imm(1), at(page)) for page in pages]
    image = program(*instructions)
    made = Program(image)
    assert len(made.static_pages) == STATIC_PAGES_MAX
    assert image.lines is not None
    shapes = [field(made, pc, r.SHAPE) for pc in image.lines.addresses.tolist()]
    assert shapes == [0] * (STATIC_PAGES_MAX - 1) + [r.D_CHECKED] * 5


def test_constants_are_widened_once() -> None:
    assert widened_constant(Word.SB, 0x80) == -128
    assert widened_constant(Word.UB, 0x80) == 128
    assert widened_constant(Word.SD, 0xFFFF_FFFF) == -1
    assert widened_constant(Word.Q, 1 << 63) == 1 << 63
    assert widened_constant(Word.FS, 0x3F80_0000) == 0x3FF0_0000_0000_0000
    assert widened_constant(Word.FS, 0xFF80_0001) == 0x7FF8_0000_0000_0000


def test_a_flat_image_is_decoded_where_control_comes() -> None:
    image = program(op("br:j", target=2), op("nop"), op("exit:c"), flat=True, tail=b"\xff")
    made = Program(image)
    assert not made.record_at.any()
    made.decode_from(TEXT_START)
    jump = int(made.record_at[0])
    target = word(jump + r.TARGET)
    assert word(target + r.OPERATION) == Operation.EXIT, "decoded ahead"
    behind = field(made, TEXT_START + len(image.text) - 1, r.OPERATION)
    assert behind == Operation.BAD


def test_targets_that_begin_no_instruction_are_bad() -> None:
    image = program(op("br:j", target=TEXT_START + 1), op("br:j", target=1))
    made = Program(image)
    assert field(made, TEXT_START, r.TARGET) == -1
    assert field(made, TEXT_START, r.EXTRA) == TEXT_START + 1
    assert image.lines is not None
    second = int(image.lines.addresses[1])
    assert field(made, second, r.TARGET) == made.record_at[second - TEXT_START]
