"""What directives put where."""

from __future__ import annotations

import struct

import pytest

from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.disa.assembly import PRIVATE_START
from dvm_mpi.disa.directives import DIRECTIVES
from dvm_mpi.disa.image import ArrayDeclaration, Image, Section

DATA = 0x4_4000_0000


def assemble(text: str) -> Image:
    return assemble_text("nop\n" + text, "t.dasm", {})


# fmt: off
CONTENTS = [
    (".byte 1, -1, 255, 'a'",           b"\x01\xff\xff\x61"),
    (".word 1, -2, 0xffff",             struct.pack("<HhH", 1, -2, 0xFFFF)),
    (".long 1, -2",                     struct.pack("<ii", 1, -2)),
    (".quad 1, -2, 0xffffffffffffffff", struct.pack("<qqq", 1, -2, -1)),
    (".quad here, here + 8 - .\nhere:", struct.pack("<qq", DATA + 16, 24)),
    (".float 1.5, -0.0, 1",             struct.pack("<fff", 1.5, -0.0, 1)),
    (".double 0.1, 1 << 60, bits(5)",   struct.pack("<ddq", 0.1, 2.0**60, 5)),
    ('.ascii "ab", "c"',                b"abc"),
    (r'.asciz "ab\n", ""',              b"ab\n\0\0"),
    (".byte 1\n.align 8\n.byte 2",      b"\1" + bytes(7) + b"\2"),
    (".space 3, 0xaa\n.space 2",        b"\xaa\xaa\xaa\0\0"),
]
# fmt: on


@pytest.mark.parametrize(("text", "expected"), CONTENTS, ids=[c[0] for c in CONTENTS])
def test_contents(text: str, expected: bytes) -> None:
    assert assemble(".data\n" + text).sections == (Section(DATA, expected),)


def test_text_may_hold_tables_and_move_forward() -> None:
    image = assemble("table: .word 5\n.org 0x400000008\nexit\n.align 16\nend:")
    assert image.text == b"\x00\x05\x00" + bytes(5) + b"\x06\x00" + bytes(6)
    assert image.symbols == {"table": 0x4_0000_0001, "end": 0x4_0000_0010}
    assert image.lines is not None
    assert image.lines.addresses.tolist() == [0x4_0000_0000, 0x4_0000_0008]


def test_arrays_lie_on_pages_and_are_declared() -> None:
    image = assemble(
        """
        .data
        .byte 1
        .array filled, sw, 2, 2 = 1, -2, 3, 4
        .array points, fd, 1000, 3
        .array flags, ub, points.count
        .quad points.bytes, flags.count
        """
    )
    filled, bss = DATA + 0x1000, DATA + 0x2000
    assert image.arrays == {
        "filled": ArrayDeclaration("filled", filled, "sw", (2, 2)),
        "points": ArrayDeclaration("points", bss, "fd", (1000, 3)),
        "flags": ArrayDeclaration("flags", bss + 0x6000, "ub", (3000,)),
    }
    (section,) = image.sections
    assert section.data[0x1000:] == struct.pack("<hhhhqq", 1, -2, 3, 4, 24000, 3000)
    assert image.reserved.tolist() == [(DATA, 0x8000 + 3000)]
    assert image.symbols["points"] == bss


def test_org_blocks_stand_alone() -> None:
    image = assemble(
        """
        .data
        .byte 1
        .org 0x40000000000
        .array far, sd, 2
near:   .byte 2
        .data
        .byte 3
        .bss
        .org 0x100000000020
        .space 8
        .array far_away, sd, 2
        """
    )
    assert image.sections == (Section(DATA, b"\1\3"), Section(0x400_0000_0000, b"\2"))
    assert image.reserved.tolist() == [
        (DATA, 0x1000 + 8),
        (0x400_0000_0000, 1),
        (0x1000_0000_0020, 0x1000 - 0x20 + 8),
    ]
    assert image.arrays["far_away"].address == 0x1000_0000_1000


def test_adjacent_blocks_are_one_range() -> None:
    image = assemble(".bss\n.org 0x450000000\n.space 8\n.data\n.org 0x450000008\n.byte 1")
    assert image.reserved.tolist() == [(0x4_5000_0000, 9)]


def test_private_cells_follow_the_registers() -> None:
    image = assemble(".private a, b:sd, c:20, d:fd\nmov a, d")
    base = PRIVATE_START
    assert image.symbols == {"a": base, "b": base + 8, "c": base + 16, "d": base + 40}


def test_the_entry_is_the_first_instruction_unless_named() -> None:
    assert assemble("main: exit").entry == 0x4_0000_0000
    assert assemble(".entry main\nmain: exit").entry == 0x4_0000_0001


def test_a_programs_own_names_win_over_the_machines() -> None:
    image = assemble(".bss\nconsole: .space 8\n.text\nmov console, r1")
    assert image.symbols["console"] == DATA


def test_every_directive_has_a_synopsis_that_begins_with_its_name() -> None:
    for name, directive in DIRECTIVES.items():
        assert name[0] == "."
        assert directive.synopsis.split()[0] == name
        assert directive.summary
