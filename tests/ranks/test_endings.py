"""Some of the ways in which a run of ranks can end, once each; `make endings` plays all, often."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.ranks import endings
from tests.ranks.stage import Seen

SCENARIOS = (
    "small_shared_memory",
    "small_shared_memory_on_one_rank",
    "foreign_launcher",
    "bad_program",
    "input_missing_on_one_rank",
    "memory_that_runs_out",
    "trap",
    "defect_on_one_rank",
    "full_output_disk",
    "reader_gone",
    "killed_worker",
    "killed_launcher",
    "lost_before_the_program",
    "lost_after_the_end",
    "sigterm_of_launcher",
    "ctrl_c",
    "sigusr2_of_one_rank",
)


@pytest.mark.parametrize("name", SCENARIOS)
def test_ending(tmp_path: Path, name: str) -> None:
    try:
        endings.SCENARIOS[name](tmp_path)
    except endings.Skipped as reason:
        pytest.skip(str(reason))


def test_table_tells_what_the_rounds_have_shown() -> None:
    line = endings.Line(rounds=20, seconds_max=1.25, codes={5, 0}, left={"b", "a"}, message="why")
    head, row = endings.table({"trap": line}).splitlines()
    assert head.split() == [
        "scenario",
        "rounds",
        "missed",
        "worst",
        "s",
        "codes",
        "left",
        "message",
    ]
    assert row.split() == ["trap", "20", "0", "1.2", "0,", "5", "2", "files", "why"]


def test_round_that_misses_is_told_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def miss(folder: Path) -> Seen:
        raise AssertionError(f"no message; {folder.is_dir()}")

    monkeypatch.setitem(endings.SCENARIOS, "miss", miss)
    line = endings.Line()
    endings.play("miss", line, is_shown=False)
    assert (line.rounds, line.missed) == (1, 1)
    assert (
        "--- miss, round 1: MISSED\nAssertionError: no message; True\n" in capsys.readouterr().out
    )
