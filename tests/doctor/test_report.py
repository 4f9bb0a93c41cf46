"""The report: what is folded, in which order it stands, and its code."""

from __future__ import annotations

import json

import pytest

from dvm_mpi.doctor.report import Told, as_json, as_text, exit_code, fold, pack, unpack
from dvm_mpi.errors import ExitCode
from dvm_mpi.launch.finding import Finding, Level, good

HOSTS = ["node1", "node1", "node2", "node2"]
SHM = Finding(Level.WRONG, "memory", "8.0 MiB is too little", "more", ExitCode.LIMIT)
SHM_LATER = Finding(Level.WRONG, "memory", "7.9 MiB is too little", "more", ExitCode.LIMIT)
CACHE = Finding(Level.WRONG, "compiled code", "no folder", "set one", ExitCode.FILE)
SLOW = Finding(Level.SLOW, "cores", "ranks share\na core", "bind")


def test_equal_findings_are_told_once_with_their_ranks() -> None:
    told = fold([(0, SHM), (1, good("memory", "1 GiB")), (2, SHM_LATER), (3, SHM)])
    assert told == [Told(SHM, (0, 2, 3)), Told(good("memory", "1 GiB"), (1,))]
    text = as_text("head", told, HOSTS)
    assert text.count("is too little") == 1
    assert "at ranks 0,2-3 on hosts node1, node2" in text


def test_different_words_are_told_apart() -> None:
    assert len(fold([(0, good("open files", "no limit")), (1, good("open files", "7"))])) == 2


def test_what_all_have_is_told_without_ranks() -> None:
    assert "at rank" not in as_text("head", fold((r, SHM) for r in range(4)), HOSTS)
    assert "at rank 3 on node2" in as_text("head", fold([(3, SHM)]), HOSTS)


def test_lines_stand_in_the_order_of_the_table_and_in_columns() -> None:
    told = [Told(CACHE), Told(SLOW), Told(good("launcher", "yes")), Told(SHM)]
    lines = as_text("head", told, HOSTS).splitlines()
    assert lines[0] == "head"
    groups = [line for line in lines[1:] if line and line[0] != " "]
    verdict = "WRONG: 2 findings must be mended first, 1 slow one"
    assert groups == ["start", "limits", "cores", "files", verdict]
    (row,) = [n for n, line in enumerate(lines) if "ranks share" in line]
    column = lines[row].index("ranks share")
    assert lines[row + 1] == " " * column + "a core"
    assert lines[row + 2] == " " * column + "  what helps: bind"


@pytest.mark.parametrize(
    ("told", "code", "verdict"),
    [
        ([], ExitCode.OK, "good: nothing is wrong"),
        ([SLOW], ExitCode.OK, "works: 1 finding may make runs slower"),
        ([CACHE, SHM, SLOW], ExitCode.LIMIT, "WRONG: 2 findings"),
        ([CACHE], ExitCode.FILE, "WRONG: 1 finding must"),
    ],
)
def test_the_code_is_that_of_what_would_stop_a_run_first(
    told: list[Finding], code: ExitCode, verdict: str
) -> None:
    rows = [Told(finding) for finding in told]
    assert exit_code(rows) is code
    assert verdict in as_text("head", rows, HOSTS).splitlines()[-1]


def test_sentences_are_broken_into_lines_and_commands_are_not() -> None:
    what = f"{'many words ' * 20}\n  remove them with: (cd /dev/shm && rm {'mpich_shm_1 ' * 20})"
    lines = as_text("head", [Told(Finding(Level.SLOW, "left files", what))], HOSTS).splitlines()
    assert sum("many words" in line for line in lines) == 3
    assert all(len(line) <= 110 for line in lines if "many words" in line)
    (command,) = [line for line in lines if "rm mpich" in line]
    assert command.count("mpich_shm_1") == 20


def test_many_alike_are_counted() -> None:
    rows = [Told(Finding(Level.SLOW, "cores", f"host {n}")) for n in range(64)]
    assert "and 59 more like these" in as_text("head", rows, HOSTS)


def test_scripts_get_everything() -> None:
    report = json.loads(as_json("head", [Told(SLOW), Told(SHM, (1,))], HOSTS))
    assert report["exit_code"] == ExitCode.LIMIT
    assert [row["subject"] for row in report["findings"]] == ["memory", "cores"]
    assert [row["ranks"] for row in report["findings"]] == [[1], [0, 1, 2, 3]]


def test_findings_travel() -> None:
    assert unpack(pack([SHM, SLOW, CACHE])) == [SHM, SLOW, CACHE]
