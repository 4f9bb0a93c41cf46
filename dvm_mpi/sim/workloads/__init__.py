"""Racing programs, each with a truth that holds in whatever order events come."""

from dvm_mpi.sim.workloads.registry import WORKLOADS
from dvm_mpi.sim.workloads.workload import RunEnd, Workload

__all__ = ["WORKLOADS", "RunEnd", "Workload"]
