"""`python -m dvm_mpi calibrate`: what the steps of a rank cost here, from real runs, in a file.

It starts small jobs on one, two and four ranks with every step timed (`measured.py`), fits costs to
them (`sim/model/fit.py`), and writes these with their residuals. Then it predicts runs that were
left out of the fit and says how far off it is: what `simulate --job` says is worth no more.
"""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import Any, Final

import numpy as np

from dvm_mpi import __version__
from dvm_mpi.errors import ExitCode, FileError
from dvm_mpi.job.held_out import Compared, Runs, comparison_lines
from dvm_mpi.job.measuring import Case, Measuring, StepsRun, cores_here
from dvm_mpi.job.wide import wide_decisions
from dvm_mpi.model_options import CalibrateOptions
from dvm_mpi.sim.model.costs import Costs, Network
from dvm_mpi.sim.model.effort import STEPS
from dvm_mpi.sim.model.fit import fit_costs, proportional
from dvm_mpi.values import replace

#: What costs are fitted to.
_FITTED: Final = (
    Case("primes", {"LIMIT": "400000", "PARTS": "64"}),
    Case("treesum", {"N": "8192"}),
    Case("vectoradd", {"N": "2000000", "PARTS": "256"}),
)
#: On the most ranks also results that are in the records, of some kilobytes each; and the tree of
#: leaders, if there are enough ranks for one that has others to lead.
_FITTED_WIDE: Final = (Case("vectoradd", {"N": "400000", "PARTS": "256"}),)
_FITTED_LED: Final = (
    Case("primes", {"LIMIT": "400000", "PARTS": "64"}, ("--leaders", "1")),
    Case("treesum", {"N": "8192"}, ("--leaders", "1")),
)
_RANKS_LED_MIN: Final = 3


class Calibration:
    """One calibration: runs, fit, file, and the comparison."""

    def __init__(self, options: CalibrateOptions) -> None:
        self._options = options
        self._cores = cores_here()
        #: By job, what is fitted.
        self._runs: dict[str, list[StepsRun]] = {}
        self._messages: list[dict[str, float]] = []

    def perform(self) -> tuple[ExitCode, str]:
        """Do all of it; return the exit code and the text for standard output.

        Raises
        ------
        LaunchError, FileError
            Ranks cannot be started, or the file cannot be written.
        """
        options = self._options
        wanted, most = options.repetitions, max(options.ranks)
        compared: list[Compared] = []
        with Measuring(options.launcher, self._cores) as measuring:
            held_out = Runs(measuring, most)
            # The machine may be slower for a while: then it is for what is predicted as well.
            for _ in range(wanted):
                self._measure(measuring)
                if options.compare:
                    held_out.add_round()
            if options.compare:
                held_out.add_quiet(wanted)
            costs = self._fit()
            if options.compare:
                compared = held_out.compare(costs, options.data_plane, self._cores, wanted)
        told = [c.told() for c in compared]
        costs = replace(costs, residuals=costs.residuals | {"held_out": told})
        try:
            options.output.write_text(costs.to_json() + "\n", encoding="utf-8")
        except OSError as error:
            raise FileError(f"cannot write {options.output}: {error.strerror}") from error
        return ExitCode.OK, _summary(costs, compared, options.output)

    # --- fit ------------------------------------------------------------------------------------
    def _measure(self, measuring: Measuring) -> None:
        """Run once what is fitted."""
        most = max(self._options.ranks)
        if most > 1:
            self._messages.append(measuring.messages())
        cases = [(case, ranks) for case in _FITTED for ranks in self._options.ranks]
        cases += [(case, most) for case in _FITTED_WIDE]
        if most >= _RANKS_LED_MIN:
            cases += [(case, most) for case in _FITTED_LED]
        for case, ranks in cases:
            self._runs.setdefault(case.job, []).append(measuring.steps(case, ranks))

    def _fit(self) -> Costs:
        every = [run for of_job in self._runs.values() for run in of_job]
        samples = {step: np.concatenate([run.samples[step] for run in every]) for step in STEPS}
        steps, residuals = fit_costs(samples)
        steps["execute"], instruction_ns = _fit_slices(self._runs)
        within = Network(
            self._message("latency_ns"), self._message("byte_ns"), "measured between two ranks here"
        )
        costs = Costs(
            steps=steps,
            instruction_ns=instruction_ns,
            nap_extra_ns=self._message("nap_extra_ns"),
            within=within,
            between=within if self._options.is_between else None,
            provenance=self._provenance(every[0].started_at),
            residuals={"steps": residuals},
        )
        # Of what these ranks showed, decisions are priced as well as few workers allow; with that
        # many are simulated, and all of it together says what decisions take.
        samples["decide"] = np.concatenate([samples["decide"], wide_decisions(costs)])
        steps, residuals = fit_costs(samples)
        return replace(
            costs,
            steps=costs.steps | {"decide": steps["decide"]},
            residuals={"steps": residuals},
        )

    def _message(self, name: str) -> float:
        """Return what messages or naps took, the least of all rounds; 0 if there was no pair."""
        return min((told[name] for told in self._messages), default=0.0)

    def _provenance(self, made_at: str) -> dict[str, Any]:
        return {
            "made_at": made_at,
            "version": __version__,
            "commit": _commit(),
            "machine": f"{platform.machine()}, {self._cores} cores, {platform.system()} "
            f"{platform.release()}",
            "load": [round(load, 2) for load in os.getloadavg()],
            "launcher": self._options.launcher or "mpiexec",
            "fitted": [case.name for case in (*_FITTED, *_FITTED_WIDE, *_FITTED_LED)],
            "ranks": list(self._options.ranks),
        }


def _fit_slices(runs: dict[str, list[StepsRun]]) -> tuple[tuple[float, ...], dict[str, float]]:
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
    fitted = proportional(every[:, :-1], every[:, -1]).tolist()
    return tuple(fitted[:width]), dict(zip(jobs, fitted[width:], strict=True))


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
    lines += comparison_lines(compared)
    return "\n".join(lines)


def run_calibration(options: CalibrateOptions) -> tuple[ExitCode, str]:
    """Calibrate; return the exit code and the text for standard output."""
    return Calibration(options).perform()
