"""Conditions, macros, repetitions and inclusion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dvm_mpi.disa import expansion
from dvm_mpi.disa.assembler import assemble_file, assemble_text
from dvm_mpi.disa.source import AssemblyErrors, SourceLine


def data_of(text: str, **defines: str) -> bytes:
    """Return the data of a program that is written with data directives only."""
    image = assemble_text("nop\n.data\n" + text, "t.dasm", defines)
    return b"".join(section.data for section in image.sections)


def errors_of(text: str) -> str:
    with pytest.raises(AssemblyErrors) as caught:
        assemble_text(text, "t.dasm", {})
    return str(caught.value)


BYTES_OF_A_AND_B = ".macro m a, b=7\n.byte \\a, \\b\n.endm\n"
BYTES_OF_THE_REST = ".macro m a, r...\n.byte \\r, \\a\n.endm\n"
QUOTED = '.macro m n\n.ascii "\\\\n", "n"\n.byte \\n\n.endm\n'
IN_MACRO = ".macro a x\n.byte \\x\n.endm\n.macro b x\na \\x\na \\x + 1\n.endm\n"
RECURSIVE = ".macro m n\n.byte \\n\n.if \\n\nm \\n - 1\n.endif\n.endm\n"
COUNTED = ".macro m n\n.rept \\n, i\n.byte \\i + \\n\n.endr\n.endm\n"
LABELLED = ".macro m\n.l\\@: .byte .l\\@ - 0x440000000\n.endm\n"
JOINED = ".equ x_1, 9\n.macro m i\n.byte x_\\i, \\i\\()0\n.endm\n"

# fmt: off
MACROS = [
    ("arguments",        BYTES_OF_A_AND_B + "m 1, 2",                        [1, 2]),
    ("defaults",         BYTES_OF_A_AND_B + "m 1\nm 2, 3",                   [1, 7, 2, 3]),
    ("keywords",         BYTES_OF_A_AND_B + "m b=1, a=2",                    [2, 1]),
    ("commas inside",    BYTES_OF_A_AND_B + "m (1 + 2), ','",                [3, 44]),
    ("the rest",         BYTES_OF_THE_REST + "m 1, 2, 3",                    [2, 3, 1]),
    ("no rest",          ".macro m r...\n.byte 0\\r\n.endm\nm",              [0]),
    ("not in quotes",    QUOTED + "m 5",                                     [92, 110, 110, 5]),
    ("joined names",     JOINED + "m 1",                                     [9, 10]),
    ("own labels",       LABELLED + "m\nm",                                  [0, 1]),
    ("macro in macro",   IN_MACRO + "b 4",                                   [4, 5]),
    ("recursion",        RECURSIVE + "m 2",                                  [2, 1, 0]),
    ("defined inside",   ".macro d\n.macro e\n.byte 8\n.endm\n.endm\nd\ne",  [8]),
    ("repetition",       ".rept 3\n.byte 1\n.endr",                          [1, 1, 1]),
    ("counter",          ".rept 3, i\n.byte \\i * 2\n.endr",                 [0, 2, 4]),
    ("nested",           ".rept 2, i\n.rept 2, j\n.byte \\i\\j\n.endr\n.endr", [0, 1, 10, 11]),
    ("in a macro",       COUNTED + "m 2",                                    [2, 3]),
    ("none",             ".rept 0\nrubbish here\n.endr\n.byte 1",            [1]),
    ("label before",     "a: .rept 2\n.byte a - 0x440000000\n.endr",         [0, 0]),
]
# fmt: on


@pytest.mark.parametrize(("text", "expected"), [m[1:] for m in MACROS], ids=[m[0] for m in MACROS])
def test_macros_and_repetitions(text: str, expected: list[int]) -> None:
    assert list(data_of(text)) == expected


# fmt: off
CONDITIONS = [
    (".if N\n.byte 1\n.endif",                                      "5", [1]),
    (".if N == 4\n.byte 1\n.else\n.byte 2\n.endif",                 "5", [2]),
    (".if N<5\n.byte 1\n.elseif N==5\n.byte 2\n.else\n.byte 3\n.endif", "5", [2]),
    (".if N<5\n.byte 1\n.elseif N==5\n.byte 2\n.else\n.byte 3\n.endif", "4", [1]),
    (".if N<5\n.byte 1\n.elseif N==5\n.byte 2\n.else\n.byte 3\n.endif", "6", [3]),
    (".if 1\n.byte 1\n.elseif rubbish +\n.byte 2\n.endif\n.byte N", "5", [1, 5]),
    (".if 0\n.if 1\nrubbish\n.else\nrubbish\n.endif\n.else\n.byte N\n.endif", "5", [5]),
    (".ifdef N\n.byte 1\n.else\n.byte 2\n.endif",                   "5", [1]),
    (".ifndef M\n.byte N\n.endif",                                  "5", [5]),
    (".if defined(M)\n.byte 1\n.else\n.byte N\n.endif",             "5", [5]),
    (".if 0\n.macro m\n.endm\n.endif\n.macro m\n.byte N\n.endm\nm", "5", [5]),
]
# fmt: on


@pytest.mark.parametrize(("text", "n", "expected"), CONDITIONS)
def test_conditions(text: str, n: str, expected: list[int]) -> None:
    assert list(data_of(text, N=n)) == expected


# fmt: off
FAULTS = [
    (".macro m\nnop",                     ".macro without .endm; add .endm"),
    (".rept 2\nnop",                      ".rept without .endr; add .endr"),
    (".endm",                             ".endm without .macro; remove it"),
    (".endr",                             ".endr without .rept; remove it"),
    (".if 1\nnop",                        "t.dasm:1:1: error: .if without .endif; add .endif"),
    (".endif",                            ".endif without .if; remove it"),
    (".if 0\n.else\n.else\n.endif",       ".else after .else; close the .if with .endif first"),
    (".macro add\n.endm",                 "'add' has the name of an instruction"),
    (".macro m\n.endm\n.macro m\n.endm",  "macro 'm' is defined twice; first at t.dasm:1"),
    (".macro m a, a\n.endm",              "parameter 'a' is listed twice"),
    (".macro m a..., b\n.endm",           "'a...' is not the last parameter"),
    (".macro m 5\n.endm",                 "'5' is no parameter"),
    (".macro m a\n.endm\nm",              "macro 'm' lacks its argument 'a'; write m a"),
    (".macro m a\n.endm\nm 1, 2",         "macro 'm' takes 1 arguments, not 2; write m a"),
    (".macro m a\n.endm\nm 1, a=2",       "argument 'a' is given twice"),
    (".macro m a\nmov $\\b, r1\n.endm\nm 1", "'\\b' names no parameter of a macro"),
    (".macro print\n.endm\nprnt",         "'prnt' is not an instruction; did you mean 'print'?"),
    (".rept -1\n.endr",                   "a number of -1 is negative"),
    (".rept 1 << 40\nnop\n.endr",         "t.dasm:1:7: error: 1099511627776 repetitions make"),
    (".include lib",                      "a file's name is missing"),
]
# fmt: on


@pytest.mark.parametrize(("text", "message"), FAULTS, ids=[f[0][:25] for f in FAULTS])
def test_faults(text: str, message: str) -> None:
    assert message in errors_of(text)


@pytest.mark.parametrize("body", ["m", "m\nm", ".rept 2\nm\n.endr"])
def test_endless_recursion_meets_the_limit_once(body: str) -> None:
    message = errors_of(f".macro m\n{body}\n.endm\nm")
    assert message.count("error:") == 1
    assert "MACRO_DEPTH_MAX" in message


def test_endless_expansion_meets_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is a macro that makes the lines, they are counted as they come."""
    monkeypatch.setattr("dvm_mpi.disa.expansion.UNROLLED_LINES_MAX", 1000)
    macro = ".macro m\n" + "nop\n" * 40 + ".endm\n"
    message = errors_of(macro + ".rept 40\nm\n.endr\nbr:j later\nlater: nop")
    assert message.count("error:") == 1
    assert ": error: repetitions and macros make more than" in message
    assert "of t.dasm:43" in message
    assert "not looked at" in message


# fmt: off
REFUSED_AT_ONCE = [
    # Counts within one another multiply.
    (".rept 700\n.rept 700\nnop\n.endr\n.endr\nadd $1", "t.dasm:1:7: error: 700 repetitions"),
    (".rept 70\n.rept 70, i\n.rept 70\nnop\n.endr\n.endr\n.endr", "t.dasm:1:7: error: 70 rep"),
    (".equ N, 700\n.rept N\n.if 1\n.endif\nnop\n.rept N\nnop\n.endr\n.endr", "t.dasm:2:7: "),
    # What comes is counted before much is unrolled.
    (".rept 20000\nnop\n.endr\n.rept 400000\nnop\n.endr", "t.dasm:4:7: error: 400000 repet"),
    (".rept 20000\nnop\n.endr\n.rept 9\nnop\n.endr\n.rept 290000\nnop\n.endr",
     "t.dasm:7:7: error: repetitions up to here make more than UNROLLED_LINES_MAX = 300,000"),
    (".if 1\n.rept 20000\nnop\n.endr\n.else\n.endif\n.rept 400000\nnop\n.endr", "t.dasm:7:7: "),
    (".macro m\n.rept 20000\nnop\n.endr\n.endm\nm\n.rept 400000\nnop\n.endr", "t.dasm:7:7: "),
]

#: Of each, `LONG` is unrolled; how often what follows is repeated is known when it comes.
UNCERTAIN = [
    "LONG.if 0\n.rept 9\nnop\n.endr\n.endif",
    "LONG.if 1\nnop\n.else\n.rept 9\nnop\n.endr\n.endif",
    ".if 1\nLONG.else\n.rept 9\nnop\n.endr\n.endif",
    ".if 1\nLONG.elseif 1\n.else\n.rept 9\nnop\n.endr\n.endif",
    "LONG.ifdef later\n.if 1\n.else\n.endif\n.rept 9\nnop\n.endr\n.endif",
    "LONG.macro unused\n.rept 9\nnop\n.endr\n.endm",
    "LONG.equ stdin, 0\n.rept stdin\nnop\n.endr",
    ".equ .own, 9\nLONG.text\nother: .equ .own, 0\n.rept .own\nnop\n.endr",
    "LONG.rept 3, i\n.rept \\i\nnop\n.endr\n.endr",
    "LONG.equ known, 1\n.rept 9 * !defined(known)\nnop\n.endr",
    ".equ place, .\nLONG.rept 9 * (. == place)\nnop\n.endr",
    "LONG.rept 3\n.if 0\n.rept 9\nnop\n.endr\n.endif\n.endr",
]
# fmt: on


@pytest.fixture
def unrolled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines that repetitions have made, as they come."""
    made: list[str] = []
    substituted = expansion._substituted

    def counted(line: SourceLine, *rest: Any) -> SourceLine:
        made.append(line.text)
        return substituted(line, *rest)

    monkeypatch.setattr(expansion, "_substituted", counted)
    return made


@pytest.mark.parametrize(("text", "message"), REFUSED_AT_ONCE)
def test_repetitions_out_of_proportion_are_refused_at_once(
    text: str, message: str, unrolled: list[str]
) -> None:
    told = errors_of(text)
    assert message in told
    assert told.count("make more than UNROLLED_LINES_MAX") == 1
    assert len(unrolled) < 10


@pytest.mark.parametrize("text", UNCERTAIN)
def test_only_lines_that_are_certain_to_come_are_counted(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvm_mpi.disa.expansion.UNROLLED_AFTER_ERROR_MAX", 3)
    monkeypatch.setattr("dvm_mpi.disa.expansion.UNROLLED_LINES_MAX", 20)
    assert assemble_text(text.replace("LONG", ".rept 12\nnop\n.endr\n"), "t", {}).text


def test_lines_of_files_have_a_limit_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvm_mpi.disa.expansion.UNROLLED_LINES_MAX", 10)
    assert assemble_text("nop\n" * 50 + ".rept 10\nnop\n.endr", "t", {}).text
    monkeypatch.setattr("dvm_mpi.disa.expansion.EXPANDED_LINES_MAX", 40)
    assert "EXPANDED_LINES_MAX = 40" in errors_of("nop\n" * 50)


def test_what_cannot_hold_is_told_before_a_program_is_unrolled(unrolled: list[str]) -> None:
    """The numbers of a job are out of proportion: it would be unrolled for a minute first."""
    text = '.assert 2 < 1, "too many"\nfirst: add $1\n.rept 250000\nnop\n.endr\nlast: add $1'
    message = errors_of(text)
    assert "t.dasm:1:9: error: too many" in message
    assert "t.dasm:2:" in message
    assert "t.dasm:6:" not in message
    assert "what follows 10,000 lines" in message
    assert not unrolled


def test_behind_an_error_a_program_is_unrolled_as_far_as_that_takes_no_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Errors are told together; but of names that may come later nothing is said."""
    monkeypatch.setattr("dvm_mpi.disa.expansion.UNROLLED_AFTER_ERROR_MAX", 100)
    text = ".assert 0\n.rept {0}\nnop\n.rept 4\nbr:j after\n.endr\n.endr\nadd $1\n{1}"
    whole = errors_of(text.format(16, ""))
    assert whole.count("error:") == 3
    assert "not looked at" not in whole
    partly = errors_of(text.format(20, "after: nop"))
    assert partly.count("error:") == 1
    assert "not looked at" in partly
    called = errors_of(".assert 0\n.macro m\nnop\n.endm\n" + "m\n" * 101 + "add $1")
    assert called.count("error:") == 1


def test_files_are_found_beside_the_including_one_and_read_once(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.dasm").write_text('.include "b.dasm"\n.equ A, B + 1\n')
    (tmp_path / "lib" / "b.dasm").write_text('.include "a.dasm"\n.equ B, 5\n')
    main = tmp_path / "main.dasm"
    main.write_text('.include "lib/a.dasm"\n.include "lib/b.dasm"\nmov $A, r1\n')
    assert assemble_file(main, {}).text == assemble_text("mov $6, r1", "t", {}).text


def test_inclusion_has_a_depth(tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / f"f{i}.dasm").write_text(f'.include "f{i + 1}.dasm"\n')
    with pytest.raises(AssemblyErrors, match="INCLUDE_DEPTH_MAX"):
        assemble_file(tmp_path / "f0.dasm", {})
