"""The jobs that placement is measured with are as the benchmark believes them to be."""

from __future__ import annotations

import pytest

from bench.launch import ROOT
from bench.placement import JOBS, Job, Moved, Variant, line
from dvm_mpi.disa.assembler import assemble_file


@pytest.mark.parametrize("job", JOBS.values(), ids=lambda job: job.name)
def test_a_job_has_what_is_repeated_and_what_is_compared(job: Job) -> None:
    assert job.few < job.many
    for repeats, result in zip((job.few, job.many), job.results, strict=True):
        defines = dict(define.split("=") for define in job.defines) | {job.repeats: str(repeats)}
        path = ROOT / job.path
        assert result in assemble_file(path, defines).arrays
        assert f".default {job.repeats}," in path.read_text(encoding="utf-8")


def test_a_row_shows_medians_of_one_iteration() -> None:
    job = Job("kmeans", "ITERATIONS", 1, 3, ("centroids", "centroids"))
    samples = [Moved(payload, 2e6, 1.0, "") for payload in (9e6, 4e6, 5e6)]
    assert line(job, Variant("data"), samples).split("|")[3:6] == [
        "     2.500 ", "     1.000 ", "    0.500 "
    ]  # fmt: skip


def test_a_row_of_a_slowed_rank_tells_its_share() -> None:
    job = Job("kmeans", "ITERATIONS", 1, 3, ("centroids", "centroids"))
    told = line(job, Variant("data", 1), [Moved(9e6, 2e6, 1.0, "", (300, 100))])
    assert told.split("|")[2].strip() == "data, slow"
    assert told.endswith("rank 1 had 25% of all instructions")
