"""Which workloads are run, with which parameters, and how many seeds each gets."""

from __future__ import annotations

from dataclasses import dataclass, field

from dvm_mpi.disa.image import Image
from dvm_mpi.sim.workloads import WORKLOADS, Workload
from tests.sim.machine import Run


@dataclass(frozen=True, slots=True)
class Case:
    """One workload with its parameters, and how many seeds it gets."""

    name: str
    seeds: int
    defines: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.name, *self.defines])

    @property
    def workload(self) -> Workload:
        """The workload."""
        return WORKLOADS[self.name]

    @property
    def image(self) -> Image:
        """Its program, assembled."""
        return self.workload.image(self.defines)

    def wrong(self, run: Run, **modes: str) -> list[str]:
        """Return what the workload's truth says of a run; `modes` are those of the machine."""
        return self.workload.wrong(run.end(self.workload.parameters(self.defines)), **modes)


CASES = (
    Case("counters", 20),
    Case("bank", 15),
    Case("append", 20),
    Case("neighbours", 15),
    Case("watchers", 20),
    Case("watchers", 20, {"ANEW": 1}),
    Case("counting_watcher", 15),
    Case("chains", 15),
    Case("stacks", 15),
    Case("sleepers", 20),
    Case("large", 15),
    Case("trap", 10),
    Case("mix", 10),
    Case("write_skew", 5),
    Case("silent", 10),
    Case("long_fork", 10),
    Case("invariants", 10),
    Case("lines", 10),
    Case("children", 5, {"CHILDREN": 100}),
    Case("aborts", 5),
    Case("status", 5),
    Case("storm", 5),
    Case("relay", 5),
    Case("deleted", 5),
    Case("tree", 3),
    Case("tree", 5, {"ANEW": 1}),
    Case("one_page", 2),
    Case("stale_trap", 5),
)
assert sum(case.seeds for case in CASES) == 300
