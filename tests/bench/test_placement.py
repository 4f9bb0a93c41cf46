"""The jobs that placement is measured with are as the benchmark believes them to be."""

from __future__ import annotations

import pytest

from bench.launch import ROOT
from bench.placement import JOBS, Job, Moved, line
from dvm_mpi.disa.assembler import assemble_file


@pytest.mark.parametrize("job", JOBS.values(), ids=lambda job: job.name)
def test_a_job_has_what_is_repeated_and_what_is_compared(job: Job) -> None:
    assert job.few < job.many
    for repeats, result in zip((job.few, job.many), job.results, strict=True):
        defines = dict(define.split("=") for define in job.defines) | {job.repeats: str(repeats)}
        path = ROOT / f"jobs/{job.name}/{job.name}.dasm"
        assert result in assemble_file(path, defines).arrays
        assert f".default {job.repeats}," in path.read_text(encoding="utf-8")


def test_a_row_shows_medians_of_one_iteration() -> None:
    job = Job("kmeans", "ITERATIONS", 1, 3, ("centroids", "centroids"))
    samples = [Moved(payload, 2e6, 1.0, "") for payload in (9e6, 4e6, 5e6)]
    assert line(job, "data", samples).split("|")[3:6] == [
        "     2.500 ", "     1.000 ", "    0.500 "
    ]  # fmt: skip
