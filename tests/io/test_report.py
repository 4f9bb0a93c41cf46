from __future__ import annotations

import json
import resource
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dvm_mpi.errors import ExitCode, FileError
from dvm_mpi.io.report import (
    ContendedLine,
    ProfiledLine,
    RunReport,
    as_json,
    check_report,
    scaled,
    summary,
    versions,
    write_report,
)
from dvm_mpi.io.traffic import Moved, Traffic

MOVED = Moved(
    payload_fetched=8192, payload_stored=24, control=300, messages=9, buffers=7, operations=2
)
PAIR = ((0, 40), (2, 0))
TRAFFIC = Traffic(
    hosts=("node0", "node1"),
    ranks=(1, 1),
    payload_fetched=PAIR,
    payload_stored=PAIR,
    control=PAIR,
    messages=PAIR,
    operations=PAIR,
    kept_fetched=(5, 6),
    kept_stored=(7, 8),
    between_ranks=MOVED,
    between_hosts=MOVED,
)

REPORT = RunReport(
    program="jobs/kmeans/kmeans.dasm",
    command=("dvm_mpi", "jobs/kmeans/kmeans.dasm"),
    exit_code=0,
    started_at="2012-03-03T09:00:00+00:00",
    engine="interp",
    workers=3,
    homes=4,
    seed=None,
    deterministic=False,
    isolation="snapshot",
    conflict_unit="byte",
    startup_s=0.4,
    load_s=0.25,
    compile_s=0.01,
    work_s=2.0,
    output_s=0.125,
    runners=1153,
    commits=1100,
    aborts=53,
    traps=0,
    retries=12,
    contention=(ContendedLine("k.dasm:7", "add+0x8", "add", 12, 3, 4096, "sums"),),
    watcher_firings=18,
    watchers_left=0,
    epochs=20,
    instructions=1_234_567_890,
    lines=(ProfiledLine("k.dasm:9", "add", "add a, b, a", 900, 0.9),),
    bytes_fetched=12_345_678,
    bytes_committed=999,
    console_bytes=40,
    peak_memory_bytes=210_000_000,
    traffic=TRAFFIC,
)


def test_the_file_has_every_figure_at_the_top(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("an older report")
    write_report(REPORT, path)
    content = json.loads(path.read_text())
    figures = json.loads(json.dumps(asdict(REPORT)))
    assert figures.items() <= content.items()
    assert content["contention"][0]["line"] == "k.dasm:7"
    assert content["versions"].keys() == {"dvm", "python", "numpy", "numba", "llvmlite", "h5py"}
    assert content["host"]["processors"] >= 1
    assert content["exit_meaning"].startswith("the program ended")
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_a_missing_package_is_no_reason_to_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvm_mpi.io.report._PACKAGES", ("numpy", "no-such-package"))
    assert versions()["no-such-package"] == "not installed"


def test_figures_that_json_does_not_know_are_our_fault() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json(replace(REPORT, work_s=float("nan")))


def test_a_report_that_cannot_be_written_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"--report .*r\.json: cannot write it: No such file"):
        write_report(REPORT, tmp_path / "no" / "r.json")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "file").touch()
    for place in ("circle", "file/r.json", "r" * 300):
        with pytest.raises(FileError, match="--report"):
            write_report(REPORT, tmp_path / place)


def test_a_full_disk_leaves_the_old_report(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_report(REPORT, path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(FileError, match="File too large"):
            write_report(replace(REPORT, runners=7), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


def test_the_summary_as_people_see_it() -> None:
    assert summary(REPORT).splitlines() == [
        "kmeans.dasm: the program ended; its outputs are written",
        "  time     2.000 s of work; start 0.400 s, load 0.250 s, output 0.125 s",
        "  runners  1,153: 1,100 committed, 53 aborted, 12 retried; 18 watcher firings",
        "  engine   interp: 1.23 G instructions, 617 M/s; 3 workers, 4 homes",
        "  memory   12.3 MB fetched, 999 B committed in 20 epochs; peak 210 MB resident",
    ]


def test_a_wait_for_compiled_code_is_told_beside_the_work() -> None:
    told = summary(replace(REPORT, compile_s=48.0)).splitlines()[1]
    assert told.endswith("load 0.250 s, waiting for compiled code 48.000 s, output 0.125 s")


def test_the_summary_of_a_run_that_was_ended_before_it_worked() -> None:
    report = replace(REPORT, work_s=0.0, exit_code=ExitCode.INTERRUPTED, watchers_left=2)
    text = summary(report)
    assert "Ctrl-C" in text
    assert "/s;" not in text
    assert text.endswith("\n  watchers 2 still armed at the end")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (999.6, "1.00 k"),
        (1000, "1.00 k"),
        (12_345, "12.3 k"),
        (999_499, "999 k"),
        (999_600, "1.00 M"),
        (3e15, "3.00 P"),
        (3e19, "30000 P"),
    ],
)
def test_three_digits_and_a_prefix(value: float, text: str) -> None:
    assert scaled(value) == text


def test_units_follow_their_prefix() -> None:
    assert (scaled(5, "B"), scaled(5000, "B")) == ("5 B", "5.00 kB")


def test_one_of_a_kind_is_not_plural() -> None:
    text = summary(replace(REPORT, workers=1, homes=1, epochs=1, watcher_firings=1))
    assert "1 worker, 1 home\n" in text
    assert "in 1 epoch;" in text
    assert "1 watcher firing\n" in text


def test_the_check_before_the_run_leaves_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    check_report(path)
    assert not list(tmp_path.iterdir())
    path.write_text("old", encoding="utf-8")
    check_report(path)
    assert [(p.name, p.read_text(encoding="utf-8")) for p in tmp_path.iterdir()] == [
        ("r.json", "old")
    ]
    for place in (tmp_path, tmp_path / "no" / "r.json"):
        with pytest.raises(FileError, match="cannot write it"):
            check_report(place)


def test_one_is_singular() -> None:
    told = summary(replace(REPORT, instructions=1, workers=1, homes=1))
    assert "interp: 1 instruction, " in told
    assert "; 1 worker, 1 home\n" in told
