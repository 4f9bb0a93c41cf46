"""Anomalies in words: cells by address or name, values as numbers, attempts by number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from dvm_mpi.sim.checker.observation import (
    INITIAL,
    Anomaly,
    Cell,
    Edge,
    Kind,
    Observations,
    ObservedAttempt,
)

#: Longer values are shown by their first bytes.
_SHOWN_BYTES: Final = 16
_NUMBER_BYTES: Final = 8


class Words:
    """Tells one run's anomalies.

    Parameters
    ----------
    observations
        The run.
    name
        What to call an address; its hexadecimal digits if None.
    """

    def __init__(self, observations: Observations, name: Callable[[int], str] | None) -> None:
        self._observations = observations
        self._attempts: Mapping[int, ObservedAttempt] = {
            attempt.number: attempt for attempt in observations.attempts
        }
        self._name = name or hex

    def cell(self, cell: Cell) -> str:
        """Return a cell's place, with its length unless that is one word."""
        start, length = cell
        return self._name(start) + ("" if length == _NUMBER_BYTES else f" ({length} bytes)")

    @staticmethod
    def value(value: bytes | None) -> str:
        """Return a number, or the first bytes of what is longer than one."""
        if value is None:
            return "bytes that nobody wrote down"
        if len(value) <= _NUMBER_BYTES:
            return str(int.from_bytes(value, "little"))
        more = "..." if len(value) > _SHOWN_BYTES else ""
        return f"bytes {value[:_SHOWN_BYTES].hex()}{more}"

    @staticmethod
    def origin(author: int) -> str:
        """Return whose a version is."""
        return "as it was at first" if author == INITIAL else f"as attempt {author} stored it"

    def lost_stores(self, cell: Cell, writer: int, final: bytes) -> Anomaly:
        """Tell that a cell does not hold in the end what was stored to it last."""
        where, stored = self.cell(cell), self.value(self._stored(writer, cell))
        told = (
            f"attempt {writer} stored {stored} at {where}, where in the end {self.value(final)} was"
        )
        return Anomaly("lost stores", (writer,), (told,))

    def from_future(self, reader: int, cell: Cell, author: int) -> Anomaly:
        """Tell that somebody loaded what, in the claimed order, was stored later."""
        value = self.value(self._attempts[reader].loads[cell])
        told = (
            f"attempt {reader} loaded {value} at {self.cell(cell)}, which attempt {author} stored; "
            "in the claimed order that committed later"
        )
        return Anomaly("load from the future of the claimed order", (reader, author), (told,))

    def cycle(self, edges: Sequence[Edge]) -> Anomaly:
        """Name a cycle and tell it, edge by edge."""
        first = min(range(len(edges)), key=lambda at: edges[at].source)
        edges = [*edges[first:], *edges[:first]]
        attempts = tuple(edge.source for edge in edges)
        return Anomaly(_kind_of(edges), attempts, tuple(self._line(edge) for edge in edges))

    def _line(self, edge: Edge) -> str:
        source, target = f"attempt {edge.source}", f"attempt {edge.target}"
        if edge.kind is Kind.SESSION:
            return f"{target} must see {source}: {edge.why}"
        assert edge.cell is not None
        where = self.cell(edge.cell)
        if edge.kind is Kind.RW:
            seen = self.value(self._attempts[edge.source].loads[edge.cell])
            newer = self.value(self._stored(edge.target, edge.cell))
            return (
                f"{source} loaded {seen} at {where}, older than the {newer} that {target} stored"
                f"{edge.why and f': {edge.why}'}"
            )
        stored = self.value(self._stored(edge.source, edge.cell))
        if edge.kind is Kind.WR:
            return f"{target} loaded {stored} at {where}, which {source} stored"
        newer = self.value(self._stored(edge.target, edge.cell))
        return (
            f"{target} stored {newer} at {where} after {source} stored {stored} there"
            f"{edge.why and f': {edge.why}'}"
        )

    def _stored(self, number: int, cell: Cell) -> bytes | None:
        return self._attempts[number].stores[cell]


def _kind_of(edges: Sequence[Edge]) -> str:
    """Name the anomaly that a cycle is, after Adya, and Cerone and Gotsman."""
    kinds = [edge.kind for edge in edges]
    others = [kind for kind in kinds if kind is not Kind.RW]
    count = len(kinds) - len(others)
    if count == 0:
        return _without_rw(kinds)
    if count == 1:
        return _with_one_rw(edges, others)
    if any(left is right is Kind.RW for left, right in pairwise([*kinds, kinds[0]])):
        return "write skew (G2-item)"
    return "long fork" if Kind.SESSION not in others else "long fork along a session"


def _without_rw(kinds: Sequence[Kind]) -> str:
    if Kind.SESSION in kinds:
        return "session violation: seen before it was made"
    if Kind.WR in kinds:
        return "circular information flow (G1c)"
    return "write cycle (G0)"


def _with_one_rw(edges: Sequence[Edge], others: Sequence[Kind]) -> str:
    if set(others) == {Kind.SESSION}:
        return "session violation"
    if Kind.SESSION in others:
        return "stale read"
    if len(edges) > len(("source", "target")):
        return "read skew (G-single)"
    if others == [Kind.WR]:
        return "fractured read"
    return "lost update" if edges[0].cell == edges[1].cell else "read skew (G-single)"
