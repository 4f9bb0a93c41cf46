from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from dvm_mpi.config import DRAIN_S
from dvm_mpi.launch import abort
from dvm_mpi.launch.abort import (
    end_job,
    ends_with_one,
    is_to_tell,
    leave_after_telling,
    let_output_pass,
)
from dvm_mpi.launch.environment import Launch, Launcher


def launched_by(launcher: Launcher) -> Launch:
    return Launch(launcher, 1, 4, 1, 4, "job")


def test_hydra_is_asked_on_its_descriptor() -> None:
    """In the words of PMI-1, which it understands before MPI has said a word."""
    reads, writes = os.pipe()
    end_job(launched_by(Launcher.HYDRA), {"PMI_FD": str(writes)}, 6)
    os.close(writes)
    with os.fdopen(reads) as order:
        assert order.read() == "cmd=abort exitcode=6\n"


@pytest.mark.parametrize("launcher", [x for x in Launcher if x is not Launcher.HYDRA])
def test_others_are_not(launcher: Launcher) -> None:
    reads, writes = os.pipe()
    end_job(launched_by(launcher), {"PMI_FD": str(writes)}, 6)
    os.close(writes)
    with os.fdopen(reads) as order:
        assert order.read() == ""


@pytest.mark.parametrize("environ", [{}, {"PMI_FD": "x"}, {"PMI_FD": "9999"}])
def test_no_way_to_ask_is_no_fault(environ: dict[str, str]) -> None:
    end_job(launched_by(Launcher.HYDRA), environ, 6)


def test_slurm_leaves_the_others_alone() -> None:
    alone = [launcher for launcher in Launcher if not ends_with_one(launched_by(launcher))]
    assert alone == [Launcher.SLURM_PMI2, Launcher.SLURM_PMIX, Launcher.SLURM_PLAIN]


def test_one_rank_of_a_host_has_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever asks first, until its process ends; ranks of another job have their own."""
    monkeypatch.setattr(abort, "_claims", [])
    job = f"test-{os.getpid()}"
    first = Launch(Launcher.HYDRA, 1, 4, 1, 4, job)
    second, other = replace(first, rank=0, local_rank=0), replace(first, job=f"{job}-other")
    asked = [is_to_tell(launch, 0.1) for launch in (first, second, other)]
    assert asked == [True, False, True]
    # It is seen at once, however long one would have waited.
    assert not is_to_tell(second, 1e6)
    while abort._claims:
        abort._claims.pop().close()
    assert is_to_tell(second, 0.0)
    abort._claims.pop().close()


@pytest.mark.parametrize("launcher", Launcher)
def test_who_has_told_stays_until_the_others_have_seen_it(
    launcher: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    leave_after_telling(launched_by(launcher), {}, 6)
    assert (DRAIN_S in slept) == ends_with_one(launched_by(launcher))


def test_output_that_the_launcher_has_not_taken_is_waited_for() -> None:
    reads, writes = os.pipe()
    os.write(writes, b"why it ends")
    taker = threading.Timer(0.1, os.read, (reads, 100))
    began = time.monotonic()
    taker.start()
    let_output_pass(writes)
    assert time.monotonic() - began >= 0.1
    taker.join()
    os.close(reads)
    os.close(writes)


def test_output_that_nobody_takes_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvm_mpi.launch.abort.DRAIN_S", 0.05)
    reads, writes = os.pipe()
    os.write(writes, b"why it ends")
    let_output_pass(writes)
    os.close(reads)
    os.close(writes)


def test_output_into_a_file_is_there_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dvm_mpi.launch.abort.DRAIN_S", 1e6)
    with (tmp_path / "log").open("wb", buffering=0) as log:
        log.write(b"why it ends")
        let_output_pass(log.fileno())
