"""What `.runner` and `.arguments` expand to: the moves, then `newr`, then the arguments."""

from __future__ import annotations

import pytest

from dvm_mpi import layout
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.disa.disassembler import format_instruction
from dvm_mpi.disa.encoding import decode
from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.source import AssemblyErrors
from dvm_mpi.disa.types import Mode


def expansion(text: str) -> list[Instruction]:
    image = assemble_text(text + "\nworker: exit", "t.dasm", {})
    assert image.lines is not None
    addresses = image.lines.addresses.tolist()[:-1]
    return [decode(image.text, a - layout.TEXT_START, a) for a in addresses]


def listing(text: str) -> list[str]:
    return [format_instruction(i) for i in expansion(text)]


def descriptors(instructions: list[Instruction], cells: dict[int, int]) -> list[list[int]]:
    """Execute the moves up to `newr` and return what its four operands point to.

    `cells` holds what the program's own cells contain.
    """
    memory = dict(cells)
    for instruction in instructions:
        if instruction.mnemonic == "newr":
            break
        source, destination = instruction.operands
        assert destination.mode is Mode.DIRECT
        memory[destination.value] = (
            source.value if source.mode is Mode.IMMEDIATE else memory[source.value]
        )
    found = []
    for index, operand in enumerate(instruction.operands):
        assert operand.mode is Mode.IMMEDIATE
        first = memory.get(operand.value, 0)
        count = {0: 2, 1: 1 + 2 * first, 2: 1 + 2 * first, 3: 1}[index]
        found.append([memory.get(operand.value + 8 * i, 0) for i in range(count)])
    return found


def test_the_least_runner_is_two_instructions() -> None:
    made = expansion(".runner worker")
    assert [i.mnemonic for i in made] == ["mov", "newr"]
    worker = layout.TEXT_START + sum(i.size_bytes for i in made)
    assert descriptors(made, {}) == [[0, 0], [0], [0], [worker]]


def test_ranges_may_be_constants_cells_and_arrays() -> None:
    made = expansion(
        ".bss\n.array points, fd, 4\n.text\n"
        ".runner (r1), stack=(r2, $64), heap=[(r3, r4), points], watch=(r3, $8)"
    )
    r1, r2, r3, r4 = (layout.CELL_REGISTERS + 16 + 8 * i for i in range(4))
    cells = {r1: 0x111, r2: 0x222, r3: 0x333, r4: 0x444}
    assert descriptors(made, cells) == [
        [0x222, 64],
        [2, 0x333, 0x444, layout.DATA_START, 32],
        [1, 0x333, 8],
        [0x111],
    ]


def test_statements_share_their_cells_and_leave_nothing_behind() -> None:
    """The second has fewer ranges than the first, which must not show through."""
    made = expansion(".runner worker, heap=[(r1, $8), (r2, $8)]\n.runner worker, watch=[(r1, $4)]")
    second = [i.mnemonic for i in made].index("newr") + 1
    r1, r2 = layout.CELL_REGISTERS + 16, layout.CELL_REGISTERS + 24
    assert descriptors(made[second:], {r1: 5, r2: 6})[:3] == [[0, 0], [0], [1, 5, 4]]


def test_arguments_travel_through_the_childs_stack() -> None:
    made = listing(".runner worker, args=(r1, $7, 8(r2):fd, (r3):sb, r4:fs)")
    assert made[2:] == [
        "mov r1, 0(0x100000400)",
        "mov $7, 8(0x100000400)",
        "mov 8(r2):fd, 16(0x100000400):fd",
        "mov (r3):sb, 24(0x100000400)",
        "mov r4:fs, 32(0x100000400):fs",
    ]
    assert listing(".arguments r1, r2, r3:fd, r4:sb, (r5):fs") == [
        "mov 0(0x100000100), r1",
        "mov 8(0x100000100), r2",
        "mov 16(0x100000100):fd, r3:fd",
        "mov 24(0x100000100), r4:sb",
        "mov 32(0x100000100):fs, (r5):fs",
    ]


@pytest.mark.parametrize("written", ["args=r1", "args=(r1)", "args=[r1,]", "ARGS = ( r1 )"])
def test_ways_of_writing_one_argument(written: str) -> None:
    assert listing(f".runner worker, {written}") == listing(".runner worker, args=(r1)")


# fmt: off
FAULTS = [
    (".runner",                              "an expression is missing"),
    (".runner nobody",                       "'nobody' is not defined"),
    (".runner worker, arg=(r1)",             "'arg' is not a part of .runner; did you"),
    (".runner worker, args (r1)",            "'=' is missing after 'args'; add '='"),
    (".runner worker, args=(r1), args=(r2)", "'args=' is written twice"),
    (".runner worker, heap=[(r1)]",          "',' is missing between the base and the size"),
    (".runner worker, heap=[(r1, r2]",       "')' is missing after the size of a range"),
    (".runner worker, heap=[(r1, r2)",       "']' is missing after the ranges"),
    (".runner worker, heap=[5]",             "a range is missing; write (base, size)"),
    (".runner worker, heap=[worker]",        "'worker.bytes' is not defined"),
    (".runner 8(r1)",                        "the function is neither a label nor '(cell)'"),
    (".runner worker r1",                    "'r1' is left over"),
    (".data\n.runner worker",                "instructions belong into .text, not into .data"),
    (".arguments $5",                        "an argument goes into a cell; leave out '$'"),
    (".arguments",                           ".arguments lists no cell"),
]
# fmt: on


@pytest.mark.parametrize(("text", "message"), FAULTS, ids=[f[0] for f in FAULTS])
def test_faults(text: str, message: str) -> None:
    with pytest.raises(AssemblyErrors) as caught:
        assemble_text(text + "\n.text\nworker: exit", "t.dasm", {})
    assert message in str(caught.value)
