"""`python -m dvm_mpi calibrate`: what the steps of a rank cost here, from real runs, in a file.

It starts small jobs on one, two and four ranks with every step timed (`measured.py`), fits costs to
them (`sim/model/fit.py`), and writes these with their residuals. Then it predicts runs that were
left out of the fit and says how far off it is: what `simulate --job` says is worth no more.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import __version__, config
from dvm_mpi.disa.image_file import open_program
from dvm_mpi.engine.interface import LoadTracking
from dvm_mpi.errors import ExitCode, FileError, LaunchError
from dvm_mpi.job.parts import say
from dvm_mpi.model_options import CalibrateOptions
from dvm_mpi.sim.model.costs import Costs, Network
from dvm_mpi.sim.model.effort import STEPS
from dvm_mpi.sim.model.fit import Samples, fit_costs, non_negative
from dvm_mpi.sim.model.predict import Job, Prediction, predict
from dvm_mpi.sim.model.priced import Site
from dvm_mpi.sim.simulation import ENGINE_SETTINGS

_NS_PER_S: Final = 1e9
_COMMAND_SHOWN_LINES: Final = 12


@dataclass(frozen=True, slots=True)
class _Case:
    """A program with the sizes of its problem."""

    job: str
    defines: dict[str, str]

    @property
    def program(self) -> Path:
        """Where the program is, from the project's folder."""
        return Path("jobs") / self.job / f"{self.job}.dasm"

    @property
    def name(self) -> str:
        """The job and its sizes, for people."""
        sizes = " ".join(f"{name}={value}" for name, value in self.defines.items())
        return f"{self.job} {sizes}".rstrip()


#: What costs are fitted to.
_FITTED: Final = (
    _Case("primes", {"LIMIT": "400000", "PARTS": "64"}),
    _Case("treesum", {"N": "8192"}),
    _Case("vectoradd", {"N": "2000000", "PARTS": "256"}),
)
#: What is predicted: another job, and others' problems of other sizes.
_HELD_OUT: Final = (
    _Case("kmeans", {"N": "200000", "PARTS": "64", "ITERATIONS": "8", "LABELS": "0"}),
    _Case("primes", {"LIMIT": "1000000", "PARTS": "96"}),
)


@dataclass(frozen=True, slots=True)
class Compared:
    """A run that was left out, as measured (the median) and as predicted; seconds."""

    name: str
    ranks: int
    measured_s: float
    predicted_s: float
    processor_measured_s: float
    processor_predicted_s: float

    @property
    def error(self) -> float:
        """How far off the prediction is, as a share of what was measured."""
        return self.predicted_s / self.measured_s - 1

    @property
    def processor_error(self) -> float:
        """The same of processor time."""
        return self.processor_predicted_s / self.processor_measured_s - 1


@dataclass(slots=True)
class _Run:
    """What one measured run has left."""

    samples: Samples
    #: Rows of slices with their instructions: amounts, instructions, nanoseconds.
    slices: NDArray[np.float64]
    work_s: float

    @property
    def processor_s(self) -> float:
        """Processor time of all ranks in their turns, without looks of the idle."""
        steps = (rows[:, -1].sum() for step, rows in self.samples.items() if step != "idle")
        return float(sum(steps)) / _NS_PER_S


class Calibration:
    """One calibration: runs, fit, file, and the comparison."""

    def __init__(self, options: CalibrateOptions) -> None:
        self._options = options
        self._folder = Path(tempfile.mkdtemp(prefix="dvm-calibrate-"))
        self._cores = len(os.sched_getaffinity(0))
        #: When the latest run began, as its report says.
        self._made_at = ""

    def perform(self) -> tuple[ExitCode, str]:
        """Do all of it; return the exit code and the text for standard output.

        Raises
        ------
        LaunchError, FileError
            Ranks cannot be started, or the file cannot be written.
        """
        try:
            costs = self._fit()
            compared = self._compare(costs) if self._options.compare else []
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        told = [asdict(c) | {"error": c.error, "processor_error": c.processor_error}
                for c in compared]  # fmt: skip
        costs = replace(costs, residuals=costs.residuals | {"held_out": told})
        try:
            self._options.output.write_text(costs.to_json() + "\n", encoding="utf-8")
        except OSError as error:
            raise FileError(f"cannot write {self._options.output}: {error.strerror}") from error
        return ExitCode.OK, _summary(costs, compared, self._options.output)

    # --- fit ------------------------------------------------------------------------------------
    def _fit(self) -> Costs:
        sizes = self._options.ranks
        messages = self._time_messages() if max(sizes) > 1 else None
        runs = {case.job: [self._run(case, ranks) for ranks in sizes] for case in _FITTED}
        every = [run for of_job in runs.values() for run in of_job]
        samples = {step: np.concatenate([run.samples[step] for run in every]) for step in STEPS}
        steps, residuals = fit_costs(samples)
        steps["execute"], instruction_ns = _fit_slices(runs)
        within = Network(
            float(messages["latency_ns"]) if messages else 0.0,
            float(messages["byte_ns"]) if messages else 0.0,
            "measured between two ranks here",
        )
        return Costs(
            steps=steps,
            instruction_ns=instruction_ns,
            nap_extra_ns=float(messages["nap_extra_ns"]) if messages else 0.0,
            within=within,
            between=within if self._options.is_between else None,
            provenance=self._provenance(sizes),
            residuals={"steps": residuals},
        )

    def _provenance(self, sizes: Sequence[int]) -> dict[str, Any]:
        return {
            "made_at": self._made_at,
            "version": __version__,
            "commit": _commit(),
            "machine": f"{platform.machine()}, {self._cores} cores, {platform.system()} "
            f"{platform.release()}",
            "load": [round(load, 2) for load in os.getloadavg()],
            "launcher": self._options.launcher or "mpiexec",
            "fitted": [case.name for case in _FITTED],
            "ranks": list(sizes),
        }

    def _time_messages(self) -> dict[str, float]:
        say("dvm: timing messages between two ranks")
        self._start(2, [str(self._folder)])
        told: dict[str, float] = json.loads((self._folder / "messages.json").read_text("utf-8"))
        return told

    def _run(self, case: _Case, ranks: int) -> _Run:
        """Run a case with every step timed."""
        say(f"dvm: measuring {case.name} on {ranks} ranks")
        report = self._folder / "report.json"
        defines = [f"-D{name}={value}" for name, value in case.defines.items()]
        program = str(case.program.absolute())
        words = [str(self._folder), program, *defines, "--report", str(report), "--quiet"]
        self._start(ranks, words)
        files = [np.load(self._folder / f"rank-{rank}.npz") for rank in range(ranks)]
        samples = {step: np.concatenate([file[step] for file in files]) for step in STEPS}
        instructions = np.concatenate([file["instructions"] for file in files])
        slices = np.insert(samples["execute"], -1, instructions, axis=1)
        figures = json.loads(report.read_text("utf-8"))
        self._made_at = figures["started_at"]
        return _Run(samples, slices, figures["work_s"])

    def _start(self, ranks: int, words: list[str]) -> None:
        launcher = self._options.launcher or f"{_mpiexec()} -n {{ranks}}"
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

    # --- comparison -----------------------------------------------------------------------------
    def _compare(self, costs: Costs) -> list[Compared]:
        """Predict what was left out, and measure it."""
        compared = []
        ranks = max(self._options.ranks)
        for case in _HELD_OUT:
            # What an instruction of it takes is measured on one rank; all else is predicted.
            alone = self._run(case, 1)
            instruction_ns = _instruction_ns(costs, alone)
            costs.instruction_ns[case.job] = instruction_ns
            runs = [self._run(case, ranks) for _ in range(self._options.repetitions)]
            found = self._predict(case, ranks, replace_site(costs, instruction_ns, self._cores))
            compared.append(
                Compared(
                    case.name,
                    ranks,
                    median(run.work_s for run in runs),
                    found.work_s,
                    median(run.processor_s for run in runs),
                    found.processor_s,
                )
            )
        return compared

    def _predict(self, case: _Case, ranks: int, site: Site) -> Prediction:
        from dvm_mpi.engine.interp import InterpEngine

        say(f"dvm: predicting {case.name} on {ranks} ranks")
        image = open_program(case.program, case.defines)
        settings = replace(ENGINE_SETTINGS, loads=LoadTracking.NONE)
        spread = replace(site, ranks_per_host=ranks)
        job = Job(case.name, image, lambda: InterpEngine(settings))
        return predict(job, ranks, spread, plane=self._options.data_plane)


def replace_site(costs: Costs, instruction_ns: float, cores: int) -> Site:
    """Return the site that this machine is: one host, whose cores all ranks share."""
    return Site(costs, costs.within, cores=cores, instruction_ns=instruction_ns)


def _fit_slices(runs: dict[str, list[_Run]]) -> tuple[tuple[float, ...], dict[str, float]]:
    """Return what slices cost beside instructions, and the instructions of each job."""
    jobs, width = list(runs), len(STEPS["execute"])
    parts = []
    for place, job in enumerate(jobs):
        rows = np.concatenate([run.slices for run in runs[job]])
        own = np.zeros((len(rows), width + len(jobs) + 1))
        own[:, :width], own[:, width + place], own[:, -1] = (
            rows[:, :width],
            rows[:, -2],
            rows[:, -1],
        )
        parts.append(own)
    every = np.concatenate(parts)
    fitted = non_negative(every[:, :-1], every[:, -1]).tolist()
    return tuple(fitted[:width]), dict(zip(jobs, fitted[width:], strict=True))


def _instruction_ns(costs: Costs, run: _Run) -> float:
    """Return what an instruction takes, beside what its slices take otherwise."""
    rows = run.slices
    others = float((rows[:, :-2] @ np.array(costs.steps["execute"])).sum())
    return max(float(rows[:, -1].sum()) - others, 0.0) / max(float(rows[:, -2].sum()), 1.0)


def _mpiexec() -> str:
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise LaunchError("no mpiexec beside Python or on the path; say how with --launcher")
    return found


def _commit() -> str:
    try:
        told = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:
        return ""
    return told.stdout.strip()


def _summary(costs: Costs, compared: list[Compared], path: Path) -> str:
    lines = [f"{path}: costs of {costs.provenance['machine']}"]
    names = {step: ", ".join(STEPS[step]) for step in STEPS}
    for step, prices in costs.steps.items():
        told = " + ".join(f"{price / 1e3:,.3f}" for price in prices)
        lines.append(f"  {step:<10} {told} µs  ({names[step]})")
    for job, price in costs.instruction_ns.items():
        lines.append(f"  {job:<10} {price:.2f} ns for an instruction")
    within = costs.within
    lines.append(
        f"  messages   {within.latency_ns / 1e3:.2f} µs and {within.byte_ns:.3f} ns for a byte"
    )
    if compared:
        lines.append("runs that were left out of the fit: measured, predicted, error")
        lines.append("  wall clock, and processor time of all ranks in their turns")
    lines += [
        f"  {c.name}, {c.ranks} ranks: {c.measured_s:.3f} s, {c.predicted_s:.3f} s, "
        f"{c.error:+.0%}; {c.processor_measured_s:.3f} s, {c.processor_predicted_s:.3f} s, "
        f"{c.processor_error:+.0%}"
        for c in compared
    ]
    worst = max((abs(c.error) for c in compared), default=0.0)
    if worst > config.MODEL_ERROR_MAX:
        lines.append(
            f"a run that was left out is {worst:.0%} off, more than {config.MODEL_ERROR_MAX:.0%}: "
            "what is predicted from these costs is no claim"
        )
    return "\n".join(lines)


def run_calibration(options: CalibrateOptions) -> tuple[ExitCode, str]:
    """Calibrate; return the exit code and the text for standard output."""
    return Calibration(options).perform()
