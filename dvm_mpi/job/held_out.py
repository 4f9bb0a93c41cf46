"""Runs that were left out of a fit: measured, predicted, and how far off the prediction is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.disa.image_file import open_program
from dvm_mpi.engine.interface import LoadTracking
from dvm_mpi.job.measuring import Case, Measuring, StepsRun, TurnsRun
from dvm_mpi.job.parts import say
from dvm_mpi.sim.model.costs import Costs
from dvm_mpi.sim.model.predict import Job, Prediction, predict
from dvm_mpi.sim.model.priced import Site
from dvm_mpi.sim.simulation import ENGINE_SETTINGS
from dvm_mpi.values import dataclass, replace

#: Other jobs than those of the fit, and one of these with a problem of another size.
HELD_OUT: Final = (
    Case("kmeans", {"N": "200000", "PARTS": "64", "ITERATIONS": "8", "LABELS": "0"}),
    Case("stencil", {"ROWS": "512", "COLS": "512", "ITERATIONS": "20"}),
    Case("matmul", {"TILES": "6", "TILE": "64"}),
    Case("primes", {"LIMIT": "1000000", "PARTS": "96"}),
)
_BYTES_PER_MB: Final = 1e6


@dataclass(frozen=True, slots=True)
class Both:
    """A figure, as measured and as predicted."""

    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """How far off the prediction is, as a share of what was measured."""
        return self.predicted / max(self.measured, 1e-12) - 1


@dataclass(frozen=True, slots=True)
class Compared:
    """A case that was left out: medians of its runs, and what the model says.

    `time_s` is by the clock, `processor_s` of all ranks; `rank0_busy` a share of the time.
    """

    name: str
    ranks: int
    runs: int
    #: What other processes had of the processors meanwhile, as a share.
    others_share: float
    time_s: Both
    processor_s: Both
    rank0_busy: Both
    buffers: Both
    messages: Both
    moved_bytes: Both

    def told(self) -> dict[str, Any]:
        """Return it for the file of the costs; `error` is that of the time."""
        return asdict(self) | {
            "error": self.time_s.error,
            "processor_error": self.processor_s.error,
        }


class Runs:
    """Runs of what was left out, made in rounds, so that all of them see the same machine."""

    def __init__(self, measuring: Measuring, ranks: int) -> None:
        self._measuring = measuring
        self._ranks = ranks
        #: By case: on one rank with steps, and on all with turns timed.
        self._alone: dict[str, list[StepsRun]] = {case.name: [] for case in HELD_OUT}
        self._together: dict[str, list[TurnsRun]] = {case.name: [] for case in HELD_OUT}

    def add_round(self) -> None:
        """Run every case once on one rank, and once on all."""
        for case in HELD_OUT:
            self._alone[case.name].append(self._measuring.steps(case, 1))
            self._together[case.name].append(self._measuring.turns(case, self._ranks))

    def add_quiet(self, wanted: int) -> None:
        """Run cases on all ranks again, until so many runs of each were disturbed by nobody.

        There are `MODEL_RUNS_MAX` times as many at most.
        """
        for _ in range(wanted * (config.MODEL_RUNS_MAX - 1)):
            for case in HELD_OUT:
                quiet = [r for r in self._together[case.name] if _is_quiet(r)]
                if len(quiet) < wanted:
                    self._together[case.name].append(self._measuring.turns(case, self._ranks))

    def compare(self, costs: Costs, plane: str, cores: int, wanted: int) -> list[Compared]:
        """Predict every case, and compare it with the `wanted` runs that others disturbed least.

        What an instruction takes is measured on one rank, and entered into the costs; and what
        others had of the processors is taken as it was. All else is predicted. All ranks share
        `cores`.
        """
        compared = []
        for case in HELD_OUT:
            alone, together = self._alone[case.name], self._together[case.name]
            instruction_ns = _instruction_ns(costs, np.concatenate([r.slices for r in alone]))
            costs.instruction_ns[case.job] = instruction_ns
            chosen = least_disturbed(together, wanted)
            site = Site(
                costs,
                costs.within,
                ranks_per_host=self._ranks,
                cores=cores,
                instruction_ns=instruction_ns,
                others_share=_others_share(chosen),
            )
            found = predict_program(case, self._ranks, site, plane)
            compared.append(compared_runs(case.name, self._ranks, chosen, found))
        return compared


def least_disturbed(runs: Sequence[TurnsRun], wanted: int) -> list[TurnsRun]:
    """Return the runs while which others had least of the processors; `wanted` at most."""
    return sorted(runs, key=lambda run: run.others_share)[:wanted]


def _others_share(runs: Sequence[TurnsRun]) -> float:
    return median(run.others_share for run in runs)


def _is_quiet(run: TurnsRun) -> bool:
    return run.others_share <= config.MODEL_OTHERS_MAX


def compared_runs(name: str, ranks: int, runs: Sequence[TurnsRun], found: Prediction) -> Compared:
    """Return medians of runs beside what was predicted of them."""

    def both(measured: Callable[[TurnsRun], float], predicted: float) -> Both:
        return Both(float(median(measured(run) for run in runs)), predicted)

    return Compared(
        name=name,
        ranks=ranks,
        runs=len(runs),
        others_share=_others_share(runs),
        time_s=both(lambda run: run.work_s, found.work_s),
        processor_s=both(lambda run: run.processor_s, found.processor_s),
        rank0_busy=both(lambda run: run.rank0_s / run.work_s, found.rank0_busy),
        buffers=both(lambda run: run.buffers, found.buffers),
        messages=both(lambda run: run.messages, found.messages),
        moved_bytes=both(lambda run: run.moved_bytes, found.moved_bytes),
    )


def predict_program(case: Case, ranks: int, site: Site, plane: str) -> Prediction:
    """Predict a case by running its program in the model."""
    from dvm_mpi.engine.interp import InterpEngine

    say(f"dvm: predicting {case.name} on {ranks} ranks")
    image = open_program(case.program, case.defines)
    settings = replace(ENGINE_SETTINGS, loads=LoadTracking.NONE)
    job = Job(case.name, image, lambda: InterpEngine(settings))
    return predict(job, ranks, site, plane=plane)


def _instruction_ns(costs: Costs, rows: NDArray[np.float64]) -> float:
    """Return what an instruction takes, beside what slices, of `StepsRun`, take else."""
    others = float((rows[:, :-2] @ np.array(costs.steps["execute"])).sum())
    return max(float(rows[:, -1].sum()) - others, 0.0) / max(float(rows[:, -2].sum()), 1.0)


def comparison_lines(compared: Sequence[Compared]) -> list[str]:
    """Return the comparison as a table, and what it is worth; nothing if nothing was compared."""
    if not compared:
        return []
    lines = [
        "runs that were left out of the fit: measured, predicted, error",
        f"  {'time':>24} {'processor time':>24} {'rank 0 busy':>12} {'messages':>15}"
        f" {'MB':>13} {'others':>7}",
    ]
    for c in compared:
        lines.append(f"  {c.name}, {c.ranks} ranks, median of {c.runs}")
        figures = " ".join(
            f"{both.measured:>7.3f} {both.predicted:>7.3f} s {both.error:>+6.0%}"
            for both in (c.time_s, c.processor_s)
        )
        moved = f"{c.moved_bytes.measured / _BYTES_PER_MB:>6.1f}"
        moved += f" {c.moved_bytes.predicted / _BYTES_PER_MB:>6.1f}"
        lines.append(
            f"  {figures} {c.rank0_busy.measured:>5.0%} {c.rank0_busy.predicted:>6.0%} "
            f"{c.messages.measured:>7,.0f} {c.messages.predicted:>7,.0f} {moved} "
            f"{c.others_share:>7.0%}"
        )
    return [*lines, worth([c.told() for c in compared])]


def worth(held_out: Sequence[dict[str, Any]]) -> str:
    """Say what costs are good for, from the comparisons in their file."""
    if not held_out:
        return "no claim: these costs were not compared with runs that they were not fitted to"
    worst = max(abs(row["error"]) for row in held_out)
    processor = max(abs(row.get("processor_error", row["error"])) for row in held_out)
    others = max(row.get("others_share", 0.0) for row in held_out)
    told = f"predicted within {worst:.0%} (processor time: {processor:.0%})"
    if others > config.MODEL_OTHERS_MAX:
        return (
            f"no claim: when runs were measured that these costs were not fitted to, others had "
            f"{others:.0%} of the processors; beside them the runs were {told}"
        )
    if worst > config.MODEL_ERROR_MAX:
        return (
            f"no claim: runs that these costs were not fitted to were {told}, and no better than "
            f"{config.MODEL_ERROR_MAX:.0%}"
        )
    return f"runs that these costs were not fitted to were {told}"
