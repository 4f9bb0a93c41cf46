"""Instructions and images that several tests of the language share."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import pytest

from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.disa.encoding import has_type_field
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.table import CONDITIONS, TABLE, Access, ExitMode, Form, OperandSpec
from dvm_mpi.disa.types import BY_NAME, Mode

HERE = 0x4_0000_0000

#: A bit of everything that an image can hold.
VARIED = r"""
.default COUNT, 4
.private index, sum:fd, buffer:64
.entry start
.text
table:  .word 1, 2, 0xFFFF
        .asciz "bytes in the text"
start:  mov $0, index
.next:  add:fd sum, 8(r1), sum
        add index, $1, index
        br:l index, $COUNT, .next
        br:e:ub (r1), $'x', start:rel
        .runner worker, args=(index, sum:fd), heap=[(r1, $8), points], watch=[weights]
        bl $finish, r1
        exit:a
worker: .arguments r2, sum:fd
        exit:cd
finish: br:ji r1
end_of_text:
.data
greeting: .asciz "hello\n"
          .align 8
pointers: .quad greeting, start, points + 8
          .double 1.5, -0.0, inf, nan
.array weights, sd, 3 = 1, 2, -3
.array points, fd, COUNT, 2
.bss
counter: .space 8
far:     .org 0x100000000020
         .space 8
"""


@pytest.fixture
def varied() -> Image:
    """Return an image with code, tables in the text, data, bss, arrays and an `.org` block."""
    return assemble_text(VARIED, "varied.dasm", {})


@pytest.fixture(scope="session")
def every_instruction() -> list[Instruction]:
    """Return each row × type × mode, with values that show a byte out of place."""
    found = list(_every_instruction())
    assert len(found) > 5_000
    return found


def _every_instruction() -> Iterator[Instruction]:
    for row in TABLE:
        for condition in CONDITIONS if row.form is Form.BRANCH else (None,):
            listed = row.operands if condition is None else condition.operands
            specs = [s for s in listed if s.access in {Access.READ, Access.WRITE}]
            allowed = sorted(row.types if condition is None else condition.types)
            name = None if condition is None else condition.name
            typings: list[tuple[str, ...]] = [()]
            if has_type_field(row.mnemonic, name):
                count = 2 if row.form is Form.MOV else 1
                typings = list(itertools.product(allowed, repeat=count))
            modes = [[m for m in Mode if m or s.access is Access.READ] for s in specs]
            for types, chosen in itertools.product(typings, itertools.product(*modes)):
                operands = tuple(_operands(types, chosen, specs))
                yield from _variants(row.mnemonic, name, types, operands)


def _operands(
    types: tuple[str, ...], modes: Sequence[Mode], specs: Sequence[OperandSpec]
) -> Iterator[Operand]:
    for i, (mode, spec) in enumerate(zip(modes, specs, strict=True)):
        width = spec.width_bytes or BY_NAME[types[min(i, len(types) - 1)]].width_bytes
        if mode is Mode.IMMEDIATE:
            yield Operand(mode, (0xF1F2F3F4F5F6F7F8 + i) & (1 << 8 * width) - 1)
        else:
            displacement = -0x7654321 if mode is Mode.DISPLACED else 0
            yield Operand(mode, 0x123456789A + i, displacement)


def _variants(
    mnemonic: str, condition: str | None, types: tuple[str, ...], operands: tuple[Operand, ...]
) -> Iterator[Instruction]:
    if condition is not None and condition != "ji":
        for relative in (False, True):
            yield Instruction(
                HERE, 0, mnemonic, types, operands, condition, HERE + 0x1234, relative
            )
    elif mnemonic == "exit":
        for mode in ExitMode:
            yield Instruction(HERE, 0, mnemonic, exit_mode=mode)
    else:
        number = 0x80 if mnemonic == "int" else None
        yield Instruction(HERE, 0, mnemonic, types, operands, condition, number=number)
