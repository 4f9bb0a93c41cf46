from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from jobs.kmeans import check, draw, make_input
from jobs.lib.checking import read_array
from tests.engine.agreement import ENGINES
from tests.jobs.machine import Result, run_job

DEFAULTS = {"N": 20_000, "DIMS": 3, "K": 16, "ITERATIONS": 20, "PARTS": 64}


def compare(
    result: Result, parameters: Mapping[str, int], points: NDArray[np.float64] | None = None
) -> None:
    """Compare a run with numpy: all bits of the arrays, all characters of the console."""
    p = DEFAULTS | dict(parameters)
    if points is None:
        points = check.generate(p["N"], p["DIMS"], p["K"])
        assert result.arrays["points"].tobytes() == points.tobytes()
    expected = check.kmeans(points, p["K"], p["ITERATIONS"], p["PARTS"], p.get("STRIDE"))
    assert result.arrays["centroids"].tobytes() == expected.centroids.tobytes()
    assert result.arrays["labels"].tobytes() == expected.labels.tobytes()
    assert result.console == check.expected_console(expected)
    assert result.watchers_left == 0


@functools.cache
def crop() -> NDArray[np.float64]:
    pixels = make_input.read_pixels(make_input.photograph_path("china"), (64, 64))
    return pixels.reshape(-1, 3).astype(np.float64)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"N": 200, "K": 5, "PARTS": 7, "ITERATIONS": 3}, id="uneven parts"),
        pytest.param({"N": 300, "K": 4, "PARTS": 7, "DIMS": 2, "ITERATIONS": 0}, id="converges"),
        pytest.param({"N": 10, "K": 3, "PARTS": 16, "DIMS": 1, "STRIDE": 1}, id="empty parts"),
        pytest.param({"N": 90, "K": 1, "PARTS": 1, "DIMS": 5, "ITERATIONS": 2}, id="one cluster"),
    ],
)
def test_synthetic_points_as_numpy_clusters_them(
    engine: str, parameters: Mapping[str, int]
) -> None:
    compare(run_job("kmeans", parameters, engine=engine), parameters)


def test_centroid_without_points_stays() -> None:
    points = np.array([[0.0], [0.0], [10.0], [10.0]])
    parameters = {"N": 4, "DIMS": 1, "K": 4, "PARTS": 2, "GENERATE": 0}
    result = run_job("kmeans", parameters, inputs={"points": points}, engine="reference")
    compare(result, parameters, points)
    assert result.arrays["centroids"].ravel().tolist() == [0.0, 0.0, 10.0, 10.0]
    assert result.arrays["labels"].tolist() == [0, 0, 2, 2]


def test_without_labels_the_last_iteration_reports() -> None:
    parameters = {"N": 200, "K": 5, "PARTS": 7, "ITERATIONS": 3}
    result = run_job("kmeans", parameters | {"LABELS": 0}, engine="reference")
    expected = check.kmeans(check.generate(200, 3, 5), 5, 3, 7)
    assert result.arrays["centroids"].tobytes() == expected.centroids.tobytes()
    assert not result.arrays["labels"].any()
    assert result.console.endswith("\n3 iterations\n")


@pytest.mark.parametrize(
    "engine", [pytest.param("reference", marks=pytest.mark.slow), "interp", "translate"]
)
def test_crop_of_the_photograph_as_numpy_clusters_it(engine: str) -> None:
    parameters = {"N": 4096, "K": 8, "PARTS": 64, "ITERATIONS": 2, "GENERATE": 0}
    inputs = {"points": crop()}
    compare(run_job("kmeans", parameters, inputs=inputs, engine=engine), parameters, crop())


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param({"PARTS": 12}, id="combined"),
        pytest.param({"PARTS": 2, "EACH_MOVES": 0}, id="few, combined"),
        pytest.param({"PARTS": 2}, id="each moves"),
        pytest.param({"PARTS": 7, "EACH_MOVES": 1}, id="many, each moves"),
    ],
)
def test_same_bits_on_any_number_of_workers_in_any_order(parts: Mapping[str, int]) -> None:
    """Parts finish in another order with each seed; their sums are added in part order."""
    points = crop()[::9]
    parameters = {"N": len(points), "K": 6, "ITERATIONS": 3, "GENERATE": 0, **parts}
    for workers in (1, 3, 8):
        for seed in range(20):
            result = run_job(
                "kmeans",
                parameters,
                inputs={"points": points},
                workers=workers,
                homes=1 + seed % 4,
                seed=seed,
            )
            compare(result, parameters, points)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_each_moves_until_the_centroids_stay(parts: int) -> None:
    parameters = {"N": 300, "K": 4, "DIMS": 2, "ITERATIONS": 0, "PARTS": parts}
    for seed in range(10):
        compare(run_job("kmeans", parameters, workers=3, seed=seed), parameters)
    without = run_job("kmeans", parameters | {"LABELS": 0}, workers=2)
    expected = check.kmeans(check.generate(300, 2, 4), 4, 0, parts)
    assert without.arrays["centroids"].tobytes() == expected.centroids.tobytes()
    assert without.watchers_left == 0


def test_each_moves_though_others_are_a_wave_ahead() -> None:
    """One worker takes a few parts at a time: the last begin when the first have ended."""
    parameters = {"N": 300_000, "K": 3, "DIMS": 1, "ITERATIONS": 3, "PARTS": 6, "EACH_MOVES": 1}
    compare(run_job("kmeans", parameters), parameters)


@pytest.mark.parametrize("labels", [0, 1])
def test_time_is_told_behind_all_else(labels: int) -> None:
    parameters = {"N": 200, "K": 5, "PARTS": 2, "ITERATIONS": 3, "LABELS": labels}
    plain = run_job("kmeans", parameters, workers=2)
    timed = run_job("kmeans", parameters | {"TIME": 1}, workers=2)
    assert re.fullmatch(re.escape(plain.console) + r"\d+ us\n", timed.console)
    for name in ("centroids", "labels"):
        assert timed.arrays[name].tobytes() == plain.arrays[name].tobytes()


@pytest.mark.slow
def test_whole_photograph_as_numpy_clusters_it() -> None:
    pixels = make_input.read_pixels(make_input.photograph_path("china"), None)
    points = pixels.reshape(-1, 3).astype(np.float64)
    parameters = {"N": len(points), "ITERATIONS": 3, "GENERATE": 0}
    compare(run_job("kmeans", parameters, inputs={"points": points}), parameters, points)


def test_sums_by_part_adds_in_the_stated_order() -> None:
    """Against plain loops, on numbers whose sum depends on the order."""
    random = np.random.default_rng(7)
    points = random.standard_normal((97, 2)) * 10.0 ** random.integers(-8, 9, (97, 2))
    labels = random.integers(0, 3, 97).astype(np.int32)
    total = np.zeros((3, 2))
    for part in range(5):
        partial = np.zeros((3, 2))
        for i in range(part * 97 // 5, (part + 1) * 97 // 5):
            for axis in range(2):
                partial[labels[i], axis] += points[i, axis]
        total += partial
    sums, counts = check.sums_by_part(points, labels, 3, 5)
    assert sums.tobytes() == total.tobytes()
    assert counts.tolist() == np.bincount(labels).tolist()


def test_input_and_picture(tmp_path: Path) -> None:
    """The tools around the job: pixels to HDF5, result to a sheet with both pictures."""
    pixels = make_input.read_pixels(make_input.photograph_path("flower"), (40, 30))
    make_input.write_points(pixels, tmp_path / "input.h5")
    points = read_array(f"{tmp_path / 'input.h5'}:points").astype(np.float64)
    assert points.shape == (1200, 3)
    expected = check.kmeans(points, 4, 2, 8)
    quantised = draw.quantise(expected.labels, expected.centroids, 30)
    colours = draw.to_bytes(expected.centroids)
    sheet = draw.compose(pixels, quantised, colours, expected.counts.tolist())
    sheet.save(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as picture:
        drawn = np.asarray(picture)
    left, top = draw.MARGIN, draw.MARGIN
    assert (drawn[top : top + 30, left : left + 40] == pixels).all()
    right = 2 * draw.MARGIN + 40
    assert (drawn[top : top + 30, right : right + 40] == quantised).all()


def test_files_that_cannot_be_read_are_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no picture", encoding="utf-8")
    for path in (text, tmp_path / "absent.png"):
        with pytest.raises(SystemExit, match=r"is no picture that can be .*; give another"):
            make_input.read_pixels(path, None)
    monkeypatch.setattr("sys.argv", ["draw.py", "--points", str(tmp_path / "absent.h5")])
    with pytest.raises(SystemExit, match=r"draw: cannot read .*; run make_input"):
        draw.main()
