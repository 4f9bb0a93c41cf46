"""Whole jobs beside other systems: their results are compared, and so is what they print."""

from __future__ import annotations

import sys
from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from bench.kernels.run import OPTIMISATIONS
from bench.peers.kmeans import Share
from bench.peers.nearest import moved
from bench.timings import Timings
from bench.whole_jobs import System, Told, Work, all_systems, check, java, parse, table
from jobs.kmeans.check import kmeans

needs_mpicc = pytest.mark.skipif(
    not Path(sys.executable).with_name("mpicc").exists(), reason="needs the mpicc of MPICH's wheel"
)

CENTROIDS = np.array([[1.0, 2.0], [3.0, 4.0]])


@needs_mpicc
def test_job_and_c_agree_to_the_last_bit(tmp_path: Path) -> None:
    work = Work(tmp_path / "work", points=2_001, parts=2)
    told = work.c(OPTIMISATIONS[0])
    assert told.work_s > 0
    assert told.again_s is not None
    ours = work.dvm("interp")
    assert ours.whole_s is not None
    assert 0 < ours.work_s < ours.whole_s
    check("DVM", ours.centroids, told.centroids, exact=True)
    in_blocks = work.c((*OPTIMISATIONS[0], "-DBLOCKED"))
    check("C in blocks", in_blocks.centroids, told.centroids, exact=True)


def test_of_more_parts_than_ranks_the_whole_run_is_known(tmp_path: Path) -> None:
    told = Work(tmp_path / "work", points=2_001, parts=3).dvm("interp")
    assert told.work_s == told.whole_s


@needs_mpicc
def test_numpy_on_ranks_agrees_with_c(tmp_path: Path) -> None:
    work = Work(tmp_path / "work", points=1_003, parts=2)
    check("numpy", work.numpy().centroids, work.c(OPTIMISATIONS[0]).centroids, exact=False)


def test_shares_of_the_points_make_up_the_whole(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    points = rng.random((1_000, 3))
    np.save(tmp_path / "points.npy", points)
    shares = [Share(str(tmp_path / "points.npy"), number, 3) for number in range(3)]
    centroids = points[np.arange(4) * 250]
    for _ in range(5):
        sums = reduce(np.add, [share.added_up(centroids) for share in shares])
        centroids = moved(centroids, sums)
    assert sums[3].sum() == 1_000
    assert np.allclose(centroids, kmeans(points, 4, 5, 3).centroids, rtol=1e-12)


def test_centroid_without_points_stays() -> None:
    sums = np.array([[6.0, 0.0], [9.0, 0.0], [3.0, 0.0]])
    assert moved(CENTROIDS, sums).tolist() == [[2.0, 3.0], [3.0, 4.0]]


def test_rounding_is_allowed_where_sums_have_another_order() -> None:
    check("x", CENTROIDS * (1 + 1e-12), CENTROIDS, exact=False)


def test_wrong_centroids_end_the_benchmark() -> None:
    with pytest.raises(SystemExit, match=r"x: centroids are 1\.0e-08 off"):
        check("x", CENTROIDS * (1 + 1e-8), CENTROIDS, exact=False)
    with pytest.raises(SystemExit, match="other bits"):
        check("x", CENTROIDS * (1 + 1e-15), CENTROIDS, exact=True)
    with pytest.raises(SystemExit, match="shape"):
        check("x", CENTROIDS[:1], CENTROIDS, exact=False)


def test_output_of_a_peer_is_understood() -> None:
    told = parse('hello\n{"work_s": 0.5, "again_s": 0.25, "centroids": [[1, 2]]}\n', "x")
    assert (told.work_s, told.again_s) == (0.5, 0.25)
    assert told.centroids.tolist() == [[1.0, 2.0]]
    assert parse('{"work_s": 0.5, "centroids": [[1]]}', "x").again_s is None


@pytest.mark.parametrize("printed", ["", "no\n", '{"a": 1}\n{"a": 1}\n'])
def test_other_output_ends_the_benchmark(printed: str) -> None:
    with pytest.raises(SystemExit, match=r"x: [02] lines of JSON"):
        parse(printed, "x")


def test_missing_java_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(SystemExit, match="no javac: install Java"):
        java("javac")


def test_ratios_are_to_the_best_c(tmp_path: Path) -> None:
    systems = all_systems(Work(tmp_path / "work", 20, 2), ["interp"], parts=2)
    for number, system in enumerate(systems):
        system.timings = Timings(system.name)
        system.timings.add([7.0 - number if number < 6 else 8.0])
    lines = table(systems).splitlines()
    assert [line.split("|")[3].strip() for line in lines[6:9]] == ["1.50", "1.00", "4.00"]
    # Only ours and C's are compared to the last bit.
    assert [system.exact for system in systems] == [True] * 7 + [False] * 4


def test_system_that_differs_ends_the_benchmark() -> None:
    wrong = Told(1.0, None, CENTROIDS + 1)
    with pytest.raises(SystemExit, match="Ray: centroids are"):
        System("Ray", lambda: wrong, False, Timings("Ray")).take(CENTROIDS)
