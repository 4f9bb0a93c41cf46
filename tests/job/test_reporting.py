"""The files of `--report`: written while the run goes on, at its end, and with a page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from dvm_mpi import config
from dvm_mpi.errors import ExitCode, FileError
from dvm_mpi.io import report
from dvm_mpi.job.reporting import Reporting
from tests.io.test_report import REPORT

TURN_S = 0.001


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Run:
    """A report under way, and what was said of it."""

    def __init__(self, target: Path | None) -> None:
        self.clock = Clock()
        self.said: list[str] = []
        self.made = 0
        self.slowly_s = 0.0
        self.reporting = Reporting(target, self.said.append, self.clock)

    def make(self) -> report.RunReport:
        self.made += 1
        self.clock.now_s += self.slowly_s
        return replace(REPORT, exit_code=None, runners=self.made)

    def turns(self, duration_s: float) -> None:
        ends_s = self.clock.now_s + duration_s
        while self.clock.now_s < ends_s:
            self.reporting.each_turn(self.make)
            self.clock.now_s += TURN_S


def test_figures_are_kept_up_to_date_while_the_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    run = Run(path)
    run.turns(config.REPORT_INTERVAL_S - 0.2)
    assert not path.exists()
    run.turns(3 * config.REPORT_INTERVAL_S)
    run.turns(0.5)
    assert run.made == 3
    told = json.loads(path.read_text())
    assert (told["exit_code"], told["runners"]) == (None, 3)
    assert told["exit_meaning"] == report.UNFINISHED
    assert run.reporting.finish(REPORT) == ExitCode.OK
    assert json.loads(path.read_text())["exit_code"] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_a_version_is_made_piece_by_piece_and_put_in_place_whole(tmp_path: Path) -> None:
    """Whoever waits for rank 0 waits for a piece, not for the text of thousands of ranks."""
    path = tmp_path / "run.json"
    run = Run(path)
    run.turns(config.REPORT_INTERVAL_S)
    turn_count = 0
    while not path.exists():
        run.turns(TURN_S)
        turn_count += 1
        assert list(tmp_path.iterdir()) in ([], [path])
    assert turn_count > len(report.content_of(REPORT))
    assert path.read_text() == report.as_json(replace(REPORT, exit_code=None, runners=1))


def test_slow_writing_takes_little_of_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path / "run.json")
    run.slowly_s = 1.0
    run.turns(500)
    assert run.made * run.slowly_s <= 500 / config.REPORT_SPACING + 1


def test_without_the_option_nothing_is_made() -> None:
    run = Run(None)
    run.reporting.check()
    run.turns(100)
    assert run.made == 0
    assert run.reporting.finish(REPORT) == ExitCode.OK


def test_a_disk_that_fails_is_told_once_and_tried_again_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    run = Run(folder / "run.json")
    run.turns(100)
    assert run.made == 1
    assert len(run.said) == 1
    assert "cannot write it" in run.said[0]
    folder.mkdir()
    assert run.reporting.finish(REPORT) == ExitCode.OK
    assert (folder / "run.json").exists()


def test_a_report_that_cannot_be_written_at_the_end_is_an_error(tmp_path: Path) -> None:
    run = Run(tmp_path / "no" / "run.json")
    with pytest.raises(FileError, match="--report"):
        run.reporting.check()
    assert run.reporting.finish(REPORT) == ExitCode.FILE
    assert "cannot write it" in run.said[0]


def test_a_page_has_its_figures_beside_it(tmp_path: Path) -> None:
    run = Run(tmp_path / "run.html")
    run.reporting.check()
    assert run.said == []
    assert run.reporting.finish(REPORT) == ExitCode.OK
    assert {p.name for p in tmp_path.iterdir()} == {"run.json", "run.html"}
    page = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "kmeans.dasm" in page
    # What the report has as objects, the page draws.
    assert "Bytes of pages that workers fetched" in page
    assert "Instructions by source line" in page


def test_without_what_draws_it_the_figures_are_written_and_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "PAGE_PACKAGES", ("json", "no_such_package"))
    run = Run(tmp_path / "run.html")
    run.reporting.check()
    assert "no_such_package is not installed; pip install 'dvm-mpi[report]'" in run.said[0]
    assert f"report {tmp_path / 'run.json'} -o {tmp_path / 'run.html'}" in run.said[0]
    assert run.reporting.finish(REPORT) == ExitCode.OK
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_a_page_that_cannot_be_drawn_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(content: object, path: Path) -> None:
        raise RuntimeError("no fonts")

    monkeypatch.setattr("dvm_mpi.io.page.write_page", fail)
    run = Run(tmp_path / "run.html")
    assert run.reporting.finish(REPORT) == ExitCode.OK
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]
    assert "no page can be drawn here: RuntimeError: no fonts; make it of the" in run.said[0]
