"""Costs that tests are made with: round numbers, which nobody has measured."""

from __future__ import annotations

from dvm_mpi.sim.model.costs import Costs, Network
from dvm_mpi.sim.model.effort import STEPS

#: Ten microseconds for each step, a tenth for each unit of what it moves.
ROUND = Costs(
    steps={step: (10_000.0, *(100.0,) * (len(names) - 1)) for step, names in STEPS.items()},
    instruction_ns={"primes": 2.0},
    nap_extra_ns=50_000.0,
    within=Network(1_000.0, 0.0, "a test"),
)
#: Everything but instructions is free.
FREE = Costs(
    steps={step: (0.0,) * len(names) for step, names in STEPS.items()},
    instruction_ns={},
    nap_extra_ns=0.0,
    within=Network(0.0, 0.0, "a test"),
)
#: Between hosts: 2 µs, a gigabyte in a second.
BETWEEN = Network(2_000.0, 1.0, "a test")
