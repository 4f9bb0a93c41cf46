"""Every trap ends the run with one message: where, which instruction, its operands, the address.

The programs trap on both engines, and the messages are the same to the letter.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from dvm_mpi.control.diagnosis import TRAPS
from dvm_mpi.engine.interface import TrapKind
from dvm_mpi.errors import ExitCode
from tests.cli.conftest import Command


@dataclass(frozen=True, slots=True)
class Case:
    """A program that traps: in which line, and the lines of the message that tell why."""

    kind: TrapKind
    line: int
    text: str
    told: tuple[str, ...]
    options: tuple[str, ...] = ()
    name: str = ""


# Two words of data that share a page; a child that may touch only the first of them.
CHILD = """\
        .data
first:  .quad 1
second: .quad 2
        .bss
        .org 0x100000000000
far:    .space 8
        .text
main:   .runner child, heap=[($first, $8)]
        exit:c
child:  mov     first, r1
"""

CASES = [
    Case(
        TrapKind.DIVISION_BY_ZERO,
        2,
        "main:   mov $5, r1\n        div r1, r2, r3\n        exit:c\n",
        (
            "    div r1, r2, r3",
            "      a at 0x200000010 = 5",
            "      b at 0x200000018 = 0",
            "      dst at 0x200000020 = 0",
        ),
    ),
    Case(
        TrapKind.DIVISION_BY_ZERO,
        2,
        "main:   mov $-7:sb, r1:sb\n        mod:sb r1, $0, r1\n        exit:c\n",
        ("      a at 0x200000010 = -7", "      b = $0"),
        name="remainder",
    ),
    Case(
        TrapKind.UNMAPPED,
        2,
        "main:   mov $16, r1\n        mov -16(r1), r2\n        exit:c\n",
        ("      a at -16(0x200000010) -> 0x0: cannot be read", "  address 0x0"),
    ),
    Case(
        TrapKind.UNMAPPED,
        1,
        "main:   mov 0x400000000000, r2\n        exit:c\n",
        ("  address 0x400000000000",),
        name="above",
    ),
    Case(
        TrapKind.UNDECLARED,
        11,
        CHILD + "        mov     r1, far\n        exit:c\n",
        (
            "      a at 0x200000010 = 1",
            "created at p.dasm:8",
            "  address far (0x100000000000)",
        ),
    ),
    Case(
        TrapKind.UNDECLARED_STORE,
        12,
        CHILD + "        mov     r1, second\n        exit:c\n",
        (
            "    exit:c",
            "  address second (0x440000008)",
            "  nearest range that it may touch: first (0x440000000), 8 bytes, to below 0x440000008",
        ),
    ),
    Case(
        TrapKind.TEXT_STORE,
        1,
        "main:   mov $1, main\n        exit:c\n",
        ("      dst at 0x400000000 = ", "  address main (0x400000000)"),
    ),
    Case(
        TrapKind.BAD_JUMP,
        2,
        "main:   mov $main + 1, r1\n        br:ji r1\n        exit:c\n",
        ("      address at 0x200000010 = 17179869185 (0x400000001)",),
    ),
    Case(
        TrapKind.STACK_OVERFLOW,
        2,
        "main:   sub stack_base, $8, sp\n        mov $1, (sp)\n        exit:c\n",
        (
            "  address 0x30000000ff8",
            "  nearest range that it may touch: 0x30000001000, 8,192 bytes",
        ),
    ),
    Case(
        TrapKind.FUEL_EXHAUSTED,
        1,
        "main:   br:j main\n",
        ("1,000 instructions into attempt 1",),
        options=("--fuel", "1000"),
    ),
    Case(
        TrapKind.BAD_DESCRIPTOR,
        4,
        "        .bss\nx:      .space 8\n        .text\nmain:   .runner main, heap=[($x, $-8)]\n"
        "        exit:c\n",
        (
            "    newr ",
            "      descriptor at 0x200000070 = 18253611008 (0x440000000)",
            "      then at 0x200000078 = -8",
        ),
    ),
    Case(
        TrapKind.BAD_SYSTEM_CALL,
        2,
        "main:   mov $99, syscall_number\n        int $0x80\n        exit:c\n",
        ("    int 0x80", "      number at 0x100000420 = 99"),
    ),
    Case(
        TrapKind.BAD_SYSTEM_CALL,
        3,
        "main:   mov $2, syscall_number\n        mov $-5, syscall_args\n        int $0x80\n"
        "        exit:c\n",
        ("      number at 0x100000420 = 2", "      argument at 0x100001000 = -5"),
        name="argument",
    ),
    Case(
        TrapKind.BAD_SYSTEM_CALL,
        1,
        "main:   int $3\n        exit:c\n",
        ("    int 0x3",),
        name="another interrupt",
    ),
    Case(
        TrapKind.MEMORY_EXHAUSTED,
        5,
        "        .bss\nx:      .space 12288\n        .text\nmain:   add x, x+4088, x+8\n"
        "        add x+4090, $1, x\n        exit:c\n",
        (
            "    add 0x440000ffa, $1, 0x440000000",
            "      a at 0x440000ffa = 0",
            "      touched before: 1 page, 4,096 bytes, which is the limit",
            "  address x+0x1000 (0x440001000)",
        ),
        options=("--runner-memory", "8191"),
    ),
    Case(
        TrapKind.NO_TIME,
        2,
        "main:   mov $7, syscall_number\n        int $0x80\n        exit:c\n",
        ("    int 0x80", "      number at 0x100000420 = 7"),
        options=("--deterministic",),
    ),
]


def case_id(case: Case) -> str:
    return f"{case.kind.name}{f' {case.name}' if case.name else ''}".lower().replace(" ", "_")


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_trap_is_told_in_full(every_dvm: Command, case: Case) -> None:
    ended = every_dvm.run(case.text, *case.options)
    assert ended.code == ExitCode.TRAP
    what, remedy = TRAPS[case.kind]
    assert ended.messages[0] == f"p.dasm:{case.line}: trap: {what}"
    told = "\n".join(ended.messages)
    for part in case.told:
        assert part in told
    assert "  nothing of this runner was committed" in ended.messages
    assert f"  remedy: {remedy}" in ended.messages
    assert ended.out == ""


def test_flat_images_trap_on_what_no_assembler_would_write(every_dvm: Command) -> None:
    """Only a flat image can hold bytes that are no instruction."""
    (every_dvm.folder / "p.bin").write_bytes(b"\x00\xff")
    ended = every_dvm("p.bin", "--engine", every_dvm.engine, "--stdin", "/dev/null")
    assert ended.code == ExitCode.TRAP
    assert ended.messages[0] == "p.bin: 0x400000001: trap: these bytes are no instruction"


def test_every_kind_of_trap_has_a_case() -> None:
    shown = {case.kind for case in CASES} | {TrapKind.BAD_OPCODE}
    assert shown == set(TrapKind)
