"""Profiles of several ranks: they are those of all ranks together, however the run ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from dvm_mpi.errors import ExitCode
from tests.programs import hot_counter
from tests.ranks.launch import Ended

Dvm = Callable[..., Ended]


#: One of eight runners traps, while others are in the midst of their loops.
TRAPS = """\
        .private i
        .private n
        .text
main:   .runner work, args=(i)
        add     i, $1, i
        br:l    i, $8, main
        exit:c
work:   .arguments i
        mov     $0, n
again:  add     n, $1, n
        br:l    n, $3000000, again
        br:ne   i, $3, done
        div     n, $0, n
done:   exit:c
"""
#: Stores to more pages than the homes have.
FILLS = """\
        .bss
        .align  4096
much:   .space  4096 * 100000
        .private at
        .text
main:   .runner fill, heap=[($much, $4096 * 100000)]
        exit:c
fill:   mov     $much, at
next:   mov     $1, (at)
        add     at, $4096, at
        br:l    at, $much + 4096 * 100000, next
        exit:c
"""


def profiled(dvm: Dvm, folder: Path, source: str, ranks: int, *options: str) -> tuple[Ended, int]:
    """Run with a profile; return how it ended and the sum of all lines less `instructions`."""
    program, report = folder / "p.dasm", folder / "run.json"
    program.write_text(source)
    words = ("--profile", "--report", str(report), "--memory", "32M", *options)
    ended = dvm(ranks, str(program), *words)
    told = json.loads(report.read_text())
    executed = sum(line["instructions"] for line in told["lines"])
    assert executed > 0, ended.err
    assert "profile: " in ended.err
    return ended, executed - told["instructions"]


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("engine", ["interp", "reference"])
def test_every_instruction_is_one_of_a_line(
    dvm: Dvm, tmp_path: Path, engine: str, ranks: int
) -> None:
    ended, under_way = profiled(dvm, tmp_path, hot_counter(40), ranks, "--engine", engine)
    assert (ended.code, under_way) == (0, 0), ended.err


def test_a_coordinator_without_a_worker_counts_nothing(dvm: Dvm, tmp_path: Path) -> None:
    ended, under_way = profiled(dvm, tmp_path, hot_counter(40), 9, "--engine", "reference")
    assert (ended.code, under_way) == (0, 0), ended.err


def test_a_trap_leaves_what_others_were_doing(dvm: Dvm, tmp_path: Path) -> None:
    ended, under_way = profiled(dvm, tmp_path, TRAPS, 3)
    assert ended.code == ExitCode.TRAP, ended.err
    assert under_way >= 0
    assert ("by runners under way at the end" in ended.err) == (under_way > 0)


def test_a_limit_on_one_rank_leaves_the_profile_of_all(dvm: Dvm, tmp_path: Path) -> None:
    ended, under_way = profiled(dvm, tmp_path, FILLS, 2)
    assert ended.code == ExitCode.LIMIT, ended.err
    assert under_way >= 0
