"""What a benchmark is: a named figure that is sampled some times, and what is told about it.

Samples of all measures are taken in turn, round after round, so that a busy moment of the machine
falls on all of them and not on one. The median is the result; the spread says how far to trust it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

#: A spread above this says that the machine was not quiet.
SPREAD_MAX = 0.2


@dataclass(slots=True)
class Measure:
    """One figure.

    `sample` returns one value in `unit`; `rounds_max` bounds how often it is asked, for what takes
    long; `aim` tells what is wanted, in words, or nothing.
    """

    name: str
    unit: str
    sample: Callable[[], float]
    aim: str = ""
    rounds_max: int = 1_000
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The result; with an even number of samples the mean of the middle two."""
        return statistics.median(self.samples)

    @property
    def best(self) -> float:
        """The sample that others on the machine disturbed least: of a rate the highest."""
        return max(self.samples) if self.unit.endswith("/s") else min(self.samples)

    @property
    def spread(self) -> float:
        """Largest less smallest sample, as a part of the median."""
        return (max(self.samples) - min(self.samples)) / self.median if self.median else 0.0


def take_rounds(measures: Sequence[Measure], rounds: int, note: Callable[[str], None]) -> None:
    """Sample every measure once a round, in turn; `note` learns what is being done."""
    for number in range(1, rounds + 1):
        for measure in measures:
            if number <= measure.rounds_max:
                note(f"round {number} of {rounds}: {measure.name}")
                measure.samples.append(measure.sample())


def table(measures: Sequence[Measure]) -> str:
    """Return the results as a Markdown table."""
    rows = [("measure", "median", "best", "unit", "spread", "aim")]
    rows += [
        (m.name, _figure(m.median), _figure(m.best), m.unit,
         f"{m.spread:.0%}" if len(m.samples) > 1 else "one sample", m.aim)
        for m in measures
    ]  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _figure(value: float) -> str:
    """Return three digits that matter, and thousands apart."""
    if value >= 100:  # noqa: PLR2004 - three digits before the point
        digits = len(str(int(value)))
        return f"{round(value, 3 - digits):,.0f}"
    return f"{value:.3g}"


def doubts(measures: Sequence[Measure], load: float, processors: int) -> list[str]:
    """Return what speaks against the figures: other load, spreads that are wide."""
    found = []
    if load > processors / 2:
        found.append(
            f"the load average was {load:.1f} on {processors} processors when it began: "
            "others were at work, and times are too long"
        )
    noisy = [m.name for m in measures if m.spread > SPREAD_MAX]
    if noisy:
        found.append(f"spread over {SPREAD_MAX:.0%}: {', '.join(noisy)}")
    return found
