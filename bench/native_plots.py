"""Draws what bench-kernels and bench-jobs measured: `python -m bench.native_plots`.

Points are medians, lines go from the first to the third quartile, red ticks are the aims. Times
are on a logarithmic axis: three times is as far everywhere.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from bench.launch import ROOT
from bench.run import OUTPUT

IMAGES: Final = ROOT / "docs" / "images"
_OURS: Final = ("#1f77b4", "#d9a400", "#0a7d5a")
_OTHERS: Final = "#6b7280"
_AIM: Final = "#d62728"
_STYLE: Final[dict[Any, Any]] = {
    "font.size": 9,
    "svg.hashsalt": "dvm",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "axes.axisbelow": True,
}

Content = Mapping[str, Any]


def _points(
    axes: Axes, places: Sequence[int], ways: Sequence[Content], scale: Sequence[float], **look: Any
) -> None:
    """Draw medians and quartiles of some ways, each divided by its number of `scale`."""
    medians = [w["median_s"] / s for w, s in zip(ways, scale, strict=True)]
    around = [
        [abs(w["quartiles_s"][side] / s - m) for w, s, m in zip(ways, scale, medians, strict=True)]
        for side in (0, 1)
    ]
    axes.errorbar(medians, places, xerr=around, fmt="o", lw=1, **look)


def draw_kernels(content: Content) -> Figure:
    """Return the kernels' times, the best C being 1."""
    kernels = content["kernels"]
    engines = list(kernels[0]["ratios"])
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7, 0.8 + 0.36 * len(kernels)), layout="constrained")
        axes = figure.add_subplot()
        best = [kernel["ways"][kernel["best_c"]]["median_s"] for kernel in kernels]
        for number, engine in enumerate(engines):
            ways = [kernel["ways"][engine] for kernel in kernels]
            colour = _OURS[number % len(_OURS)]
            _points(axes, range(len(kernels)), ways, best, color=colour, label=engine)
        for at, kernel in enumerate(kernels):
            if kernel["aim"]:
                axes.plot([kernel["aim"]] * 2, [at - 0.35, at + 0.35], color=_AIM, lw=1.5)
        axes.axvline(1, color="black", lw=0.8)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_yticks(range(len(kernels)), [kernel["title"] for kernel in kernels])
        axes.invert_yaxis()
        axes.set_xlabel("time, the best C being 1 (red: at most so much is aimed at)")
        figure.legend(loc="outside upper center", frameon=False, ncols=len(engines))
    return figure


def draw_jobs(content: Content) -> Figure:
    """Return the systems' times of the k-means job."""
    systems = content["systems"]
    names = [system["name"] for system in systems]
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(7, 0.8 + 0.32 * len(systems)), layout="constrained")
        axes = figure.add_subplot()
        for at, system in enumerate(systems):
            colour = _OURS[0] if system["name"].startswith("DVM") else _OTHERS
            _points(axes, [at], [system], [1.0], color=colour)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(systems)), names)
        axes.invert_yaxis()
        sizes = content["sizes"]
        axes.set_xlabel(
            f"seconds: {sizes['points']:,} points, {sizes['iterations']} iterations, "
            f"{sizes['ranks']} ranks"
        )
    return figure


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=OUTPUT, metavar="FOLDER")
    parser.add_argument("--images", type=Path, default=IMAGES, metavar="FOLDER")
    options = parser.parse_args()
    options.images.mkdir(parents=True, exist_ok=True)
    for name, draw in (("kernels", draw_kernels), ("jobs", draw_jobs)):
        content = json.loads((options.results / f"{name}.json").read_text())
        target = options.images / f"native-{name}.svg"
        with matplotlib.rc_context(_STYLE):
            draw(content).savefig(target, metadata={"Date": None})
        print(target)


if __name__ == "__main__":
    main()
