"""Hot bytes on several ranks: rank 0 says on which line attempts lost, and over what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.ranks.launch import Ended

COUNTER = """\
        .array  total, sq, 1
        .private i
        .text
main:   .runner count, heap=[($total, $8)]
        add     i, $1, i
        br:l    i, $80, main
        exit:c
count:  add     total, $1, total
        exit:c
"""


def test_a_hot_counter_is_named(dvm: Callable[..., Ended], tmp_path: Path) -> None:
    program = tmp_path / "p.dasm"
    program.write_text(COUNTER)
    ended = dvm(3, str(program), "--memory", "32M", "--report", str(tmp_path / "run.json"))
    assert ended.code == 0, ended.err
    told = json.loads((tmp_path / "run.json").read_text())
    (row,) = told["contention"]
    assert (row["line"], row["entry"], row["name"]) == (f"{program}:9", "count", "total")
    assert row["losses"] == told["retries"] > 100
    assert f"{program}:9 (in count): {row['losses']:,} attempts lost" in ended.err
