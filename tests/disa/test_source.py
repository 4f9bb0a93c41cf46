"""Messages as users see them: all errors of a program, each with place, caret and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvm_mpi.config import ERRORS_SHOWN_MAX
from dvm_mpi.disa.assembler import assemble_file, assemble_text
from dvm_mpi.disa.source import AssemblyErrors, suggestion


def errors_of(text: str, **defines: str) -> str:
    with pytest.raises(AssemblyErrors) as caught:
        assemble_text(text, "t.dasm", defines)
    return str(caught.value)


PROGRAM = r"""
start:  addd:fd r1, r2, r3
        add r1, r2
        add:fs r1, r2:fd, r3
        mov r1, $5
        mov $300:ub, r1
        mov $1.5, r1:fd
        br:j strat
        br:lt r1, r2, start
	sqrt r1, r2
        and:fd r1, r2, r3
        exit:x
        int 256
        .data
        nop
start:  .byte 256, -129
        .org 0x30000000000
        .bss
        .quad 1
        .algin 8
        add r1, r2, 8($5
"""

MESSAGES = """\
t.dasm:2:9: error: 'addd' is not an instruction; did you mean 'add'?
    start:  addd:fd r1, r2, r3
            ^~~~
t.dasm:3:13: error: add takes 3 operands, not 2; write add a, b, dst
            add r1, r2
                ^~~~~~
t.dasm:4:23: error: add has one type, but both fs and fd are written; convert one operand with mov \
first
            add:fs r1, r2:fd, r3
                          ^~
t.dasm:5:17: error: the destination is a constant; a destination is a cell: leave out '$'
            mov r1, $5
                    ^~
t.dasm:6:13: error: 300 does not fit the type ub; use -128 to 255
            mov $300:ub, r1
                ^~~~~~~
t.dasm:7:13: error: a float does not fit the type sq; write an integer, or a floating type such \
as :fd
            mov $1.5, r1:fd
                ^~~~
t.dasm:8:14: error: 'strat' is not defined; did you mean 'start'?
            br:j strat
                 ^~~~~
t.dasm:9:12: error: 'lt' is not a branch condition; conditions are j, ji, le, l, e, ne, z, nz, \
sl, g, ge
            br:lt r1, r2, start
               ^~
t.dasm:10:7: error: sqrt does not take the type sq; write the type, as in sqrt:fd
    \tsqrt r1, r2
    \t     ^~
t.dasm:11:13: error: and does not take the type fd; use sq, uq, sd, ud, sb, ub
            and:fd r1, r2, r3
                ^~
t.dasm:12:14: error: 'exit:x' is not an instruction; use exit:c, exit:a, exit:cd, exit:ad
            exit:x
                 ^
t.dasm:13:13: error: 256 is not a byte; use 0 to 255; system calls are 0x80
            int 256
                ^~~
t.dasm:15:9: error: instructions belong into .text, not into .data; write .text before them
            nop
            ^~~
t.dasm:16:1: error: 'start' is defined twice; first as a label at t.dasm:2; choose another name
    start:  .byte 256, -129
    ^~~~~
t.dasm:17:14: error: 0x30000000000 is not a program's to place; use 0x440000000 to below \
0x30000000000 or 0x40000000000 to below 0x200000000000
            .org 0x30000000000
                 ^~~~~~~~~~~~~
t.dasm:19:9: error: .bss holds nothing but zeros; write .data before it
            .quad 1
            ^~~~~~~
t.dasm:20:9: error: '.algin' is not a directive; did you mean '.align'?
            .algin 8
            ^~~~~~
t.dasm:21:23: error: '$' begins no expression; write a number or a name
            add r1, r2, 8($5
                          ^"""


def test_all_errors_of_a_program_are_told_together() -> None:
    assert errors_of(PROGRAM) == MESSAGES


# fmt: off
SINGLE = [
    ("zzz",                         "'zzz' is not an instruction; write a label with ':' after it"),
    ("123",                         "'123' begins no statement; begin with a label"),
    ("add:",                        "a suffix is missing after 'add:'; write a type"),
    ("br r1, r2",                   "'br' needs a condition; write br:j, or a condition"),
    ("br:j (r1)",                   "a branch target is an address, not a cell; use br:ji"),
    ("br:j .:fd",                   "a branch target has no type; use :rel or nothing"),
    ("br:j:sq .",                   "br:j does not take ':sq'; remove it"),
    ("mov $5(r1), r2",              "a constant has no displacement; leave out '$'"),
    ("mov 0x100000000(r1), r2",     "the displacement 0x100000000 has more than 32 bits"),
    ("mov -1, r2",                  "-0x1 is no address; addresses have 64 bits, unsigned"),
    ("mov $1e39:fs, r1:fs",         "1e+39 is too large for fs; use a smaller number, or inf"),
    ("mov r1:xx, r2",               "'xx' is not a type; types are sq, uq,"),
    ("add r1:msq, r2, r3",          "'msq' is not a type; did you mean 'sq'?"),
    ("newr r1:fd, r1, r1, r1",      "operands of newr are 64-bit integers; remove the type"),
    ("mov $bits(1), r1",            "bits() does not fit the type sq; leave out 'bits'"),
    ("mov r1, r2, r3",              "mov takes 2 operands, not 3; write mov a, dst"),
    ("mov r1 r2",                   "'r2' is left over; operands are separated by ','"),
    ("r1: nop",                     "'r1' is a register cell; choose another name"),
    ("bits: nop",                   "'bits' is a function of expressions; choose another name"),
    (".equ a, b\n.equ b, a\nmov $a, r1", "is defined by itself; break the circle"),
    (".equ a, later + 1\nnop",      "'later' is not defined; define it as a label"),
    (".align 3",                    "3 is not a power of two; use 1, 2, 4, 8"),
    (".space later\nlater:",        "'later' has no value yet; define it before this line"),
    (".bss\na: .space 8\n.space a", "the address of a label in .bss is not known yet"),
    (".space -1",                   "a size of -1 is negative"),
    (".data\n.space 1 << 40",       "IMAGE_BYTES_MAX"),
    (".bss\n.space 1 << 42",        "bytes do not fit"),
    (".org 0x3ffffffff",            "leaves the text, which goes on at 0x400000000"),
    ('.ascii hello',                "a string is missing; write it in double quotes"),
    (".entry a\n.entry b",          "the entry is given twice; first at t.dasm:1"),
    (".array a, fd",                "the array's shape is missing; write .array NAME"),
    (".array a, fd, 0",             "a length of 0 is too small"),
    (".array a, fd, 2 = 1",         "the array has 2 elements, but 1 values"),
    (".array a, xx, 2",             "'xx' is not a type"),
    (".private a:0",                "a size of 0 bytes is too small"),
    (".private a:1 << 40",          "private bytes are left"),
    (".assert 1 == 2, \"PARTS\"",   "PARTS; see the values that it names"),
    (".error \"no\"",               "no; this is an .error statement"),
    (".text 5",                     "'5' is left over; remove it"),
    (".text:fd",                    "'.text' does not take ':fd'"),
    (".default 5, 3",               "the name to define is missing"),
]
# fmt: on


@pytest.mark.parametrize(("text", "message"), SINGLE, ids=[s[0].split("\n")[0] for s in SINGLE])
def test_messages(text: str, message: str) -> None:
    assert message in errors_of(text)


def test_overlapping_blocks_name_each_other() -> None:
    text = "nop\n.data\n.space 16\n.org 0x440000008\n.space 4"
    assert errors_of(text) == (
        "t.dasm:4:1: error: the .data block from 0x440000008 to below 0x44000000c overlaps the "
        ".data block from 0x440000000 to below 0x440000010, begun at t.dasm:2; "
        "move one of them with .org\n"
        "    .org 0x440000008\n"
        "    ^~~~~~~~~~~~~~~~"
    )


def test_errors_in_macros_name_both_places() -> None:
    text = "\n.macro twice value\n  mov $\\value, r1\n.endm\n.rept 2\ntwice 1.5\n.endr"
    assert errors_of(text) == (
        "t.dasm:3:7: error: a float does not fit the type sq; "
        "write an integer, or a floating type such as :fd\n"
        "      mov $1.5, r1\n"
        "          ^~~~\n"
        "    in macro 'twice', called at t.dasm:6\n"
        "    in repetition 0 of t.dasm:5"
    )


def test_errors_in_included_files_name_the_including_line(tmp_path: Path) -> None:
    (tmp_path / "lib.dasm").write_text("nop\nnopp\n")
    main = tmp_path / "main.dasm"
    main.write_text('\n.include "lib.dasm"\n.include "none.dasm"\n')
    with pytest.raises(AssemblyErrors) as caught:
        assemble_file(main, {})
    message = str(caught.value)
    assert f"{tmp_path / 'lib.dasm'}:2:1: error: 'nopp' is not an instruction" in message
    assert f"included from {main}:2" in message
    assert f"{main}:3:10: error: '{tmp_path / 'none.dasm'}' cannot be read" in message


def test_continued_lines_are_counted() -> None:
    message = errors_of("nop\n.byte 1, \\\n  2, \\\n  x, 3")
    assert message.startswith("t.dasm:4:3: error: 'x' is not defined")
    assert message.endswith("\n      x, 3\n      ^")


def test_definitions_of_the_command_line_have_messages_too() -> None:
    program = ".default COUNT, 5\nnop\n.equ FIXED, 1"
    assert "the program does not use 'CONUT'; did you mean 'COUNT'?" in errors_of(
        program, CONUT="5"
    )
    assert "write .default FIXED, VALUE to let -D replace it" in errors_of(program, FIXED="2")
    message = errors_of(program, COUNT="1 +")
    assert message.startswith("command line:1:13: error: an expression is missing")
    assert "    -D COUNT=1 +\n" in message
    assert "'1x' is no name" in errors_of(program, **{"1x": "5"})


@pytest.mark.parametrize(
    ("text", "defines", "first"),
    [
        (".default N, 4 +\nmov $N, r1", {}, "t.dasm:1"),
        (".default N, 4\n.array a, sq, N\nmov $a + a.bytes, r1", {"N": "0"}, "t.dasm:2"),
        (".default N, 4\n.array a, sq, N\n.if N > 2\nmov $a.count, r1\n.endif", {"N": "4K"},
         "command line:1"),
        (".default N, 4\n.equ M, N * 2\n.array a, sq, M\n.runner f, heap=[a]\nf: add r1, $M, r1",
         {"N": "many"}, "command line:1"),
        (".private a:0, b\nadd a, b, b", {}, "t.dasm:1"),
        (".equ N, 1 / 0\nx: .space 8\nmov $N, r1", {}, "t.dasm:1"),
    ],
)  # fmt: skip
def test_a_wrong_definition_is_told_once_and_not_again_by_those_who_use_it(
    text: str, defines: dict[str, str], first: str
) -> None:
    message = errors_of("nop\n.text\n" + text, **defines)
    assert message.count("error:") == 1, message
    number = 2 if first.startswith("t.dasm") else 0
    file, line = first.split(":")
    assert message.startswith(f"{file}:{int(line) + number}:")


def test_a_value_on_the_command_line_that_is_no_number() -> None:
    message = errors_of(".default COUNT, 5\nmov $COUNT, r1", COUNT="many")
    assert "command line:1:10: error: 'many' has no value yet; write a number: -D COUNT=100" in (
        message
    )


def test_very_many_errors_are_counted() -> None:
    message = errors_of("\n".join(f"x{i} r1" for i in range(ERRORS_SHOWN_MAX + 7)))
    assert message.count("error:") == ERRORS_SHOWN_MAX
    assert message.endswith("... and 7 more errors")


def test_suggestions_keep_the_spelling_of_what_is_known() -> None:
    assert suggestion("MAINN", ["Main", "other"], "-") == "did you mean 'Main'?"
    assert suggestion("zzz", ["Main"], "-") == "-"
