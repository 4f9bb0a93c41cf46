"""The order of stores that nobody saw: whether there is any that makes no forbidden cycle.

Each open pair of chains goes one way or the other. A way that closes a cycle is impossible, so the
other one is certain, and may decide further pairs; where both ways are possible, one is tried. That
may take long, since the question is NP-hard: after `LOOKS_MAX` looks the search gives up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dvm_mpi.sim.checker.graph import DependencyGraph, Replaced
from dvm_mpi.sim.checker.observation import Edge
from dvm_mpi.sim.checker.precedence import Choice

#: How often a cycle is looked for.
LOOKS_MAX: Final = 20_000


class Search:
    """Looks for an order in a graph without cycles, which it leaves as it was if there is none.

    After `solve` `contradiction` is the pair for which certain edges alone leave no way, if there
    is such a pair, and the graph has those edges.
    """

    def __init__(self, graph: DependencyGraph, choices: Sequence[Choice]) -> None:
        self.contradiction: Choice | None = None
        self._graph = graph
        self._choices = list(choices)
        self._looks = 0

    def solve(self) -> bool | None:
        """Say whether there is an order; None if that was not found out."""
        if not self._choices or self._try_one_order():
            return True
        left = self._propagate(self._choices, [])
        if left is None:
            return False
        self.contradiction = None
        return self._decide(left)

    def _try_one_order(self) -> bool:
        """Take every pair as one order of all attempts has it: most often that is good."""
        place = self._graph.order()
        added = []
        for choice in self._choices:
            (one, other), (forwards, backwards) = choice.chains, choice.edges
            is_forwards = place.get(one.tail, 0) <= place.get(other.head, 0)
            added.append(self._graph.add(forwards if is_forwards else backwards))
        if self._graph.is_free_of_cycles():
            return True
        for replaced in reversed(added):
            self._graph.undo(replaced)
        return False

    def _decide(self, choices: list[Choice]) -> bool | None:
        """Decide the first pair and what follows from it; go back where that leads nowhere."""
        if not choices:
            return True
        if self._looks > LOOKS_MAX:
            return None
        first, *others = choices
        for edges in first.edges:
            trail = [self._graph.add(edges)]
            left = self._propagate(others, trail)
            found = False if left is None else self._decide(left)
            if found is not False:
                return found
            for replaced in reversed(trail):
                self._graph.undo(replaced)
        return False

    def _propagate(self, choices: list[Choice], trail: list[list[Replaced]]) -> list[Choice] | None:
        """Enter what has become certain; return the pairs that are open, None if one has no way."""
        is_changed = True
        while is_changed and self._looks <= LOOKS_MAX:
            is_changed = False
            still_open = []
            for choice in choices:
                ways = [edges for edges in choice.edges if self._is_possible(edges)]
                if not ways:
                    self.contradiction = choice
                    return None
                if len(ways) == 1:
                    trail.append(self._graph.add(ways[0]))
                    is_changed = True
                else:
                    still_open.append(choice)
            choices = still_open
        return choices

    def _is_possible(self, edges: Sequence[Edge]) -> bool:
        self._looks += 1
        replaced = self._graph.add(edges)
        closes = self._graph.has_cycle_through(edges)
        self._graph.undo(replaced)
        return not closes
