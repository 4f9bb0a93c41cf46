"""What decisions about many workers take: about more than a calibration has ranks for.

Of four ranks a message has a few batches; of thousands, hundreds. The coordinator of a simulated
machine is the real one, and what it takes to decide is the same wherever its messages come from:
so it is timed there, with as many ranks as it needs.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.job.parts import say
from dvm_mpi.job.predicting import job_of
from dvm_mpi.sim.model.costs import NETWORKS, Costs
from dvm_mpi.sim.model.effort import STEPS, Amounts
from dvm_mpi.sim.model.predict import predict
from dvm_mpi.sim.model.priced import PricedMachine, Site
from dvm_mpi.sim.model.shapes import make_shape

#: Simulated ranks, and what each of their runners executes; the first warms up, and does not count.
_CASES: Final = ((64, 400_000), (256, 4_000_000), (1_024, 4_000_000))
#: Runners for each rank: some deals while the queue is long, and the last ones, of few.
_RUNNERS_OF_RANK: Final = 30
_NETWORK: Final = "ib-fdr"
_STEP: Final = "decide"


class DecisionProbe:
    """Times each decision of a simulated machine's coordinator.

    What the machine itself does with the messages is left out.
    """

    def __init__(self, machine: PricedMachine) -> None:
        #: Amounts and nanoseconds of each decision.
        self.rows: list[tuple[float, ...]] = []
        self._took_ns = 0
        self._handle = machine.scheduler.handle
        self._spend_on: Callable[[str, Amounts], None] = machine._spend_on
        machine.scheduler.handle = self._decide  # type: ignore[method-assign]
        machine._spend_on = self._price  # type: ignore[method-assign]

    def _decide(self, event: Any) -> Any:
        began_ns = time.thread_time_ns()
        actions = self._handle(event)
        self._took_ns += time.thread_time_ns() - began_ns
        return actions

    def _price(self, step: str, amounts: Amounts) -> None:
        if step == _STEP:
            self.rows.append((*amounts, self._took_ns))
        if step in {_STEP, "hear"}:
            self._took_ns = 0
        self._spend_on(step, amounts)


def wide_decisions(costs: Costs) -> NDArray[np.float64]:
    """Return decisions about many workers: rows of amounts, and the nanoseconds they took.

    `costs`: of what else happens in the machines that are simulated.
    """
    rows: list[tuple[float, ...]] = []
    for ranks, instructions in _CASES:
        say(f"dvm: measuring decisions about {ranks:,} simulated ranks")
        timed = time_decisions(costs, ranks, instructions)
        # Memory and compiled code that a coordinator takes once are not what a decision costs.
        rows += timed if (ranks, instructions) != _CASES[0] else []
    return np.array(rows, np.float64).reshape(-1, len(STEPS[_STEP]) + 1)


def time_decisions(costs: Costs, ranks: int, instructions: int) -> list[tuple[float, ...]]:
    """Return the decisions of one run: a parent creates runners of so many instructions."""
    given = {"INSTRUCTIONS": instructions, "RUNNERS": ranks * _RUNNERS_OF_RANK, "PARENTS": 1}
    site = Site(costs, NETWORKS[_NETWORK])
    probes: list[DecisionProbe] = []

    def watch(machine: PricedMachine) -> None:
        probes.append(DecisionProbe(machine))

    # As in a run of ranks, where no search for garbage is in a decision.
    gc.disable()
    try:
        predict(job_of("empty", make_shape("empty", given)), ranks, site, watch=watch)
    finally:
        gc.enable()
    return probes[0].rows
