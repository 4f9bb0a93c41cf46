"""Shapes of jobs against their programs: the same runners, commits, bytes, about as much work."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvm_mpi.disa.image_file import open_program
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.errors import UsageError
from dvm_mpi.job.predicting import job_of
from dvm_mpi.sim.model.predict import Job, Prediction, predict
from dvm_mpi.sim.model.priced import Site
from dvm_mpi.sim.model.shapes import JOBS, make_shape
from dvm_mpi.sim.simulation import ENGINE_SETTINGS
from tests.sim.model.sites import BETWEEN, ROUND

SITE = Site(ROUND, BETWEEN, ranks_per_host=4, cores=4)


def shaped(name: str, given: dict[str, int]) -> Prediction:
    return predict(job_of(name, make_shape(name, given)), 4, SITE)


def programmed(name: str, defines: dict[str, int]) -> Prediction:
    words = {key: str(value) for key, value in defines.items()}
    image = open_program(Path(f"jobs/{name}/{name}.dasm"), words)
    return predict(Job(name, image, lambda: ReferenceEngine(ENGINE_SETTINGS)), 4, SITE)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("primes", {"LIMIT": 3_000, "PARTS": 12, "BLOCK": 20}), ("treesum", {"N": 200})],
)
def test_a_shape_is_that_of_its_program(name: str, sizes: dict[str, int]) -> None:
    shape, program = shaped(name, sizes), programmed(name, sizes)
    assert shape.commits == program.commits
    assert shape.retries == program.retries == 0
    # How often watchers look too early is a matter of time.
    assert shape.runners - shape.aborts == program.runners - program.aborts
    assert shape.instructions == pytest.approx(program.instructions, rel=0.1)
    assert shape.bytes_fetched == pytest.approx(program.bytes_fetched, rel=0.25)
    assert shape.work_s == pytest.approx(program.work_s, rel=0.25)


def test_kmeans_is_that_of_its_program() -> None:
    sizes = {"N": 240, "DIMS": 2, "K": 3, "PARTS": 3}
    two, three = ({**sizes, "ITERATIONS": count} for count in (2, 3))
    shapes = [shaped("kmeans", given) for given in (two, three)]
    # The shape is that of many parts, between whose waves a watcher moves the centroids.
    switches = {"LABELS": 0, "EACH_MOVES": 0}
    programs = [programmed("kmeans", given | switches) for given in (two, three)]
    for shape, program in zip(shapes, programs, strict=True):
        # The program makes its points as well: `main`, and a runner for each part; the shape
        # loads them, and its `main` is the program's `begin`.
        assert shape.commits == program.commits - 3 - 1
        assert shape.retries == 0
    one_shaped = shapes[1].instructions - shapes[0].instructions
    one_programmed = programs[1].instructions - programs[0].instructions
    assert one_shaped == pytest.approx(one_programmed, rel=0.1)


def test_empty_runners_are_as_many_as_were_asked_for() -> None:
    found = shaped("empty", {"RUNNERS": 5_000, "PARENTS": 3, "INSTRUCTIONS": 10})
    assert found.commits == 5_000 + 3 + 1


def test_jobs_and_parameters_that_are_not_there_are_named() -> None:
    with pytest.raises(UsageError, match="there are kmeans, primes"):
        make_shape("sort", {})
    with pytest.raises(UsageError, match="treesum has N"):
        make_shape("treesum", {"PARTS": 3})
    assert all(make_shape(name, {}).image.reserved.size for name in JOBS if name != "primes")
