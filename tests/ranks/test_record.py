"""Runs on several ranks that are recorded: rank 0 writes, and the whole is found good."""

from __future__ import annotations

import re
from pathlib import Path

import h5py
import numpy as np

from dvm_mpi.errors import ExitCode
from tests.cli.test_record import COUNTER, TRAPS
from tests.ranks.launch import Ended, run_ranks

#: Write sets that are staged at the homes: 68 KiB each, and all of them store to one cell.
LARGE = """\
        .default BYTES, 69632
        .array  shared, sq, 1
        .array  parts, sq, 2, BYTES / 8
        .private i, base, at
        .text
main:   mov     $parts, base
more:   .runner child, args=(i, base), heap=[(base, $BYTES), shared]
        add     base, $BYTES, base
        add     i, $1, i
        br:l    i, $2, more
        exit:c
child:  .arguments i, base
        add     base, $BYTES, at
fill:   sub     at, $8, at
        add     i, at, (at)
        br:g    at, base, fill
        add     shared, $1, shared
        exit:c
"""


def replayed(folder: Path, *words: str) -> Ended:
    """Replay without a launcher: a record is read by one process."""
    return run_ranks(0, "replay", "r.h5", *words, folder=folder)


def test_racing_runners_on_four_ranks(tmp_path: Path) -> None:
    (tmp_path / "p.dasm").write_text(COUNTER.replace("$6", "$40"))
    ended = run_ranks(4, "p.dasm", "--record", "r.h5", "--quiet", folder=tmp_path)
    assert (ended.code, ended.err) == (ExitCode.OK, "")
    verdict = replayed(tmp_path)
    assert (verdict.code, verdict.err) == (ExitCode.OK, "")
    assert "4 ranks" in verdict.out
    assert verdict.out.splitlines()[-1].startswith("good: ")
    assert "not checked" not in verdict.out
    assert replayed(tmp_path, "--array", "counter").out == "[40]\n"


def test_staged_write_sets_are_in_the_record(tmp_path: Path) -> None:
    (tmp_path / "p.dasm").write_text(LARGE)
    arguments = ("p.dasm", "--record", "r.h5", "--dump", ".", "--quiet")
    assert run_ranks(3, *arguments, folder=tmp_path).code == ExitCode.OK
    verdict = replayed(tmp_path)
    assert (verdict.code, verdict.err) == (ExitCode.OK, "")
    assert replayed(tmp_path, "--array", "parts", "-o", "again.npy").code == ExitCode.OK
    dumped, again = np.load(tmp_path / "parts.npy"), np.load(tmp_path / "again.npy")
    assert dumped.any()
    assert np.array_equal(dumped, again)


def test_a_record_that_was_changed_is_found_out(tmp_path: Path) -> None:
    """Whatever value of a load or store is changed, some attempt does something else."""
    (tmp_path / "p.dasm").write_text(LARGE)
    run_ranks(2, "p.dasm", "-D", "BYTES=64", "--record", "r.h5", "--quiet", folder=tmp_path)
    assert replayed(tmp_path).code == ExitCode.OK
    with h5py.File(tmp_path / "r.h5", "r+") as file:
        content = file["bytes"][()].tobytes()
        # What a part's second cell got: its own address, and the number of its runner.
        value = (0x4_4000_1000 + 8).to_bytes(8, "little")
        assert value in content
        file["bytes"][...] = np.frombuffer(
            content.replace(value, (0x4_4000_1000 + 9).to_bytes(8, "little")), np.uint8
        )
    verdict = replayed(tmp_path)
    assert verdict.code == ExitCode.UNSOUND
    assert "BAD: this run is not what its program" in verdict.out


def test_a_trap_on_ranks(tmp_path: Path) -> None:
    (tmp_path / "p.dasm").write_text(TRAPS)
    ended = run_ranks(
        2, "p.dasm", "--record", "r.h5", "--dump", ".", "--trace-runner", "main", "--quiet",
        folder=tmp_path,
    )  # fmt: skip
    assert ended.code == ExitCode.TRAP
    assert "it did what was recorded" in ended.err
    found = re.search(r"step by step: python -m dvm_mpi replay (r\.h5 --attempt \d+)", ended.err)
    assert found is not None
    assert np.load(tmp_path / "cells.npy").tolist() == [7, 0]
    shown = replayed(tmp_path, *found[1].split()[1:])
    assert shown.code == ExitCode.OK
    assert "trap: division by zero" in shown.out
    assert replayed(tmp_path).code == ExitCode.OK


def test_a_record_that_cannot_be_written_is_refused_once(tmp_path: Path) -> None:
    (tmp_path / "p.dasm").write_text(TRAPS)
    ended = run_ranks(2, "p.dasm", "--record", "no/r.h5", "--quiet", folder=tmp_path)
    assert ended.code == ExitCode.FILE
    assert ended.err.count("there is no folder 'no'") == 1
