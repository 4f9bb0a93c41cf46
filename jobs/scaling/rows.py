"""From the reports of a study's runs to rows: one a run, checked, and as CSV."""

from __future__ import annotations

import csv
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median

from jobs.scaling.plan import Case, Mode


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """What one run did; the columns of the CSV file."""

    mode: Mode
    job: str
    ranks: int
    nodes: int
    repetition: int
    #: Seconds from the first dispatch to the last publish.
    work_s: float
    instructions: int
    runners: int
    #: Attempts that lost, whose instructions are counted too.
    retries: int
    bytes_fetched: int
    bytes_committed: int
    data_plane: str


class UnusableReportError(ValueError):
    """A report that says nothing of scaling; the text says why."""


class UnfinishedReportError(UnusableReportError):
    """A report whose run goes on, or was ended from outside."""


def read_row(path: Path) -> Row:
    """Return the row of one report.

    Raises
    ------
    UnusableReportError
        It is no report of a run of the study that came to its end on all its ranks.
    """
    case = Case.of_file_name(path.name)
    if case is None:
        raise UnusableReportError(f"{path}: no report of a study has such a name")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if report["exit_code"] is None:
            raise UnfinishedReportError(f"{path}: {report['exit_meaning']}")
        if report["exit_code"] != 0:
            raise UnusableReportError(f"{path}: the run failed: {report['exit_meaning']}")
        if report["ranks"] != case.ranks:
            raise UnusableReportError(
                f"{path}: {report['ranks']} ranks found each other instead of {case.ranks}; "
                "the launcher is not that of the MPI library"
            )
        own = {f.name: report[f.name] for f in fields(Row) if f.name in report}
        return Row(**(own | asdict(case)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UnusableReportError):
            raise
        raise UnusableReportError(f"{path}: it cannot be read: {error!r}") from error


def collect(folder: Path) -> tuple[list[Row], list[UnusableReportError]]:
    """Return the rows of all usable reports in a folder, sorted, and what is wrong with others."""
    rows: list[Row] = []
    faults: list[UnusableReportError] = []
    for path in sorted(folder.glob("*-ranks*.json")):
        try:
            rows.append(read_row(path))
        except UnusableReportError as error:
            faults.append(error)
    return sorted(rows), faults


def part_of(path: Path) -> Path:
    """Return a name beside a file's, with the same suffix, that no other process writes to."""
    return path.with_name(f".{platform.node()}-{os.getpid()}-{path.name}")


def write_csv(rows: Iterable[Row], path: Path) -> None:
    """Write the rows beside their place, then put them there: array elements write at a time."""
    part = part_of(path)
    with part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    part.replace(path)


@dataclass(frozen=True, slots=True)
class Point:
    """One size of a series: medians over its repetitions."""

    ranks: int
    seconds: float
    #: Instructions of all ranks together.
    work: float
    fastest_s: float
    slowest_s: float


def series(rows: Iterable[Row], mode: Mode, job: str) -> list[Point]:
    """Return the points of one job in one mode, by ranks."""
    chosen = [row for row in rows if row.mode == mode and row.job == job]
    points = []
    for ranks in sorted({row.ranks for row in chosen}):
        seconds = [row.work_s for row in chosen if row.ranks == ranks]
        work = [float(row.instructions) for row in chosen if row.ranks == ranks]
        points.append(Point(ranks, median(seconds), median(work), min(seconds), max(seconds)))
    return points
