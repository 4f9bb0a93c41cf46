"""All workloads by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from dvm_mpi.sim.workloads import cells, isolation, runners, watching
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
    _workload("as many neighbours as a page has words", cells.one_page, {"RUNNERS": 512}),
    _workload("write sets of several pages", cells.large, {"RUNNERS": 6, "PAGES": 2}),
    _workload("a trap that only a winner may make", cells.trap, {"RUNNERS": 10}),
    _workload(
        "traps that depend on who is first",
        cells.stale_trap,
        {"RUNNERS": 16, "FATAL": 6},
    ),
    # --- isolation ------------------------------------------------------------------------------
    _workload(
        "runners load three cells and store a tag of their own into two",
        isolation.mix,
        {"RUNNERS": 8, "ROUNDS": 3, "CELLS": 6},
    ),
    _workload(
        "two look at both cells, each stores one",
        isolation.write_skew,
        {"PAIRS": 8},
        anomalies=frozenset({"write skew"}),
    ),
    _workload("stores that change nothing conflict and wake", isolation.silent, {"PAIRS": 8}),
    _workload(
        "readers agree about the order in which cells grew",
        isolation.long_fork,
        {"CELLS": 3, "WRITERS": 9, "READERS": 4, "READS": 4},
    ),
    _workload(
        "cells on pages of different homes hold one tag",
        isolation.invariants,
        {"CELLS": 4, "WRITERS": 6, "READERS": 3, "READS": 4},
    ),
    _workload("readers that sleep between two pages", isolation.sleepers, {"WRITERS": 6}),
    # --- runners --------------------------------------------------------------------------------
    _workload("runners that create runners, and abort", runners.chains, {"DEPTH": 4}),
    _workload("chains of runners side by side", runners.lines, {"CHAINS": 5, "LENGTH": 8}),
    _workload("one commit creates them all", runners.children, {"CHILDREN": 400}),
    _workload("explicit stacks and status pages", runners.stacks, {"CHILDREN": 6}),
    _workload("of an abort the status page is left", runners.aborts, {"RUNNERS": 8}),
    _workload("status pages tell of winners only", runners.status, {"RUNNERS": 9}),
    # --- watchers -------------------------------------------------------------------------------
    _workload(
        "flags that are set while watchers of them are created",
        watching.watchers,
        {"FLAGS": 6, "ANEW": 0},
    ),
    _workload("one watcher that keeps count", watching.counting_watcher, {"CELLS": 8}),
    _workload("every store wakes every watcher", watching.storm, {"WATCHERS": 5, "CELLS": 6}),
    _workload("instances that start one another", watching.relay, {"RELAYS": 4, "LAPS": 6}),
    _workload(
        "templates that are deleted while stores go on",
        watching.deleted,
        {"TEMPLATES": 6, "STORES": 6},
    ),
    _workload("sums in a tree of watchers", watching.tree, {"LEAVES": 12, "ANEW": 0}),
)

WORKLOADS: Final[dict[str, Workload]] = {workload.name: workload for workload in _ALL}
assert len(WORKLOADS) == len(_ALL), "two workloads have one name"
