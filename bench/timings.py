"""Times of several ways to do the same work, and how they compare: medians, quartiles, ratios.

One sample is what one process took. Samples of all ways are taken in turn. Wide quartiles say that
the machine was busy; what is compared then is worth little, and is told so.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from bench.run import note
from dvm_mpi.io.report import host, versions
from dvm_mpi.job.parts import revision

#: Quartiles that are further apart, as a part of the median, say that the machine was busy.
QUARTILES_APART_MAX: Final = 0.15


@dataclass(slots=True)
class Timings:
    """Seconds that one way takes: by process the median of its repetitions, and the shortest."""

    name: str
    samples: list[float] = field(default_factory=list)
    shortest: list[float] = field(default_factory=list)

    def add(self, seconds: Sequence[float]) -> None:
        """Take the repetitions of one process; the first pays for what is cold, if others follow.

        An empty sequence is a benchmark's own mistake.
        """
        assert seconds, f"{self.name}: a process that timed nothing"
        warm = seconds[1:] or seconds
        self.samples.append(statistics.median(warm))
        self.shortest.append(min(warm))

    @property
    def median(self) -> float:
        """Of the processes."""
        return statistics.median(self.samples)

    @property
    def best(self) -> float:
        """The repetition that others on the machine disturbed least."""
        return min(self.shortest)

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third, within what was seen; of one sample twice that."""
        if len(self.samples) == 1:
            return self.samples[0], self.samples[0]
        first, _, third = statistics.quantiles(self.samples, n=4, method="inclusive")
        return first, third

    @property
    def apart(self) -> float:
        """How far the quartiles are apart, as a part of the median."""
        first, third = self.quartiles
        return (third - first) / self.median

    def as_json(self) -> dict[str, Any]:
        """Return everything, in seconds."""
        return {
            "median_s": self.median, "quartiles_s": self.quartiles, "best_s": self.best,
            "samples_s": self.samples,
        }  # fmt: skip


def fastest(ways: Iterable[Timings]) -> Timings:
    """Return the way with the least median; of equal ones the first."""
    return min(ways, key=lambda way: way.median)


def ratio(way: Timings, base: Timings) -> tuple[float, float]:
    """Return how many times as long `way` takes: by medians, and by the quickest repetitions."""
    return way.median / base.median, way.best / base.best


def warnings(groups: Iterable[tuple[str, Sequence[Timings]]], load: float, wants: int) -> list[str]:
    """Return what speaks against the figures of named groups of ways.

    `load` is the load average before the first of them, `wants` the processors that they use.
    """
    found = []
    processors = os.cpu_count() or 1
    if load > processors - wants + 0.5:
        found.append(
            f"the load average was {load:.1f} on {processors} processors before: "
            "others were at work"
        )
    found += [
        f"{group}: {way.name}: the quartiles are {way.apart:.0%} of the median apart"
        for group, ways in groups
        for way in ways
        if way.apart > QUARTILES_APART_MAX
    ]
    return found


def seconds_text(seconds: float) -> str:
    """Return three digits that matter, in s, ms or us."""
    for unit, scale in (("s", 1.0), ("ms", 1e3)):
        if seconds * scale >= 1:
            return f"{seconds * scale:.3g} {unit}"
    return f"{seconds * 1e6:.3g} us"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the first row is its head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def conclude(path: Path, load_before: Sequence[float], content: dict[str, Any], table: str) -> None:
    """Write results, and print them as a table; `content` has the `warnings` of both."""
    write_results(path, load_before, content)
    note("")
    print(table)
    print(f"load average before {load_before[0]:.1f}, after {os.getloadavg()[0]:.1f}")
    for remark in content["warnings"]:
        print(f"warning: {remark}")
    print(f"all samples: {path}")


def write_results(path: Path, load_before: Sequence[float], content: dict[str, Any]) -> None:
    """Write results with all that a later reader must know of the machine, as JSON."""
    around = {
        "finished_at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv,
        "revision": revision().strip(" ()"),
        "host": host(),
        "versions": versions(),
        "load_before": list(load_before),
        "load_after": list(os.getloadavg()),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(around | content, indent=2) + "\n")
