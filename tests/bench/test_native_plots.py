"""Plots of what was measured show every kernel, every system, and the aims."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer

from bench.native_plots import draw_jobs, draw_kernels, main


def way(median: float) -> dict[str, object]:
    return {"median_s": median, "quartiles_s": [0.9 * median, 1.2 * median]}


KERNELS = {
    "kernels": [
        {
            "title": title, "aim": aim, "best_c": "C -O3",
            "ways": {"C -O3": way(2.0), "DVM interp": way(8.0), "DVM auto": way(3.0)},
            "ratios": {"DVM interp": [4.0, 4.0], "DVM auto": [1.5, 1.5]},
        }
        for title, aim in (("primes", 1.05), ("sort", 0))
    ]
}  # fmt: skip
JOBS = {
    "systems": [{"name": "C + MPI -O2", **way(0.1)}, {"name": "DVM auto", **way(0.2)}],
    "sizes": {"points": 1000, "iterations": 10, "ranks": 2},
}


def medians(axes: Axes) -> list[float]:
    points = [c.lines[0].get_xdata() for c in axes.containers if isinstance(c, ErrorbarContainer)]
    return [round(float(x), 9) for x in np.concatenate(points)]


def test_kernels_are_drawn_relative_to_the_best_c() -> None:
    axes = draw_kernels(KERNELS).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["primes", "sort"]
    assert medians(axes) == [4.0, 4.0, 1.5, 1.5]
    aims = [line.get_xdata() for line in axes.lines if line.get_color() == "#d62728"]
    assert np.array_equal(np.array(aims), [[1.05, 1.05]])


def test_systems_are_drawn_in_seconds() -> None:
    axes = draw_jobs(JOBS).axes[0]
    assert medians(axes) == [0.1, 0.2]
    assert "1,000 points" in axes.get_xlabel()


def test_images_are_the_same_every_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kernels.json").write_text(json.dumps(KERNELS))
    (tmp_path / "jobs.json").write_text(json.dumps(JOBS))
    contents = []
    for name in ("one", "two"):
        folders = ["--results", str(tmp_path), "--images", str(tmp_path / name)]
        monkeypatch.setattr(sys, "argv", ["native_plots", *folders])
        main()
        contents.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert contents[0] == contents[1]
    assert set(contents[0]) == {"native-kernels.svg", "native-jobs.svg"}
