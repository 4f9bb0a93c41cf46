"""What ranks tell each other before a run, and what rank 0 makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi.config import MIB
from dvm_mpi.errors import ExitCode, FileError, LaunchError, LimitError
from dvm_mpi.job.greeting import (
    ROW,
    Welcome,
    check_rows,
    common_plan,
    cores_of,
    differences,
    first_failure,
    own_row,
    verdict_row,
)
from dvm_mpi.launch.memory import MemoryPlan
from dvm_mpi.options import parse_run

MPI = "MPICH 5.0.2"
PLAN = MemoryPlan(64 * MIB, "auto", "")


def rows_of(*plans: tuple[str, int]) -> NDArray[Any]:
    rows = np.zeros(len(plans), ROW)
    rows["plane"] = [plane.encode() for plane, _ in plans]
    rows["memory_bytes"] = [memory_bytes for _, memory_bytes in plans]
    rows["host"] = [f"node{rank // 2}".encode() for rank in range(len(plans))]
    return rows


def test_ranks_that_agree_do_what_all_planned() -> None:
    rows = rows_of(("auto", 64 * MIB), ("auto", 64 * MIB))
    assert common_plan(rows) == MemoryPlan(64 * MIB, "auto", "")


def test_one_rank_without_room_for_windows_decides_for_all() -> None:
    """Windows are made by all ranks together: the others would wait for this one for ever."""
    rows = rows_of(*[("auto", 64 * MIB)] * 3, ("message", 64 * MIB))
    common = common_plan(rows)
    assert common.plane == "message"
    assert "too little room for windows at rank 3 on node1" in common.remark


def test_the_program_must_fit_into_the_smallest_rank() -> None:
    assert common_plan(rows_of(("rma", 64 * MIB), ("rma", 16 * MIB))).memory_bytes == 16 * MIB


def test_a_welcome_arrives_as_it_was_sent() -> None:
    welcome = Welcome("job", b"image\n\0", b"\ninput", 0, "auto", (0, 0, 1))
    assert Welcome.decode(welcome.encode()) == welcome


def test_rows_of_all_versions_have_one_length_and_begin_with_the_version() -> None:
    """Else a rank of another version would be told as a broken message, or not at all."""
    assert ROW.itemsize == 1024
    assert ROW.fields is not None
    assert ROW.fields["version"][1] == 0


# --- whether ranks go together ------------------------------------------------------------------


def ranks(path: Path, *arguments: str) -> NDArray[Any]:
    """Return the rows of four ranks with one command line and one program."""
    row = own_row(parse_run([*arguments, str(path)]), PLAN, MPI)
    rows = np.repeat(row, 4)
    rows["host"] = [b"alpha", b"alpha", b"beta", b"beta"]
    return rows


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "prog.dasm"
    path.write_text("exit:c")
    return path


def test_ranks_that_say_the_same_go_together(program: Path) -> None:
    check_rows(ranks(program))


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("version", r"rank 0 runs DVM .*, but rank 3 on beta runs other; .* one environment"),
        ("sources", r"the DVM of rank 3 on beta differs from that of rank 0 on alpha"),
        ("options", r"the command line of rank 3 on beta differs from that of rank 0"),
        ("program", r"other bytes at rank 3 on beta than at rank 0 on alpha; copy the same file"),
    ],
)
def test_a_rank_that_differs_is_named_with_the_remedy(program: Path, field: str, text: str) -> None:
    rows = ranks(program)
    rows[field][3] = b"other"
    with pytest.raises(LaunchError, match=text):
        check_rows(rows)


def test_many_that_differ_are_counted(program: Path) -> None:
    rows = np.repeat(ranks(program), 10)
    rows["options"][1:] = b"other"
    with pytest.raises(LaunchError, match=r"rank 8 on \w+ and 31 more differs"):
        check_rows(rows)


def test_only_what_a_run_depends_on_must_agree(tmp_path: Path, program: Path) -> None:
    elsewhere = tmp_path / "folder" / program.name
    elsewhere.parent.mkdir()
    elsewhere.write_text("exit:c")
    (here,) = own_row(parse_run([str(program), "-D", "N=1"]), PLAN, MPI)
    (there,) = own_row(parse_run([str(elsewhere), "-D", "N=1"]), PLAN, MPI)
    (other,) = own_row(parse_run([str(program), "-D", "N=2"]), PLAN, MPI)
    assert (here["options"], here["program"]) == (there["options"], there["program"])
    assert here["options"] != other["options"]
    elsewhere.write_text("exit:a")
    (changed,) = own_row(parse_run([str(elsewhere), "-D", "N=1"]), PLAN, MPI)
    assert changed["program"] != here["program"]


@pytest.mark.parametrize("blind", [[0], [1, 3], [0, 1, 2, 3]])
def test_a_rank_without_the_file_differs_from_nobody(program: Path, blind: list[int]) -> None:
    """Only rank 0 needs the program, and it says itself that it cannot read it."""
    rows = ranks(program)
    rows["program"][blind] = b""
    check_rows(rows)
    assert own_row(parse_run(["nowhere.dasm"]), PLAN, MPI)["program"][0] == b""


# --- verdicts -----------------------------------------------------------------------------------


def test_the_first_failure_is_told_and_decides_the_code() -> None:
    rows = np.concatenate(
        [
            verdict_row(None),
            verdict_row(LimitError("no room: 1 \N{MULTIPLICATION SIGN} 2 MiB")),
            verdict_row(FileError("another")),
        ]
    )
    told: list[str] = []
    assert first_failure(rows[:2], told.append) == ExitCode.LIMIT
    assert first_failure(rows, told.append) == ExitCode.LIMIT
    text = "dvm: error: no room: 1 \N{MULTIPLICATION SIGN} 2 MiB\n  at rank 1"
    assert told == [text, f"{text} (and 1 more rank)"]


def test_a_text_that_is_too_long_is_cut() -> None:
    told: list[str] = []
    first_failure(verdict_row(LimitError("x" * 10_000)), told.append)
    assert "xxx\n  at rank 0" in told[0]


def test_where_nothing_failed_nothing_is_told() -> None:
    told: list[str] = []
    assert first_failure(np.repeat(verdict_row(None), 3), told.append) == 0
    assert told == []


def test_other_packages_are_named(program: Path) -> None:
    rows = ranks(program)
    here = rows["software"][0].decode()
    assert here.endswith(", MPICH 5.0.2")
    rows["software"][2:] = here.replace("numpy", "numpy 1.0 (not").encode()
    (finding,) = differences(rows)
    told = str(finding.as_error())
    assert "rank 2 on beta, rank 3 on beta run numpy 1.0 (not" in told
    assert "MPICH" not in told
    with pytest.raises(LaunchError) as caught:
        check_rows(rows)
    assert str(caught.value) == told


def test_cores_travel_with_the_rows(program: Path) -> None:
    rows = ranks(program)
    rows["cores"], rows["cpu_count"] = b"0-1,4", 8
    cores = cores_of(rows)[3]
    assert (cores.rank, cores.host, cores.allowed, cores.cpu_count) == (3, "beta", "0-1,4", 8)
