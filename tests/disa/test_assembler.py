"""Whole programs: every form as text, the papers' notation, names, limits of time."""

from __future__ import annotations

import cProfile
from pathlib import Path

import pytest

from dvm_mpi.disa.assembler import assemble_file, assemble_text
from dvm_mpi.disa.disassembler import format_instruction
from dvm_mpi.disa.encoding import decode, encode
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.source import AssemblyErrors
from dvm_mpi.errors import FileError, SourceError
from dvm_mpi.layout import TEXT_START


def assemble(text: str, **defines: str) -> Image:
    return assemble_text(text, "t.dasm", defines)


def instructions(image: Image) -> list[Instruction]:
    assert image.lines is not None
    return [decode(image.text, a - TEXT_START, a) for a in image.lines.addresses.tolist()]


def test_every_form_survives_text(every_instruction: list[Instruction]) -> None:
    """Printed and assembled again at the same address, each gives the same bytes."""
    lines, expected, address = [], b"", TEXT_START
    for instruction in every_instruction:
        raw = encode(instruction)
        moved = decode(raw, 0, address)
        lines.append(format_instruction(moved))
        expected += raw
        address += len(raw)
    image = assemble("\n".join(lines))
    assert image.text == expected


# fmt: off
SAME = [
    # written                                            means
    ("add (0x100001000):q, 8(r1), 0x100000000020",      "add (0x100001000), 8(r1), 0x100000000020"),
    ("ADD:SQ R1, R2, R3",                                "add r1, r2, r3"),
    ("mov $-1:msq, -16(fp):mub",                         "mov $-1, -16(fp):ub"),
    ("mov:fd r1, r2",                                    "mov r1:fd, r2:fd"),
    ("mov 0xFFFFFFF0(r1), r2",                           "mov -16(r1), r2"),
    ("mov 0x80000000(r1), r2",                           "mov -2147483648(r1), r2"),
    ("mov $0xFFFFFFFFFFFFFFFF, r1",                      "mov $-1, r1"),
    ("mov $0xFF:sb, r1",                                 "mov $-1:sb, r1"),
    ("mov $5:fd, r1:fd",                                 "mov $5.0:fd, r1:fd"),
    ("mov (4 + 4)(r1), r2",                              "mov 8(r1), r2"),
    ("mov (r1 + 8), r2",                                 "mov (r2), r2"),
    ("mov r1 + 8, r2",                                   "mov r2, r2"),
    ("br:g:uq r1, $5, .",                                "br:l:uq $5, r1, ."),
    ("br:ge r1, r2, .",                                  "br:le r2, r1, ."),
    ("br:j $.",                                          "br:j ."),
    ("exit",                                             "exit:c"),
    ("int $0x80",                                        "int 128"),
    ("div r1:fs, r2:fs, r3:fs",                          "div:fs r1, r2, r3"),
    ("mov console, stdin",                               "mov 0x100000208, 0x100000200"),
    ("mov fp, sp ; mov r1, r2",                          "mov 0x200000000, 0x200000008 # fp"),
]
# fmt: on


@pytest.mark.parametrize(("written", "meant"), SAME, ids=[s[0] for s in SAME])
def test_ways_of_writing(written: str, meant: str) -> None:
    assert assemble(written).text == assemble(meant).text


def test_the_papers_line_by_its_bytes() -> None:
    image = assemble("add (0x100001000):q, 8(0x100001000), 0x100000000020")
    cell = "0010000001000000"
    assert image.text.hex() == "010990" + cell + "08000000" + cell + "2000000000100000"


def test_labels_may_come_later_and_local_ones_belong_to_their_owner() -> None:
    image = assemble(
        """
        .equ size, finish - start
start:  br:j .end
.end:   br:j finish
finish: mov $size, r1
.end:   br:j finish.end
        br:j start.end
        """
    )
    first, second, third, fourth, fifth = instructions(image)
    assert first.target == second.address == fifth.target
    assert second.target == third.address
    assert third.operands[0].value == third.address - first.address
    assert fourth.target == fourth.address
    assert image.symbols["start.end"] == second.address


def test_bss_lies_on_the_page_after_the_data_and_its_labels_may_come_first() -> None:
    image = assemble(
        """
        mov $far, r1
        mov $far_size, r2
        .equ far_size, far_end - far
        .bss
near:   .space 8
far:    .space far_size_known
        .equ far_size_known, 24
far_end:
        .data
        .quad far
        """.replace("far_size_known\n", "24\n", 1)
    )
    assert image.symbols["near"] == 0x4_4000_1000
    moves = instructions(image)
    assert moves[0].operands[0].value == 0x4_4000_1008
    assert moves[1].operands[0].value == 24
    assert image.sections[0].data == (0x4_4000_1008).to_bytes(8, "little")
    assert image.reserved.tolist() == [(0x4_4000_0000, 0x1020)]


def test_bss_alone_begins_where_data_would() -> None:
    image = assemble("nop\n.bss\ncell: .space 8")
    assert image.symbols["cell"] == 0x4_4000_0000


def test_lines_name_the_outermost_macro_call() -> None:
    image = assemble(
        """
        .macro inner
        nop
        .endm
        .macro outer
        inner
        nop
        .endm
        nop
        outer
        .rept 2
        inner
        .endr
        """
    )
    assert image.lines is not None
    assert image.lines.lines.tolist() == [9, 10, 10, 12, 12]


def test_definitions_replace_defaults() -> None:
    text = ".default N, 4\n.default X, 1.5\nmov $N, r1\nmov $X:fd, r2:fd"
    for defines, n, x in (({}, 4, 1.5), ({"N": "2*8", "X": "-3"}, 16, -3.0)):
        image = assemble(text, **defines)
        expected = assemble(f"mov ${n}, r1\nmov ${x}:fd, r2:fd")
        assert image.text == expected.text


def test_a_missing_or_binary_file_is_a_file_error(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file"):
        assemble_file(tmp_path / "none.dasm", {})
    path = tmp_path / "bytes.dasm"
    path.write_bytes(b"nop\n\xff\xfe")
    with pytest.raises(FileError, match=r"not UTF-8 text \(byte 4\)"):
        assemble_file(path, {})
    with pytest.raises(FileError, match="Is a directory"):
        assemble_file(tmp_path, {})


def test_an_empty_program_is_an_error() -> None:
    with pytest.raises(SourceError, match="no instructions"):
        assemble("; nothing")


def test_5_000_lines_take_no_more_than_the_promised_work() -> None:
    """In calls of functions: how long they take depends on what else the processors do."""
    body = (
        "l{i}: add:fd 8(r1), $1.5, points+8*{i}\nbr:l r1, $N*2+1, l{i}\nmov r1:sd, (r2):fd ; x\n\n"
    )
    text = ".default N, 5\n" + "".join(body.format(i=i) for i in range(1250))
    text += ".bss\npoints: .space 80000"
    profile = cProfile.Profile()
    image = profile.runcall(assemble, text)
    # 280 a line; 5,000 lines take 0.6 s then.
    calls = sum(entry.callcount for entry in profile.getstats())
    assert calls < 400 * 5_000
    assert image.lines is not None
    assert len(image.lines.lines) == 3750


def test_random_lines_give_errors_and_nothing_else() -> None:
    """Whatever is written, the outcome is an image or a list of diagnostics."""
    words = (
        "add:fd $ ( ) r1 , : .org .macro .endm .rept .if .else .endif x: 1.5 'a' \"s\" \\ [ ] = - 5"
    )
    pieces = words.split()
    state = 12345
    outcomes = set()
    for _ in range(400):
        line = []
        for _ in range(14):
            state = (state * 1103515245 + 12345) % (1 << 31)
            line.append(pieces[(state >> 16) % len(pieces)])
            if (state >> 8) % 5 == 0:
                line.append("\n")
        try:
            assemble(" ".join(line))
        except AssemblyErrors as errors:
            outcomes.add(errors.diagnostics[0].what)
    assert len(outcomes) > 10
