"""Attempts and what comes before what, as a graph, and the shortest cycle in it; networkx's door.

Serializable means that there is no cycle. Snapshot isolation forbids exactly the cycles in which no
two `rw` edges follow each other (Cerone and Gotsman, "Analysing snapshot isolation", 2018). So for
snapshots each attempt has two nodes: one that an `rw` edge has led to, from where no second one
goes on, and one for all other edges. Forbidden cycles are then the cycles of the graph.

A *joint* is a node that is no attempt: n edges into it and m out of it stand for n x m. An edge
into a joint keeps its kind; the edges out of it (`fan`) say nothing of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from dvm_mpi.sim.checker.observation import Edge, Kind, Level

if TYPE_CHECKING:
    import networkx

#: A place in the graph, and the edge that was there before.
Replaced = tuple[tuple[int, int], Edge | None]

#: A short cycle counts first, then one with few `rw` edges.
_EDGE_WEIGHT: Final = 1_000
_RW_WEIGHT: Final = 1
_UNBOUNDED: Final = 2**62
#: Nodes from which a shortest cycle is looked for in each knot of the graph. In a larger knot the
#: cycle that is told may not be the very shortest.
STARTS_MAX: Final = 50


class DependencyGraph:
    """Edges between attempts, for one level of isolation."""

    def __init__(self, level: Level) -> None:
        import networkx  # noqa: PLC0415 - only who judges a run needs it

        self._nx = networkx
        self._graph: networkx.DiGraph[int] = networkx.DiGraph()
        self._states = 2 if level is Level.SNAPSHOT else 1
        self._joint = 0

    # --- building -------------------------------------------------------------------------------
    def new_joint(self) -> int:
        """Return a target for edges, from where `fan` leads on."""
        self._joint -= 1
        return self._joint

    def add(self, edges: Iterable[Edge]) -> list[Replaced]:
        """Enter edges; return what `undo` needs.

        Where two edges join the same attempts, the one whose kind comes first is kept.
        """
        replaced: list[Replaced] = []
        adjacency = self._graph.adj
        for edge in edges:
            for arc in self._arcs(edge):
                known = adjacency[arc[0]].get(arc[1]) if arc[0] in adjacency else None
                if known is None:
                    replaced.append((arc, None))
                elif known["edge"].kind > edge.kind:
                    replaced.append((arc, known["edge"]))
                else:
                    continue
                self._enter(arc, edge)
        return replaced

    def undo(self, replaced: Sequence[Replaced]) -> None:
        """Take back what one call of `add` entered, the last call first."""
        for arc, edge in reversed(replaced):
            if edge is None:
                self._graph.remove_edge(*arc)
            else:
                self._enter(arc, edge)

    def fan(self, joint: int, targets: Iterable[int]) -> None:
        """Lead from a joint to attempts."""
        for target in targets:
            for state in range(self._states):
                source = joint * self._states + state
                self._graph.add_edge(source, target * self._states + state, weight=0, edge=None)

    def _enter(self, arc: tuple[int, int], edge: Edge) -> None:
        weight = _EDGE_WEIGHT + _RW_WEIGHT * (edge.kind is Kind.RW)
        self._graph.add_edge(*arc, weight=weight, edge=edge)

    def _arcs(self, edge: Edge) -> Sequence[tuple[int, int]]:
        if edge.source == edge.target:
            return ()
        if self._states == 1:
            return ((edge.source, edge.target),)
        source, target = 2 * edge.source, 2 * edge.target
        if edge.kind is Kind.RW:
            return ((source, target + 1),)
        return ((source, target), (source + 1, target))

    # --- asking ---------------------------------------------------------------------------------
    def has_cycle_through(self, edges: Sequence[Edge]) -> bool:
        """Say whether one of these edges, which are entered, lies on a cycle."""
        return any(
            self._nx.has_path(self._graph, target, source)
            for edge in edges
            for source, target in self._arcs(edge)
        )

    def is_free_of_cycles(self) -> bool:
        """Say whether the run can be what the graph's level asks for."""
        return bool(self._nx.is_directed_acyclic_graph(self._graph))

    def order(self) -> dict[int, int]:
        """Return the place of each attempt in one order that agrees with all edges.

        The graph has no cycle. Of those that may come next, the lowest number does.
        """
        nodes = self._nx.lexicographical_topological_sort(self._graph)
        return {node // self._states: at for at, node in enumerate(nodes)}

    def shortest_cycle(self) -> list[Edge] | None:
        """Return the edges of a shortest cycle, the fewest `rw` edges first; None if there is none.

        Ties go to the cycle with the lowest attempt number.
        """
        best: list[int] | None = None
        length = _UNBOUNDED
        for knot in self._nx.strongly_connected_components(self._graph):
            if len(knot) == 1:
                continue
            arcs = {
                node: [(n, arc["weight"]) for n, arc in self._graph.adj[node].items() if n in knot]
                for node in knot
            }
            for start in _turning_points(arcs)[:STARTS_MAX]:
                found = _round_trip(arcs, start, length)
                if found is not None:
                    length, best = found
        if best is None:
            return None
        # A cycle begins anywhere; its edges are told from an attempt on, not from a joint.
        at = next(at for at, node in enumerate(best) if node >= 0)
        return self._edges_along([*best[at:], *best[:at], best[at]])

    def _edges_along(self, nodes: Sequence[int]) -> list[Edge]:
        """Return the edges of a way; those into a joint lead to where the joint leads."""
        found: list[Edge] = []
        for source, target in pairwise(nodes):
            edge: Edge | None = self._graph.edges[source, target]["edge"]
            if edge is not None:
                found.append(edge)
            elif found:
                found[-1] = found[-1]._replace(target=target // self._states)
        return found


def _turning_points(arcs: Mapping[int, Sequence[tuple[int, int]]]) -> list[int]:
    """Return nodes of which each cycle has one: those that a higher number leads to.

    Attempts are numbered in the order of their starts, so what leads back furthest comes first: it
    is the likeliest to be wrong, and a short cycle that is found early makes the rest quick.
    """
    spans: dict[int, int] = {}
    for source, leads in arcs.items():
        for target, _ in leads:
            if target < source:
                spans[target] = max(spans.get(target, 0), source - target)
    return sorted(spans, key=lambda node: (-spans[node], node))


def _round_trip(
    arcs: Mapping[int, Sequence[tuple[int, int]]], start: int, limit: int
) -> tuple[int, list[int]] | None:
    """Return length and nodes of the shortest cycle through a node, if shorter than `limit`."""
    came_from: dict[int, int] = {}
    waiting = [(weight, target, start) for target, weight in arcs[start]]
    heapify(waiting)
    while waiting:
        length, node, before = heappop(waiting)
        if node in came_from or length >= limit:
            continue
        came_from[node] = before
        if node == start:
            way = [start]
            while (before := came_from[way[-1]]) != start:
                way.append(before)
            return length, way[::-1]
        for target, weight in arcs[node]:
            if target not in came_from and length + weight < limit:
                heappush(waiting, (length + weight, target, node))
    return None
