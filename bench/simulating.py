"""How many records a second the simulator gets through: the product's own parts, without MPI."""

from __future__ import annotations

import time

import numpy as np

from dvm_mpi.sim.simulation import Simulation, simulate
from dvm_mpi.sim.synthetic import SyntheticEngine, SyntheticWork

#: As `python -m dvm_mpi simulate --workload synthetic --ranks 1000 --check none` has them.
RANKS, LEAVES_PER_RANK, SEED = 1_000, 1_000, 1


def records_per_cpu_second(ranks: int = RANKS, leaves_per_rank: int = LEAVES_PER_RANK) -> float:
    """Return the records of one simulated run divided by its processor time."""
    work = SyntheticWork(SEED, ranks * leaves_per_rank)
    simulation = Simulation(ranks=ranks, seed=SEED, check="none", draws_fuel=False)
    began = time.process_time()
    run = simulate(simulation, work.image(), lambda: SyntheticEngine(work), records_history=False)
    took_s = time.process_time() - began
    total = sum(int(np.frombuffer(page, np.int64).sum()) for page in run.pages.values())
    assert work.wrong(total) == [], "the simulated machine lost stores"
    return run.records / took_s
