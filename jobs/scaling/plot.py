"""Draws speed-up and efficiency of a study, with the ideal and the fitted laws."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from jobs.scaling.fit import Fit, fit, speed_ups
from jobs.scaling.plan import MODES, Mode
from jobs.scaling.rows import Point, Row, part_of, series

_COLOURS: Final = {"kmeans": "#0072b2", "primes": "#d55e00"}
_MARKERS: Final = {"kmeans": "o", "primes": "s"}
_TITLES: Final[dict[Mode, str]] = {
    "strong": "Strong: the same problem on all sizes",
    "weak": "Weak: the same work for each rank",
}


def fits(rows: Sequence[Row]) -> dict[tuple[Mode, str], Fit]:
    """Return the fitted law of each series that has one rank and another size."""
    found = {}
    for mode in MODES:
        for job in sorted({row.job for row in rows}):
            points = series(rows, mode, job)
            if len(points) > 1 and points[0].ranks == 1:
                found[mode, job] = fit(mode, points)
    return found


def draw(rows: Sequence[Row], paths: Sequence[Path], note: str, processors: int = 0) -> None:
    """Draw the study into files whose suffixes say the format; `note` stands below.

    `processors`, if it is told, is how many all nodes have: beyond it, ranks share them.
    """
    # Here, since who only runs a study needs no plotting; and without a display.
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("agg")
    # Text stays text, and a file does not depend on the moment.
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "scaling", "font.size": 9}
    from matplotlib import pyplot as plt  # noqa: PLC0415

    found = fits(rows)
    modes = [mode for mode in MODES if any(row.mode == mode for row in rows)]
    figure, grid = plt.subplots(
        len(modes), 2, squeeze=False, figsize=(8, 3.4 * len(modes)), layout="constrained"
    )
    for mode, (left, right) in zip(modes, grid, strict=True):
        for job in sorted({row.job for row in rows if row.mode == mode}):
            points = series(rows, mode, job)
            # Without one rank there is nothing to compare with.
            if points[0].ranks == 1:
                _draw_series(left, right, points, job, mode, found.get((mode, job)))
        sizes = sorted({row.ranks for row in rows if row.mode == mode})
        _dress(left, right, mode, sizes)
        if 0 < processors < max(sizes):
            for axes in (left, right):
                axes.axvspan(processors, max(sizes) * 1.1, color="#eeeeee", zorder=-1)
            right.text(processors * 1.03, 0.02, "ranks share processors", fontsize=8)
    figure.supxlabel(note, fontsize=8, color="#555555")
    for path in paths:
        metadata = {"Date": None} if path.suffix == ".svg" else {}
        part = part_of(path)
        figure.savefig(part, dpi=120, metadata=metadata)
        part.replace(path)
    plt.close(figure)


def _draw_series(
    left: Any, right: Any, points: Sequence[Point], job: str, mode: Mode, law: Fit | None
) -> None:
    ranks = np.array([float(p.ranks) for p in points])
    measured = speed_ups(mode, points)
    # From the fastest to the slowest repetition.
    seconds = np.array([p.seconds for p in points])
    bars = np.stack(
        [
            measured - measured * seconds / [p.slowest_s for p in points],
            measured * seconds / [p.fastest_s for p in points] - measured,
        ]
    )
    fine = np.geomspace(1, ranks.max(), 100)
    style = {"color": _COLOURS.get(job, "#009e73"), "marker": _MARKERS.get(job, "^")}
    dots = style | {"linestyle": "none", "capsize": 3, "markersize": 5}
    left.errorbar(ranks, measured, yerr=bars, label=f"{job}: {law or 'one size'}", **dots)
    right.errorbar(ranks, measured / ranks, yerr=bars / ranks, label=job, **dots)
    if law is not None:
        line = {"color": style["color"], "linewidth": 1}
        left.plot(fine, law.speed_up(fine), **line)
        right.plot(fine, law.speed_up(fine) / fine, **line)


def _dress(left: Any, right: Any, mode: Mode, sizes: Sequence[int]) -> None:
    ideal = {"color": "#777777", "linestyle": "--", "linewidth": 1, "zorder": 0}
    left.plot([1, max(sizes)], [1, max(sizes)], label="ideal", **ideal)
    right.axhline(1, label="ideal", **ideal)
    left.set(
        title=_TITLES[mode],
        ylabel="speed-up" if mode == "strong" else "scaled speed-up (work done in a time)",
    )
    left.set_yscale("log", base=2)
    left.yaxis.set_major_formatter("{x:g}")
    right.set(title="Efficiency", ylabel="speed-up ÷ ranks", ylim=(0, 1.15))
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.set_xlabel("ranks")
        axes.grid(visible=True, linewidth=0.4, alpha=0.5)
        axes.legend(fontsize=8, frameon=False)
