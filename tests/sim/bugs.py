"""Faults planted in the real objects, each one a rule of the machine left out.

Every one of them runs without an error most of the time. They show that those who judge runs
(replay, rules, truths of the workloads) would notice. `python -m tests.sim.table` prints which of
them tells what, and how soon.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import Engine, EngineSettings, LoadTracking
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.sim.checker.check import Verdict, check
from dvm_mpi.sim.checker.observation import Level
from dvm_mpi.sim.checker.observe import observe
from dvm_mpi.sim.simulation import EAGER
from dvm_mpi.sim.workloads import WORKLOADS
from tests.sim.bugs_commit import (
    AppliedBeforeAllArrived,
    BytesBeyondEnds,
    ChildrenOfLosers,
    ConflictsOfPages,
    ConsoleOfLosers,
    ConsoleReversed,
    EarlyRetries,
    LeftInSleep,
    NoConflicts,
    NoFencing,
    NoPrecedence,
    NotAsked,
    OvertakingEpochs,
    RecalledBesideLater,
    StatusPagesLost,
    TrapsOfLosers,
    VisibleTooSoon,
)
from tests.sim.bugs_leaders import AnswersForHomes, BytesMixedUp, GrantsMixedUp
from tests.sim.bugs_memory import (
    BlocksTwice,
    EmptyFrames,
    FramesInPlace,
    FreedUnderPins,
    IdsTwice,
    LeftoverEngine,
    NewestPages,
    PageImages,
    PublishingAborts,
    RangesOfPages,
    SilentStoresDropped,
    StagedPartsLost,
    StaleCacheEngine,
    UncleanFrames,
)
from tests.sim.bugs_moves import AnsweredBeforePagesCame, DroppedWhenHanded, StoresLeftBehind
from tests.sim.bugs_runners import (
    CancelForgotten,
    DeletionForgotten,
    DoubleInstances,
    EarlyChildren,
    EarlySnapshots,
    EarlyWaking,
    EmptyStacks,
    InstancesWakeNobody,
    LateArming,
    LocatedAsBefore,
    LostTriggers,
    MergedIntoRunning,
    OwnCommitWakes,
    SentAhead,
)
from tests.sim.machine import OBSERVING, Run, simulate, simulate_in_time

#: Write sets are staged at the homes whatever their size, in parts of at most 256 bytes.
_STAGED: Final = {"inline_bytes_max": 4, "arena_slice_bytes": 512}
#: Blocks of pages move home whenever somebody else has stored most of them.
_MOVING: Final = {"migration": EAGER}


@dataclass(frozen=True, slots=True)
class Bug:
    """A fault, the workload that shows it, and how soon that must be noticed."""

    workload: str
    #: Some line that is told about it contains this.
    told: str
    seeds_max: int
    #: Parts of a LocalMachine that have it.
    parts: Mapping[str, type] = field(default_factory=dict)
    make_engine: Callable[[EngineSettings], Engine] = ReferenceEngine
    settings: Mapping[str, Any] = field(default_factory=dict)
    defines: Mapping[str, int] = field(default_factory=dict)
    #: What goes wrong beside it, in simulated time; none: an order of events is drawn.
    faults: frozenset[str] = frozenset()
    #: Leaders between rank 0 and the others, in simulated time.
    leaders: int = 0

    @property
    def image(self) -> Image:
        """The workload's program."""
        return WORKLOADS[self.workload].image(self.defines)

    def run(self, seed: int) -> Run:
        """Run the workload with the fault in place."""
        if self.faults or self.leaders:
            return simulate_in_time(self.image, seed, self.faults, self.parts, self.leaders)
        return simulate(
            self.image,
            seed,
            settings=self.settings,
            parts=self.parts,
            tracking=LoadTracking.CONTENT,
            make_engine=lambda: self.make_engine(OBSERVING),
        )

    def run_without(self, seed: int) -> Run:
        """Run the same without the fault."""
        if self.faults or self.leaders:
            return simulate_in_time(self.image, seed, self.faults, leaders=self.leaders)
        return simulate(self.image, seed, settings=self.settings, tracking=LoadTracking.CONTENT)

    def verdict(self, run: Run) -> Verdict:
        """Return what the checker says of a run's values."""
        observations, _ = observe(run.history, run.image)
        return check(observations, Level.SNAPSHOT)

    def wrong(self, run: Run) -> list[str]:
        """Return what the workload's truth says."""
        workload = WORKLOADS[self.workload]
        return workload.wrong(run.end(workload.parameters(self.defines)))


def _coordinator(part: type, workload: str, told: str, seeds_max: int, **options: Any) -> Bug:
    return Bug(workload, told, seeds_max, {"make_scheduler": part}, **options)


def _home(part: type, workload: str, told: str, seeds_max: int, **options: Any) -> Bug:
    return Bug(workload, told, seeds_max, {"make_home": part}, **options)


def _leader(part: type, workload: str, told: str, seeds_max: int, **options: Any) -> Bug:
    return Bug(workload, told, seeds_max, {"make_leader": part}, leaders=2, **options)


def _engine(engine: type, workload: str, told: str, seeds_max: int, **options: Any) -> Bug:
    return Bug(workload, told, seeds_max, make_engine=engine, **options)


BUGS: Final = {
    # --- snapshots ------------------------------------------------------------------------------
    "read latest": _home(NewestPages, "long_fork", "stores was", 5),
    "early snapshot": _coordinator(EarlySnapshots, "lines", "before its parent's", 3),
    "frame written in place": _home(FramesInPlace, "long_fork", "stores was", 5),
    "freed under a pin": _home(FreedUnderPins, "counters", "was", 8),
    "directory entry before frame": _home(
        EmptyFrames, "lines", "stores was", 5, settings={"plane": "message"}
    ),
    "stale page kept": _engine(StaleCacheEngine, "mix", "was", 2),
    "located as before": _coordinator(LocatedAsBefore, "long_fork", "stores was", 3),
    "leftover private memory": _engine(LeftoverEngine, "storm", "was", 5),
    "frame not clean": _home(UncleanFrames, "counting_watcher", "holds", 3),
    # --- commits --------------------------------------------------------------------------------
    "no write-write check": _coordinator(NoConflicts, "counters", "after its snap", 3),
    "conflict range off by one": _coordinator(BytesBeyondEnds, "silent", "after its snap", 5),
    "conflicts of whole pages": _coordinator(ConflictsOfPages, "neighbours", "lost to nobody", 3),
    "page image": _home(PageImages, "neighbours", "holds", 3),
    "silent store dropped": _engine(SilentStoresDropped, "silent", "stores was", 3),
    "staged part lost": _home(StagedPartsLost, "large", "loads was", 3, settings=_STAGED),
    "applied before all arrived": _home(
        AppliedBeforeAllArrived, "large", "holds", 4, settings=_STAGED
    ),
    "epochs overtaking": _coordinator(OvertakingEpochs, "long_fork", "stores was", 20),
    "visible before all homes applied": _coordinator(VisibleTooSoon, "invariants", " holds ", 6),
    "early retry": _coordinator(EarlyRetries, "counters", "which it had lost to", 3),
    "no precedence": _coordinator(
        NoPrecedence, "append", "lost 7 times", 2, defines={"RUNNERS": 30}
    ),
    "no fencing": _coordinator(
        NoFencing, "bank", "after its snapshot", 12, faults=frozenset({"suspect", "pause", "slow"})
    ),
    "recalled without asking": _coordinator(
        NotAsked, "counters", "came back before", 6, settings={"recall_fuel_min": 0}
    ),
    "trap of a loser": _coordinator(TrapsOfLosers, "stale_trap", "trapped, though", 8),
    # --- runners --------------------------------------------------------------------------------
    "early child": _coordinator(EarlyChildren, "chains", "before its parent's", 6),
    "sent ahead": _coordinator(
        SentAhead, "lines", "stores was", 8, faults=frozenset({"pause", "slow"})
    ),
    "child of a loser": _coordinator(ChildrenOfLosers, "sleepers", "no commit created", 3),
    "stack of a retry empty": _coordinator(EmptyStacks, "silent", "was not given what", 3),
    "id given out twice": _coordinator(IdsTwice, "mix", "given out twice", 3),
    "ranges rounded to pages": _coordinator(RangesOfPages, "counters", "was not given what", 3),
    "block given out twice": _coordinator(BlocksTwice, "aborts", "given out twice", 6),
    "abort's stores published": _engine(PublishingAborts, "aborts", "holds", 3),
    "abort's status page lost": _coordinator(StatusPagesLost, "status", "holds", 3),
    "left in sleep": _coordinator(LeftInSleep, "sleepers", "ended 0 times", 3),
    # --- watchers -------------------------------------------------------------------------------
    "armed at commit": _coordinator(LateArming, "watchers", "slept through", 4),
    "early waking": _coordinator(EarlyWaking, "relay", "without a commit since", 3),
    "lost trigger": _coordinator(LostTriggers, "tree", "slept through", 5),
    "merged wake lost": _coordinator(MergedIntoRunning, "storm", "slept through", 4),
    "double instance": _coordinator(
        DoubleInstances,
        "storm",
        "without a commit since",
        4,
        settings={"workers": 3},
        defines={"CELLS": 12, "WATCHERS": 2},
    ),
    "recalled beside a later one": _coordinator(
        RecalledBesideLater, "storm", "without a commit since", 4, settings={"recall_fuel_min": 0}
    ),
    "own commit wakes": _coordinator(OwnCommitWakes, "aborts", "without a commit since", 3),
    "instances wake nobody": _coordinator(InstancesWakeNobody, "relay", "slept through", 3),
    "deletion forgotten": _coordinator(DeletionForgotten, "deleted", "after its deletion", 5),
    "cancel forgotten": _coordinator(
        CancelForgotten,
        "deleted",
        "after its deletion",
        6,
        settings={"homes": 8, "workers": 4},
        defines={"STORES": 7},
    ),
    # --- moves ----------------------------------------------------------------------------------
    "dropped when handed over": _home(DroppedWhenHanded, "long_fork", " was ", 6, settings=_MOVING),
    "answered before pages came": _home(
        AnsweredBeforePagesCame, "invariants", " was ", 6, settings=_MOVING
    ),
    "stores left behind": _home(StoresLeftBehind, "large", " was ", 6, settings=_MOVING | _STAGED),
    # --- leaders --------------------------------------------------------------------------------
    "joined bytes mixed up": _leader(BytesMixedUp, "neighbours", "stores was", 4),
    "ranges of another batch": _leader(GrantsMixedUp, "counters", "was not given what", 3),
    "leader answers for homes": _leader(AnswersForHomes, "invariants", " was ", 6),
    # --- output ---------------------------------------------------------------------------------
    "console of a loser": _coordinator(ConsoleOfLosers, "counters", "the console has", 3),
    "console out of order": _coordinator(ConsoleReversed, "counters", "the console has", 8),
}
