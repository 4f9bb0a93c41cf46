"""Runs that `calibrate` starts, and what they leave; each of their ranks is a `measured.py`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.errors import LaunchError
from dvm_mpi.job.parts import say
from dvm_mpi.sim.model.effort import STEPS
from dvm_mpi.sim.model.fit import Samples
from dvm_mpi.values import dataclass

#: What a run times: each step of its turns, or whole turns, which hardly slows it down.
STEPS_TIMED: Final = "steps"
TURNS_TIMED: Final = "turns"
_NS_PER_S: Final = 1e9
_COMMAND_SHOWN_LINES: Final = 12


@dataclass(frozen=True, slots=True)
class Case:
    """A program with the sizes of its problem, and other options of its run."""

    job: str
    defines: dict[str, str]
    options: tuple[str, ...] = ()

    @property
    def program(self) -> Path:
        """Where the program is, from the project's folder."""
        return Path("jobs") / self.job / f"{self.job}.dasm"

    @property
    def name(self) -> str:
        """The job, its sizes and options, for people."""
        sizes = (f"{name}={value}" for name, value in self.defines.items())
        return " ".join((self.job, *sizes, *self.options))


@dataclass(frozen=True, slots=True)
class StepsRun:
    """What a run has left of which each step was timed."""

    started_at: str
    samples: Samples
    #: Rows of slices with their instructions: amounts, instructions, nanoseconds.
    slices: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TurnsRun:
    """What a run has left of which the turns were timed; seconds, and what went between ranks."""

    work_s: float
    #: Processor time of all ranks in turns in which they did something; of that, rank 0's.
    processor_s: float
    rank0_s: float
    buffers: int
    messages: int
    moved_bytes: int
    #: Of the time of all processors of the host, what others had while the program ran.
    others_share: float


class Measuring:
    """Starts measured runs; to be used in a `with` block, which has a folder for what they leave.

    Parameters
    ----------
    launcher
        How ranks are started, with `{ranks}`; empty: by `mpiexec`.
    cores
        That all ranks have together.
    """

    def __init__(self, launcher: str, cores: int) -> None:
        self._launcher = launcher
        self._cores = cores
        self._folder = Path(tempfile.mkdtemp(prefix="dvm-calibrate-"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def messages(self) -> dict[str, float]:
        """Time messages between two ranks, and naps; as `measured.py` tells them."""
        say("dvm: timing messages between two ranks")
        self._start(2, [str(self._folder)])
        told: dict[str, float] = json.loads((self._folder / "messages.json").read_text("utf-8"))
        return told

    def steps(self, case: Case, ranks: int) -> StepsRun:
        """Run a case with every step timed."""
        say(f"dvm: measuring the steps of {case.name} on {ranks} ranks")
        figures = self._run(case, ranks, STEPS_TIMED)
        files = [np.load(self._folder / f"rank-{rank}.npz") for rank in range(ranks)]
        samples = {step: np.concatenate([file[step] for file in files]) for step in STEPS}
        instructions = np.concatenate([file["instructions"] for file in files])
        slices = np.insert(samples["execute"], -1, instructions, axis=1)
        return StepsRun(figures["started_at"], samples, slices)

    def turns(self, case: Case, ranks: int) -> TurnsRun:
        """Run a case with its turns timed."""
        say(f"dvm: measuring {case.name} on {ranks} ranks")
        figures = self._run(case, ranks, TURNS_TIMED)
        told = [
            json.loads((self._folder / f"rank-{rank}.json").read_text("utf-8"))
            for rank in range(ranks)
        ]
        busy_s = [rank["busy_ns"] / _NS_PER_S for rank in told]
        own_s = sum(busy_s) + sum(rank["idle_ns"] for rank in told) / _NS_PER_S
        between = figures["traffic"]["between_ranks"]
        moved = (between[name] for name in ("payload_fetched", "payload_stored", "control"))
        others_s = max(told[0]["processors_s"] - own_s, 0.0)
        return TurnsRun(
            work_s=figures["work_s"],
            processor_s=sum(busy_s),
            rank0_s=busy_s[0],
            buffers=between["buffers"],
            messages=between["messages"],
            moved_bytes=sum(moved),
            others_share=others_s / (figures["work_s"] * self._cores),
        )

    def _run(self, case: Case, ranks: int, timed: str) -> dict[str, Any]:
        """Run a case, and return its report."""
        report = self._folder / "report.json"
        words = [str(self._folder), timed, str(case.program.absolute())]
        words += [f"-D{name}={value}" for name, value in case.defines.items()]
        self._start(ranks, [*words, *case.options, "--report", str(report), "--quiet"])
        figures: dict[str, Any] = json.loads(report.read_text("utf-8"))
        return figures

    def _start(self, ranks: int, words: list[str]) -> None:
        launcher = self._launcher or f"{_mpiexec()} -n {{ranks}}"
        command = [word.replace("{ranks}", str(ranks)) for word in shlex.split(launcher)]
        command += [sys.executable, "-m", "dvm_mpi.job.measured", *words]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise LaunchError(
                f"cannot start '{command[0]}': {error.strerror}; say how with --launcher"
            ) from error
        if ended.returncode:
            told = "\n".join(ended.stderr.splitlines()[-_COMMAND_SHOWN_LINES:])
            raise LaunchError(f"'{shlex.join(command)}' ended with {ended.returncode}:\n{told}")


def cores_here() -> int:
    """Return how many cores this process, and what it starts, may use."""
    return len(os.sched_getaffinity(0))


def _mpiexec() -> str:
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise LaunchError("no mpiexec beside Python or on the path; say how with --launcher")
    return found
