"""Hot bytes: a run that is busy with losing says over what, and on which line."""

from __future__ import annotations

import json

from dvm_mpi.errors import ExitCode
from tests.cli.conftest import Command

#: So many runners add to one counter, or each to a cell of its own (STEP 8).
COUNTER = """\
        .array  total, sq, 200
        .private i, cell
        .text
main:   mul     i, $STEP, cell
        add     cell, $total, cell
        .runner count, args=(cell), heap=[(cell, $8)]
        add     i, $1, i
        br:l    i, $200, main
        exit:c
count:  .arguments cell
        add     (cell), $1, (cell)
        exit:c
"""


def test_a_hot_counter_is_named(dvm: Command) -> None:
    options = ("--workers", "4", "--report", "run.json", "-D", "STEP=0")
    ended = dvm.run(COUNTER, *options)
    assert ended.code == ExitCode.OK, ended.err
    told = json.loads((dvm.folder / "run.json").read_text())
    (row,) = told["contention"]
    assert (row["line"], row["entry"], row["name"]) == ("p.dasm:12", "count", "total")
    assert row["losses"] == told["retries"] > 200
    assert 1 < row["most"] <= row["losses"]
    assert ended.messages[-3:] == [
        f"dvm: {row['losses']:,} of {row['losses'] + 201:,} attempts lost to commits of others:",
        f"  p.dasm:12 (in count): {row['losses']:,} attempts lost and ran again, one runner "
        f"{row['most']} times; others had stored to total ({row['address']:#x})",
        "  remedy: let each runner store to bytes of its own, and join them afterwards",
    ]
    assert "attempts lost" not in dvm.run(COUNTER, *options, "--quiet").err


def test_a_run_without_conflicts_has_nothing_to_tell(dvm: Command) -> None:
    ended = dvm.run(COUNTER, "--workers", "4", "--report", "run.json", "-D", "STEP=8")
    assert ended.code == ExitCode.OK, ended.err
    assert "attempts lost" not in ended.err
    assert json.loads((dvm.folder / "run.json").read_text())["contention"] == []
