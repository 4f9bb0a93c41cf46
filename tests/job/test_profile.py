"""From counts of instructions to source lines, and the table that users see."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dvm_mpi import config
from dvm_mpi.cli import main
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.engine.tally import addresses
from dvm_mpi.errors import ExitCode
from dvm_mpi.io.report import ProfiledLine
from dvm_mpi.job.profile import profile_table, profiled_lines
from tests.programs import ADDS_LINE, ENDS_LINE, hot_counter

SOURCE = """\
        .macro twice cell
        add     \\cell, \\cell, \\cell    ; doubles
        add     \\cell, $1, \\cell
        .endm
        .private i
        .text
main:   mov     $0, i
again:  twice i
        twice i
        br:l    i, $10, again
        exit:c
"""
IMAGE = assemble_text(SOURCE, "jobs/prog.dasm", {})


def counts_of(*per_instruction: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    assert len(per_instruction) == len(addresses(IMAGE))
    return np.array(per_instruction, np.int64)


def test_a_macro_counts_where_it_is_used() -> None:
    """As in traces and in messages of traps."""
    counts = counts_of(1, 2, 2, 2, 2, 3, 1, 0)
    lines = profiled_lines(IMAGE, counts, {"jobs/prog.dasm": SOURCE})
    assert sum(line.instructions for line in lines) == counts.sum()
    assert [(line.line, line.label, line.text, line.instructions) for line in lines] == [
        ("jobs/prog.dasm:8", "again", "again: twice i", 4),
        ("jobs/prog.dasm:9", "again", "twice i", 4),
        ("jobs/prog.dasm:10", "again", "br:l i, $10, again", 3),
        ("jobs/prog.dasm:7", "main", "main: mov $0, i", 1),
        ("jobs/prog.dasm:11", "again", "exit:c", 1),
    ]
    assert sum(line.share for line in lines) == pytest.approx(1)
    assert lines[0].share == 4 / 13


def test_without_the_source_an_instruction_stands_for_its_line() -> None:
    (line,) = profiled_lines(IMAGE, counts_of(0, 0, 0, 0, 0, 0, 5, 0), {})
    assert (line.line, line.text) == ("jobs/prog.dasm:11", "exit:c")
    short = {"jobs/prog.dasm": "one line only\n"}
    assert profiled_lines(IMAGE, counts_of(0, 0, 0, 0, 0, 0, 5, 0), short)[0].text == "exit:c"


def test_where_no_instruction_is() -> None:
    (line,) = profiled_lines(IMAGE, counts_of(0, 0, 0, 0, 0, 0, 0, 1), {})
    assert line.line.startswith("jobs/prog.dasm: 0x")
    assert line.text == "(outside the program's text)"


def test_nothing_was_executed() -> None:
    assert profiled_lines(IMAGE, counts_of(*[0] * 8), {}) == ()
    assert profile_table((), 0).splitlines()[0] == "profile: 0 instructions by source line"


def many(count: int, share: float) -> tuple[ProfiledLine, ...]:
    return tuple(ProfiledLine(f"a/b.dasm:{n}", "f", "nop", 1_000, share) for n in range(count))


def test_the_table_is_short_and_tells_the_rest() -> None:
    shown = config.PROFILE_LINES_SHOWN
    told = profile_table(many(shown + 5, 1 / (shown + 5)), 0).splitlines()
    assert told[0] == "profile: 25.0 k instructions by source line"
    assert told[1].split() == ["share", "executed", "line", "below", "source"]
    assert told[2].split() == ["4.0%", "1.00", "k", "b.dasm:0", "f", "nop"]
    assert len(told) == 2 + shown + 1
    assert told[-1] == "   20.0%  in 5 more lines; --report has all"


def test_lines_that_say_nothing_are_not_shown() -> None:
    told = profile_table((*many(1, 0.9999), *many(1, 0.0001)), 0).splitlines()
    assert len(told) == 4
    assert told[-1] == "    0.0%  in 1 more line; --report has all"


def test_what_was_under_way_is_told() -> None:
    told = profile_table(many(1, 1.0), 400).splitlines()[0]
    assert told == (
        "profile: 1.00 k instructions by source line, 400 by runners under way at the end"
    )


# --- whole runs ----------------------------------------------------------------------------------
@pytest.fixture(params=["interp", "reference"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "p.dasm"
    path.write_text(SOURCE)
    return path


def profiled(program: Path, *options: str, code: int = 0) -> tuple[dict[str, int], int]:
    """Run; return instructions by line number, and those of the report."""
    report = program.with_name("run.json")
    words = ["--profile", "--report", str(report), "--stdin", "/dev/null", *options]
    assert main([str(program), *words]) == code
    told = json.loads(report.read_text())
    lines = {row["line"].rpartition(":")[2]: row["instructions"] for row in told["lines"]}
    return lines, told["instructions"]


#: By hand: i is 0, 3, 15 at the branch.
BY_HAND = {"7": 1, "8": 4, "9": 4, "10": 2, "11": 1}


def test_a_program_counted_by_hand(
    program: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, executed = profiled(program, "--engine", engine)
    assert lines == BY_HAND
    assert sum(lines.values()) == executed == 12
    told = capsys.readouterr().err
    assert "profile: 12 instructions by source line\n" in told
    assert told.index("p.dasm:8 ") < told.index("p.dasm:10 ") < told.index("p.dasm:7 ")


def test_attempts_that_lose_count(program: Path, engine: str) -> None:
    program.write_text(hot_counter(30))
    lines, executed = profiled(program, "--engine", engine, "--workers", "3")
    assert sum(lines.values()) == executed
    assert lines[str(ADDS_LINE)] == lines[str(ENDS_LINE)] > 30, "nobody lost"


def test_a_run_that_traps_has_a_profile(program: Path, engine: str) -> None:
    program.write_text(SOURCE.replace("exit:c", "div $1, $0, i"))
    lines, executed = profiled(program, "--engine", engine, code=ExitCode.TRAP)
    assert lines == BY_HAND
    assert sum(lines.values()) == executed


def test_a_profile_that_nothing_shows_is_refused(
    program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(program), "--profile", "--quiet"]) == ExitCode.USAGE
    assert "--profile: --quiet hides it" in capsys.readouterr().err
    assert profiled(program, "--quiet")[1] == 12
    assert capsys.readouterr().err == ""
