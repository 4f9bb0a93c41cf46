"""What must come before what: edges that follow from values, or from a claimed order of commits.

Who loads a version and stores the next one is its certain successor. So the versions of a cell fall
into *chains*, which nothing comes between: the chain of the initial value is the first, that of the
final value the last. The order of the chains between them is open where nobody saw it: `choices`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from dvm_mpi.sim.checker.graph import DependencyGraph
from dvm_mpi.sim.checker.observation import INITIAL, Cell, Edge, Kind
from dvm_mpi.sim.checker.versions import Versions, VersionTable
from dvm_mpi.values import dataclass

#: Pairs of chains whose order is looked for; cells beyond that stay undecided.
CHOICES_MAX: Final = 400


class Chain(NamedTuple):
    """Versions that certainly follow each other, from the first writer to the last."""

    head: int
    tail: int


@dataclass(frozen=True, slots=True)
class Choice:
    """Two chains of a cell whose order is open; `edges[0]` if the first comes first."""

    cell: Cell
    chains: tuple[Chain, Chain]
    edges: tuple[tuple[Edge, ...], tuple[Edge, ...]]


class Precedence:
    """Enters into a graph what is certain of all cells, and collects what is open."""

    def __init__(self, table: VersionTable, last: Mapping[Cell, int]) -> None:
        self.choices: list[Choice] = []
        #: Pairs of chains that are too many to be looked at.
        self.undecided = 0
        self._table = table
        self._last = last

    def enter(self, graph: DependencyGraph) -> None:
        """Enter the edges of all cells."""
        open_cells: list[tuple[int, Cell, list[Chain]]] = []
        for cell, versions in self._table.cells.items():
            graph.add(_loads(cell, versions))
            graph.add(_chained(cell, versions))
            first, others = _chains(versions)
            between = self._enter_chains(graph, cell, first, others)
            if len(between) > 1:
                open_cells.append((len(between) * (len(between) - 1) // 2, cell, between))
        for count, cell, between in sorted(open_cells):
            if len(self.choices) + count > CHOICES_MAX:
                self.undecided += count
            else:
                self.choices += _choices(cell, self._table.cells[cell], between)

    def _enter_chains(
        self, graph: DependencyGraph, cell: Cell, first: Chain, others: list[Chain]
    ) -> list[Chain]:
        """Order the first and the last chain of a cell; return those between them."""
        versions = self._table.cells[cell]
        last = self._last.get(cell, INITIAL)
        if others:
            joint = graph.new_joint()
            graph.add(_after(cell, versions, first, joint, "that one built on the initial value"))
            graph.fan(joint, [chain.head for chain in others])
        both = (*others, first)
        final = next((chain for chain in both if last in _members(versions, chain)), None)
        if last == INITIAL or final is None:
            return others
        why = f"what attempt {last} stored was there in the end"
        if final.tail != last:
            graph.add([Edge(final.tail, last, Kind.WW, cell, why)])
        earlier = [chain for chain in others if chain is not final]
        if earlier:
            joint = graph.new_joint()
            for chain in earlier:
                graph.add(_after(cell, versions, chain, joint, why))
            graph.fan(joint, [final.head])
        return earlier if final is not first else []


class ClaimedOrder:
    """Enters what follows if commits happened in the order that the machine tells.

    `position` counts from 1 and has every committed attempt.
    """

    def __init__(self, table: VersionTable, position: Mapping[int, int]) -> None:
        #: Loads of what was stored later: reader, cell, and who stored it.
        self.from_future: list[tuple[int, Cell, int]] = []
        self._table = table
        self._position = {INITIAL: 0, **position}

    def enter(self, graph: DependencyGraph) -> None:
        """Enter the edges of all cells."""
        for cell, versions in self._table.cells.items():
            line = [INITIAL, *sorted(versions.writers, key=self._position.__getitem__)]
            following = dict(pairwise(line))
            graph.add(
                Edge(before, after, Kind.WW, cell, "in the claimed order")
                for before, after in following.items()
                if before != INITIAL
            )
            for author, readers in versions.readers.items():
                for reader in readers:
                    graph.add(self._seen(cell, reader, [author], following))
            for reader, authors in versions.ambiguous:
                graph.add(self._seen(cell, reader, authors, following))

    def last_writers(self) -> Iterator[tuple[Cell, int]]:
        """Yield who stored the last version of each cell."""
        for cell, versions in self._table.cells.items():
            if versions.writers:
                yield cell, max(versions.writers, key=self._position.__getitem__)

    def _seen(
        self, cell: Cell, reader: int, authors: Sequence[int], following: Mapping[int, int]
    ) -> Iterator[Edge]:
        """Yield what holds whichever of the authors' versions was loaded."""
        until = self._position.get(reader, len(self._position))
        earlier = [author for author in authors if self._position[author] < until]
        if not earlier:
            self.from_future.append((reader, cell, authors[0]))
            return
        oldest = min(earlier, key=self._position.__getitem__)
        newest = max(earlier, key=self._position.__getitem__)
        if oldest != INITIAL:
            yield Edge(oldest, reader, Kind.WR, cell)
        following_newest = following.get(newest)
        if following_newest is not None and following_newest != reader:
            yield Edge(reader, following_newest, Kind.RW, cell)


# --- edges of one cell --------------------------------------------------------------------------
def _loads(cell: Cell, versions: Versions) -> Iterator[Edge]:
    for author, readers in versions.readers.items():
        if author != INITIAL:
            for reader in readers:
                yield Edge(author, reader, Kind.WR, cell)


def _chained(cell: Cell, versions: Versions) -> Iterator[Edge]:
    for author, successor in versions.successors.items():
        if author != INITIAL:
            yield Edge(author, successor, Kind.WW, cell, "it had loaded that")
        yield from _overtaken(cell, versions, author, successor)


def _overtaken(
    cell: Cell, versions: Versions, author: int, successor: int, why: str = ""
) -> Iterator[Edge]:
    """Yield that whoever saw the author's version did not see the later successor's."""
    for reader in versions.readers.get(author, ()):
        if reader != successor:
            yield Edge(reader, successor, Kind.RW, cell, why)


def _after(cell: Cell, versions: Versions, chain: Chain, head: int, why: str) -> Iterator[Edge]:
    """Yield that what begins with `head` comes after a chain."""
    if chain.tail != INITIAL:
        yield Edge(chain.tail, head, Kind.WW, cell, why)
    yield from _overtaken(cell, versions, chain.tail, head, why if chain.tail != INITIAL else "")


def _chains(versions: Versions) -> tuple[Chain, list[Chain]]:
    """Return the chain that begins with the initial value, and the others by their heads.

    The first one's head is who stored over the initial value, if that is certain.
    """
    followers = set(versions.successors.values())
    heads = [writer for writer in versions.writers if writer not in followers]
    head = versions.successors.get(INITIAL, INITIAL)
    first = Chain(head, _tail(versions, INITIAL))
    return first, [Chain(head, _tail(versions, head)) for head in heads]


def _members(versions: Versions, chain: Chain) -> Iterator[int]:
    yield (member := chain.head)
    while member != chain.tail:
        yield (member := versions.successors[member])


def _tail(versions: Versions, head: int) -> int:
    while head in versions.successors:
        head = versions.successors[head]
    return head


def _choices(cell: Cell, versions: Versions, chains: Sequence[Chain]) -> Iterable[Choice]:
    for at, one in enumerate(chains):
        for other in chains[at + 1 :]:
            forwards = tuple(_after(cell, versions, one, other.head, ""))
            backwards = tuple(_after(cell, versions, other, one.head, ""))
            yield Choice(cell, (one, other), (forwards, backwards))
