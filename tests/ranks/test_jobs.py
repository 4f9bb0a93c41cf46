"""The jobs as users start them, on several ranks: the same bits as in one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jobs.kmeans import check, make_input
from jobs.lib.checking import read_array
from jobs.primes.check import count_primes
from jobs.treesum.check import expected_sum
from tests.jobs.machine import source_of
from tests.ranks.launch import Ended

PLANES = ("rma", "message")
SIZES = (2, 4)
#: Without shared memory, where MPICH's progress is that of a network.
NETWORK = {"MPIR_CVAR_NOLOCAL": "1"}
COMMON = ("--quiet", "--memory", "32M")

Run = Callable[..., Ended]


def job(name: str, **parameters: int) -> tuple[str, ...]:
    defines = (word for key, value in parameters.items() for word in ("-D", f"{key}={value}"))
    return (str(source_of(name)), *COMMON, *defines)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("rank_count", SIZES)
def test_primes(dvm: Run, rank_count: int, plane: str) -> None:
    ended = dvm(rank_count, *job("primes", LIMIT=20_000, PARTS=7), "--data-plane", plane)
    assert (ended.code, ended.out) == (0, f"{count_primes(20_000)}\n"), ended.err


def test_primes_under_serializable_with_conflicts_on_pages(dvm: Run, tmp_path: Path) -> None:
    modes = ("--isolation", "serializable", "--conflict-unit", "page")
    parameters = job("primes", LIMIT=20_000, PARTS=7)
    ended = dvm(2, *parameters, *modes, "--report", str(tmp_path / "run.json"))
    assert (ended.code, ended.out) == (0, f"{count_primes(20_000)}\n"), ended.err
    told = json.loads((tmp_path / "run.json").read_text())
    assert (told["isolation"], told["conflict_unit"]) == ("serializable", "page")


@pytest.mark.parametrize("style", [1, 2])
def test_treesum(dvm: Run, style: int) -> None:
    """Every inner node is a watcher that two runners on any ranks may wake."""
    ended = dvm(4, *job("treesum", N=1000, STYLE=style))
    assert (ended.code, ended.out) == (0, f"{expected_sum(1000)}\n"), ended.err


@pytest.mark.parametrize("environment", [{}, NETWORK], ids=["node", "network"])
@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("rank_count", SIZES)
def test_kmeans_of_a_crop(
    dvm: Run, tmp_path: Path, rank_count: int, plane: str, environment: dict[str, str]
) -> None:
    pixels = make_input.read_pixels(make_input.photograph_path("china"), (40, 40))
    points = pixels.reshape(-1, 3).astype(np.float64)
    np.save(tmp_path / "points.npy", points)
    ended = dvm(
        rank_count,
        *job("kmeans", N=1600, K=6, PARTS=11, ITERATIONS=3, GENERATE=0),
        *("--data-plane", plane, "--in", "points=points.npy"),
        *("--out", "centroids=centroids.npy", "--out", "labels=output.h5:labels"),
        environment=environment,
    )
    assert ended.code == 0, ended.err
    expected = check.kmeans(points, 6, 3, 11)
    assert ended.out == check.expected_console(expected)
    assert np.load(tmp_path / "centroids.npy").tobytes() == expected.centroids.tobytes()
    labels = read_array(str(tmp_path / "output.h5:labels"))
    assert labels.tobytes() == expected.labels.tobytes()
