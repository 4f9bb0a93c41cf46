"""The scaling study: what is run, what is taken from reports, and what the fits find in it."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from jobs.scaling.__main__ import main
from jobs.scaling.fit import fit, speed_ups
from jobs.scaling.plan import Case, Mode, cases, powers_of_two
from jobs.scaling.plot import draw, fits
from jobs.scaling.rows import Row, collect, series, write_csv

SIZES = (1, 2, 4, 8, 16, 32)
FIRST_S = 20.0
#: Instructions of one rank's problem.
WORK = 10**9


def amdahl_s(serial: float, overhead: float = 0.0) -> Callable[[int], float]:
    doublings = {ranks: doubling for doubling, ranks in enumerate(SIZES)}
    return lambda p: FIRST_S * (serial + (1 - serial) / p + overhead * doublings[p])


def rows_of(
    mode: Mode, job: str, seconds: Callable[[int], float], work: Callable[[int], float]
) -> list[Row]:
    """Three repetitions of each size; only the middle one is as long as it should be."""
    return [
        Row(mode, job, p, 1, number, seconds(p) * factor, round(work(p)), 1, 0, 0, 0, "rma")
        for number, factor in enumerate((0.97, 1.0, 1.6), 1)
        for p in SIZES
    ]


def strong(job: str, serial: float, overhead: float = 0.0) -> list[Row]:
    return rows_of("strong", job, amdahl_s(serial, overhead), lambda p: 8 * WORK)


def weak(job: str, serial: float) -> list[Row]:
    """The problem did not grow by exactly the ranks; what is done in a time is as the law says."""
    grown: Callable[[int], float] = lambda p: WORK * p**0.9  # noqa: E731
    return rows_of("weak", job, lambda p: FIRST_S * p**0.9 / (p - serial * (p - 1)), grown)


# --- fits ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("serial", [0.0, 0.02, 0.3, 1.0])
def test_the_serial_part_of_each_series_is_found(serial: float) -> None:
    rows = strong("kmeans", serial) + weak("primes", serial)
    found = fits(rows)
    assert found.keys() == {("strong", "kmeans"), ("weak", "primes")}
    for law in found.values():
        assert law.serial == pytest.approx(serial, abs=1e-6)
        assert law.overhead == 0


def test_strong_and_weak_runs_of_one_job_are_kept_apart() -> None:
    rows = strong("kmeans", 0.05) + weak("kmeans", 0.4)
    found = fits(rows)
    assert found["strong", "kmeans"].serial == pytest.approx(0.05, abs=1e-6)
    assert found["weak", "kmeans"].serial == pytest.approx(0.4, abs=1e-6)


def test_an_overhead_that_grows_is_told_from_a_serial_part() -> None:
    law = fits(strong("kmeans", 0.1, overhead=0.02))["strong", "kmeans"]
    assert (law.serial, law.overhead) == pytest.approx((0.1, 0.02), abs=1e-6)
    assert str(law) == "serial 10.0%, overhead 2.0% a doubling"


def test_few_sizes_do_not_justify_an_overhead() -> None:
    points = series(strong("kmeans", 0.1, overhead=0.02), "strong", "kmeans")[:4]
    law = fit("strong", points)
    assert law.overhead == 0
    assert law.serial > 0.1


def test_what_is_measured_is_the_median_and_drawn_with_its_law() -> None:
    points = series(strong("kmeans", 0.2), "strong", "kmeans")
    assert points[0].seconds == FIRST_S
    assert (points[0].fastest_s, points[0].slowest_s) == pytest.approx((0.97 * 20, 1.6 * 20))
    law = fit("strong", points)
    ranks = [float(p.ranks) for p in points]
    assert law.speed_up(np.array(ranks)) == pytest.approx(speed_ups("strong", points))


def test_a_series_without_one_rank_has_no_law() -> None:
    rows = [row for row in strong("kmeans", 0.1) if row.ranks > 1]
    assert fits(rows) == {}


# --- the plan -----------------------------------------------------------------------------------
def test_sizes_up_to_what_there_is() -> None:
    assert [powers_of_two(n) for n in (1, 4, 6)] == [[1], [1, 2, 4], [1, 2, 4, 6]]


def test_repetitions_are_interleaved_and_nodes_counted() -> None:
    planned = list(cases([1, 3], 2, 2, ["primes"]))
    assert [(c.repetition, c.mode, c.ranks, c.nodes) for c in planned] == [
        (r, mode, ranks, nodes)
        for r in (1, 2)
        for mode in ("strong", "weak")
        for ranks, nodes in ((1, 1), (3, 2))
    ]
    assert [Case.of_file_name(c.file_name) for c in planned] == planned
    assert Case.of_file_name("report.json") is None


def test_weak_problems_grow_with_the_ranks_and_strong_ones_do_not() -> None:
    for job, name in (("kmeans", "N"), ("primes", "LIMIT")):
        sizes = {
            mode: [Case(mode, job, p, 1, 1).defines(1.0, 64) for p in (1, 8, 64)]
            for mode in ("strong", "weak")
        }
        assert sizes["strong"][0] == sizes["strong"][1] == sizes["strong"][2]
        power = 1 if job == "kmeans" else 2 / 3
        grown = [problem[name] / sizes["weak"][0][name] for problem in sizes["weak"]]
        assert grown == pytest.approx([1, 8**power, 64**power], rel=1e-5)


# --- runs and reports ---------------------------------------------------------------------------
#: Plays launcher and DVM: writes the report that it is asked for, and a line of the log of calls.
FAKE = """\
import json, os, signal, sys
ranks, words = int(sys.argv[1]), sys.argv[2:]
job = next(w for w in words if w.endswith(".dasm")).rpartition("/")[2]
with open("calls.txt", "a") as file:
    file.write(f"{job} {ranks}\\n")
if "--report" in words:
    fault = os.environ.get("FAULT", "") if ranks == 2 else ""
    report = {
        "exit_code": 5 if fault == "trap" else 0, "exit_meaning": "a runner trapped",
        "ranks": 1 if fault == "worlds" else ranks, "work_s": 8.0 / ranks, "instructions": 8000,
        "runners": 9, "retries": 0, "bytes_fetched": 1, "bytes_committed": 2, "data_plane": "rma",
    }
    if fault == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pause()
    if fault == "asked":
        os.kill(os.getppid(), signal.SIGUSR1)
        signal.pause()
    if fault != "silent":
        with open(words[words.index("--report") + 1], "w") as file:
            json.dump(report, file)
    if fault == "trap":
        sys.exit("p.dasm:1: trap: division by zero")
"""


@pytest.fixture
def study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[int, list[str], Path]]]:
    """Return what runs a study of primes with a launcher that is played, and tells its calls."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fake.py").write_text(FAKE)
    launcher = f"{shlex.quote(sys.executable)} fake.py {{ranks}}"

    def run(*words: str, fault: str = "") -> tuple[int, list[str], Path]:
        monkeypatch.setenv("FAULT", fault)
        calls = tmp_path / "calls.txt"
        calls.unlink(missing_ok=True)
        common = ["--folder", "study", "--launcher", launcher, "--jobs", "primes"]
        code = main(["run", *common, *words])
        return code, calls.read_text().splitlines() if calls.exists() else [], tmp_path / "study"

    # The study takes signals; afterwards they are this process's own again.
    own = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGTERM)}
    yield run
    for number, handler in own.items():
        signal.signal(number, handler)


Study = Callable[..., tuple[int, list[str], Path]]


def test_a_study_runs_what_is_missing_and_draws_all(study: Study) -> None:
    words = ("--ranks", "1", "2", "4", "--repetitions", "2", "--modes", "strong")
    code, calls, folder = study(*words)
    assert code == 0
    assert calls == ["hello.dasm 4", *(2 * [f"primes.dasm {n}" for n in (1, 2, 4)])]
    (folder / "strong-primes-ranks2-nodes1-1.json").unlink()
    code, calls, _ = study(*words)
    assert (code, calls) == (0, ["hello.dasm 2", "primes.dasm 2"])
    code, calls, _ = study(*words)
    assert (code, calls) == (0, [])
    with (folder / "scaling.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(r["mode"], r["job"], r["ranks"], r["repetition"], r["work_s"]) for r in table] == [
        ("strong", "primes", str(n), str(k), str(8.0 / n)) for n in (1, 2, 4) for k in (1, 2)
    ]
    text = ElementTree.parse(folder / "scaling.svg").getroot().itertext()
    assert "primes: serial 0.0%" in " ".join(text)
    assert (folder / "scaling.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("trap", "the run failed: a runner trapped"),
        ("worlds", "1 ranks found each other instead of 2; the launcher is not that of the MPI"),
        ("silent", "No such file or directory"),
        ("asked", "status -10"),
    ],
)
def test_failures_are_told_and_left_out_and_tried_again(
    study: Study, capsys: pytest.CaptureFixture[str], fault: str, told: str
) -> None:
    words = ("--ranks", "1", "2", "4", "--repetitions", "1", "--modes", "weak")
    code, calls, folder = study(*words, fault=fault)
    assert (code, len(calls)) == (1, 3 if fault == "asked" else 4)
    said = capsys.readouterr().err
    assert "weak-primes-ranks2-nodes1-1.json: FAILED: status " in said
    assert told in said
    assert (fault == "trap") == ("p.dasm:1: trap: division by zero" in said)
    rows, _ = collect(folder)
    if fault == "asked":
        assert "asked to end: the same command goes on from here" in said
        assert [row.ranks for row in rows] == [1]
        return
    assert [row.ranks for row in rows] == [1, 4]
    code, calls, _ = study(*words)
    assert (code, calls) == (0, ["hello.dasm 2", "primes.dasm 2"])


def test_a_launcher_that_does_not_end_is_not_waited_for(
    study: Study, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.scaling.__main__.GRACE_S", 0.1)
    words = ("--ranks", "1", "2", "--repetitions", "1", "--modes", "weak", "--timeout", "2")
    assert study(*words, fault="deaf")[0] == 1
    assert "weak-primes-ranks2-nodes1-1.json: FAILED: not ended after 2" in capsys.readouterr().err


def test_an_element_of_an_array_runs_its_size_only(study: Study) -> None:
    words = ("--ranks-max", "4", "--repetitions", "1", "--modes", "strong", "--only")
    for number, ranks in enumerate((1, 2, 4)):
        code, calls, _ = study(*words, str(number))
        assert (code, calls) == (0, [f"hello.dasm {ranks}", f"primes.dasm {ranks}"])
    code, calls, folder = study(*words, "3")
    assert (code, calls) == (0, [])
    assert [row.ranks for row in collect(folder)[0]] == [1, 2, 4]


def test_an_element_is_no_failure_while_others_are_under_way(
    study: Study, capsys: pytest.CaptureFixture[str]
) -> None:
    """DVM keeps the report of a run up to date from its first seconds on."""
    words = ("--ranks-max", "4", "--repetitions", "1", "--modes", "strong")
    _, _, folder = study(*words, "--only", "0")
    goes_on = {"exit_code": None, "exit_meaning": "the run goes on", "ranks": 4}
    other = folder / "strong-primes-ranks4-nodes1-1.json"
    other.write_text(json.dumps(goes_on))
    assert study(*words, "--only", "1")[0] == 0
    assert "left out" not in capsys.readouterr().err
    assert main(["collect", "--folder", str(folder)]) == 1
    assert f"left out: {folder / other.name}: the run goes on" in capsys.readouterr().err
    assert not list(folder.glob(".*"))


def test_elements_that_write_at_a_time_do_not_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, path = strong("kmeans", 0.1), tmp_path / "scaling.csv"
    header = csv.DictWriter.writeheader

    def meanwhile(writer: csv.DictWriter[str]) -> object:
        monkeypatch.setattr(csv.DictWriter, "writeheader", header)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        write_csv(rows, path)
        return writer.writeheader()

    monkeypatch.setattr(csv.DictWriter, "writeheader", meanwhile)
    write_csv(rows, path)
    with path.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)


def test_reports_that_say_nothing_are_named(tmp_path: Path) -> None:
    good = {
        "exit_code": 0, "ranks": 1, "work_s": 1.0, "instructions": 5, "runners": 1, "retries": 0,
        "bytes_fetched": 0, "bytes_committed": 0, "data_plane": "none",
    }  # fmt: skip
    (tmp_path / "weak-primes-ranks1-nodes1-1.json").write_text(json.dumps(good))
    (tmp_path / "weak-primes-ranks1-nodes1-2.json").write_text("{")
    (tmp_path / "weak-primes-ranks1-nodes1-x.json").write_text(json.dumps(good))
    rows, faults = collect(tmp_path)
    assert [(row.ranks, row.repetition) for row in rows] == [(1, 1)]
    assert len(faults) == 2
    assert "it cannot be read" in str(faults[0])
    assert "no report of a study has such a name" in str(faults[1])


def test_a_plot_of_both_modes_has_every_series(tmp_path: Path) -> None:
    rows = [*strong("kmeans", 0.1), *strong("primes", 0.0), *weak("kmeans", 0.2)]
    draw(rows, [tmp_path / "p.svg"], "on four nodes", processors=8)
    text = " ".join(ElementTree.parse(tmp_path / "p.svg").getroot().itertext())
    for told in ("kmeans: serial 10.0%", "primes: serial 0.0%", "kmeans: serial 20.0%",
                 "on four nodes", "ranks share processors", "ideal"):  # fmt: skip
        assert told in text
