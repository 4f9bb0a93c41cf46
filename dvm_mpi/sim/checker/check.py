"""The verdict on a run: anomalies that loads show alone, then the shortest cycle.

Without a claimed order a verdict is a proof unless it says how much is undecided: every anomaly is
one, whatever the rest may be; a clean run with `is_complete` has an order that explains it.
With a claimed order the order is judged with the run, and at the level of snapshots the verdict is
always complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dvm_mpi.sim.checker.claim import Claim
from dvm_mpi.sim.checker.graph import DependencyGraph
from dvm_mpi.sim.checker.observation import Anomaly, Edge, Kind, Level, Observations
from dvm_mpi.sim.checker.precedence import Choice, ClaimedOrder, Precedence
from dvm_mpi.sim.checker.search import Search
from dvm_mpi.sim.checker.versions import VersionTable
from dvm_mpi.sim.checker.words import Words
from dvm_mpi.values import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found.

    `ambiguous` counts loads that several versions explain and from which nothing followed,
    `undecided` pairs of stores whose order nothing tells.
    """

    level: Level
    attempts: int
    loads: int
    anomaly: Anomaly | None
    ambiguous: int = 0
    undecided: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether nothing that the run did was left out."""
        return self.anomaly is not None or not (self.ambiguous or self.undecided)

    def __str__(self) -> str:
        run = f"{self.attempts:,} attempts with {self.loads:,} loads"
        if self.anomaly is not None:
            return f"no {self.level.value}: {self.anomaly}"
        left = [
            f"{count:,} {what}"
            for count, what in (
                (self.ambiguous, "loads with several possible authors"),
                (self.undecided, "pairs of stores in unknown order"),
            )
            if count
        ]
        return f"{self.level.value}: {run}" + (f"; left out: {', '.join(left)}" if left else "")


def check(
    observations: Observations,
    level: Level,
    *,
    order: Sequence[int] | None = None,
    name: Callable[[int], str] | None = None,
) -> Verdict:
    """Judge a run.

    Parameters
    ----------
    observations
        What its attempts loaded and stored.
    level
        What it is measured against. Attempts that did not commit saw snapshots too; they do not
        count for serializability.
    order
        The numbers of all committed attempts in the order that the machine claims; None to judge
        by values only.
    name
        What to call an address; hexadecimal if None.
    """
    return _Check(observations, level, order, name).verdict()


class _Check:
    """One run under judgement."""

    def __init__(
        self,
        observations: Observations,
        level: Level,
        order: Sequence[int] | None,
        name: Callable[[int], str] | None,
    ) -> None:
        self._observations = observations
        self._level = level
        self._committed = {a.number for a in observations.attempts if a.is_committed}
        self._position = None
        if order is not None:
            self._position = {number: at for at, number in enumerate(order, 1)}
            assert self._position.keys() == self._committed, "the order has all commits, once each"
            assert len(order) == len(self._position), "the order has all commits, once each"
        self._words = Words(observations, name)
        self._judged = [
            attempt
            for attempt in observations.attempts
            if attempt.is_committed or level is Level.SNAPSHOT
        ]
        self._table = VersionTable(observations, self._judged, self._words)

    def verdict(self) -> Verdict:
        """Judge by what is cheapest first."""
        last = self._table.last_writers()
        graph = DependencyGraph(self._level)
        if self._table.anomalies:
            return self._found(min(self._table.anomalies, key=_size))
        graph.add(self._sessions())
        if self._position is not None:
            return self._judge_claim(graph, self._position)
        precedence = Precedence(self._table, last)
        precedence.enter(graph)
        cycle = graph.shortest_cycle()
        if cycle is not None:
            return self._found(self._words.cycle(cycle))
        return self._judge_open(graph, precedence)

    def _judge_open(self, graph: DependencyGraph, precedence: Precedence) -> Verdict:
        """Look for an order of the stores that nobody saw."""
        search = Search(graph, precedence.choices)
        found = search.solve()
        if found is False:
            return self._found(self._contradiction(graph, search.contradiction))
        undecided = precedence.undecided + (0 if found else len(precedence.choices))
        return self._found(None, undecided, self._table.ambiguous_count)

    def _judge_claim(self, graph: DependencyGraph, position: dict[int, int]) -> Verdict:
        claimed = ClaimedOrder(self._table, position)
        claimed.enter(graph)
        anomalies = [
            self._words.from_future(reader, cell, author)
            for reader, cell, author in claimed.from_future
        ]
        final = self._observations.final
        anomalies += [
            self._words.lost_stores(cell, writer, final[cell])
            for cell, writer in claimed.last_writers()
            if cell in final and not self._table.may_have_stored(cell, writer, final[cell])
        ]
        if anomalies:
            return self._found(min(anomalies, key=_size))
        cycle = graph.shortest_cycle()
        if cycle is not None:
            return self._found(self._words.cycle(cycle))
        if self._level is Level.SERIALIZABLE:
            return self._found(None, ambiguous=self._table.ambiguous_count)
        claim = Claim(self._observations, self._table, position, self._words)
        return self._found(claim.first_without_snapshot())

    def _sessions(self) -> list[Edge]:
        judged = {attempt.number for attempt in self._judged}
        return [
            Edge(before, after, Kind.SESSION, None, why)
            for before, after, why in self._observations.sessions
            if before in self._committed and after in judged
        ]

    def _contradiction(self, graph: DependencyGraph, choice: Choice | None) -> Anomaly:
        """Tell why no order of some stores is possible."""
        if choice is None:
            return Anomaly("no order of stores", (), ("every order of the stores makes a cycle",))
        stories = []
        for edges in choice.edges:
            replaced = graph.add(edges)
            cycle = graph.shortest_cycle()
            graph.undo(replaced)
            assert cycle is not None, "neither way is possible"
            stories.append(self._words.cycle(cycle))
        one, other = (chain.head for chain in choice.chains)
        where = self._words.cell(choice.cell)
        lines = [f"attempts {one} and {other} both stored to {where}"]
        for first, second, story in ((one, other, stories[0]), (other, one, stories[1])):
            lines.append(f"if {first} came before {second}, {story.kind}:")
            lines += [f"  {line}" for line in story.lines]
        attempts = sorted({*stories[0].attempts, *stories[1].attempts})
        return Anomaly(f"{stories[0].kind}, in any order", tuple(attempts), tuple(lines))

    def _found(self, anomaly: Anomaly | None, undecided: int = 0, ambiguous: int = 0) -> Verdict:
        loads = sum(len(attempt.loads) for attempt in self._judged)
        return Verdict(self._level, len(self._judged), loads, anomaly, ambiguous, undecided)


def _size(anomaly: Anomaly) -> tuple[int, tuple[int, ...]]:
    return len(anomaly.attempts), anomaly.attempts
