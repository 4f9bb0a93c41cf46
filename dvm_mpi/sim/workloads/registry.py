"""All workloads by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from dvm_mpi.sim.workloads import cells, runners
from dvm_mpi.sim.workloads.workload import PROGRAMS, RunEnd, Workload


def _workload(
    summary: str,
    truth: Callable[[RunEnd], list[str]],
    defaults: Mapping[str, int],
    *,
    anomalies: frozenset[str] = frozenset(),
) -> Workload:
    """Return the workload whose program and name are those of its truth."""
    name = truth.__name__
    return Workload(name, summary, PROGRAMS / f"{name}.dasm", defaults, truth, anomalies)


_ALL: Final = (
    # --- cells ----------------------------------------------------------------------------------
    _workload("runners add 1, each to one of three neighbours", cells.counters, {"RUNNERS": 18}),
    _workload("transfers between eight accounts", cells.bank, {"TRANSFERS": 20}),
    _workload("runners append to one list", cells.append, {"RUNNERS": 12}),
    _workload("stores side by side, in three widths", cells.neighbours, {"RUNNERS": 24}),
    _workload("write sets of several pages", cells.large, {"RUNNERS": 6, "PAGES": 2}),
    _workload("a trap that only a winner may make", cells.trap, {"RUNNERS": 10}),
    # --- runners and watchers -------------------------------------------------------------------
    _workload("runners that create runners, and abort", runners.chains, {"DEPTH": 4}),
    _workload("explicit stacks and status pages", runners.stacks, {"CHILDREN": 6}),
    _workload(
        "flags that are set while watchers of them are created",
        runners.watchers,
        {"FLAGS": 6, "ANEW": 0},
    ),
    _workload("one watcher that keeps count", runners.counting_watcher, {"CELLS": 8}),
    _workload("readers that sleep between two pages", runners.sleepers, {"WRITERS": 6}),
)

WORKLOADS: Final[dict[str, Workload]] = {workload.name: workload for workload in _ALL}
assert len(WORKLOADS) == len(_ALL), "two workloads have one name"
