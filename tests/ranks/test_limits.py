"""Limits that the owner of a machine sets: of one runner, and of a whole rank."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dvm_mpi.errors import ExitCode
from tests.ranks.launch import Ended

#: A runner for each of eight arrays of 32 pages, each of which touches one page after the other.
SCANS: str = """\
        .array  values, sq, 8, 16384
        .private start, at
        .text
main:   mov     $values, start
more:   .runner scan, args=(start), heap=[(start, $131072)]
        add     start, $131072, start
        br:l    start, $values + 1048576, more
        exit:c
scan:   .arguments start
        mov     start, at
        add     start, $131072, start
next:   mov     $1, (at)
        add     at, $4096, at
        br:l    at, start, next
        exit:c
"""

Run = Callable[..., Ended]


def told(dvm: Run, folder: Path, rank_count: int, size: str) -> tuple[int, list[str]]:
    """Return the exit code and the message of the trap, without what depends on who ran when."""
    (folder / "scans.dasm").write_text(SCANS)
    words = ("scans.dasm", "--runner-memory", size, "--memory", "64M", "--deterministic")
    ended = dvm(rank_count, *words)
    lines = ended.err.splitlines()
    first = next((i for i, line in enumerate(lines) if ": trap: " in line), len(lines))
    end = next((i for i, line in enumerate(lines) if "remedy: " in line), len(lines))
    return ended.code, lines[first : end + 1]


def test_a_runner_reaches_its_memory_s_end_alike_everywhere(dvm: Run, tmp_path: Path) -> None:
    """The last page of 32 is one too many; which pages a rank held already makes no difference."""
    code, alone = told(dvm, tmp_path, 0, "124K")
    assert code == ExitCode.TRAP
    assert alone[0].startswith("scans.dasm:12: trap: the runner touches more shared memory")
    assert "touched before: 31 pages, 126,976 bytes, which is the limit" in "\n".join(alone)
    assert told(dvm, tmp_path, 3, "124K") == (code, alone)


@pytest.mark.parametrize("rank_count", [0, 3])
def test_a_runner_within_its_memory_ends_well(dvm: Run, tmp_path: Path, rank_count: int) -> None:
    assert told(dvm, tmp_path, rank_count, "128K") == (ExitCode.OK, [])
