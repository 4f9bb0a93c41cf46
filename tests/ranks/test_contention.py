"""Hot bytes on several ranks: rank 0 says on which line attempts lost, and over what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from dvm_mpi import config
from tests.programs import ENDS_LINE, hot_counter
from tests.ranks.launch import Ended


def test_a_hot_counter_is_named(dvm: Callable[..., Ended], tmp_path: Path) -> None:
    program = tmp_path / "p.dasm"
    program.write_text(hot_counter(80))
    ended = dvm(3, str(program), "--memory", "32M", "--report", str(tmp_path / "run.json"))
    assert ended.code == 0, ended.err
    told = json.loads((tmp_path / "run.json").read_text())
    (row,) = told["contention"]
    place = f"{program}:{ENDS_LINE}"
    assert (row["line"], row["entry"], row["name"]) == (place, "count", "total")
    # Whoever runs when: of a batch that began on one snapshot all but one lose, 455 times here.
    assert row["losses"] == told["retries"] >= config.CONTENTION_LOSSES_TOLD
    assert f"{place} (in count): {row['losses']:,} attempts lost" in ended.err
