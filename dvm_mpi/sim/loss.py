"""What makes an attempt lose, in the naive way: the bytes that nobody else may have stored.

Both checks of a history ask this, `replay` of those that won and `rules` of those that lost. The
machine's own answer, over a tree of last writers, takes no part.
"""

from __future__ import annotations

from dvm_mpi.control.validation import ConflictUnit, Isolation
from dvm_mpi.engine.interface import End
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.sim.history import EndedAttempt, Span
from dvm_mpi.values import dataclass


@dataclass(frozen=True, slots=True)
class Loss:
    """The rule of one machine: its isolation, and the unit of its conflicts."""

    isolation: Isolation = "snapshot"
    unit: ConflictUnit = "byte"

    def spans(self, ended: EndedAttempt) -> list[Span]:
        """Return what nobody else may store to between an attempt's snapshot and its commit."""
        spans = [(start, length) for start, length, _ in ended.stores]
        publishes = bool(ended.stores) or ended.end not in {End.ABORT, End.ABORT_DELETE}
        if self.isolation == "serializable" and publishes:
            spans += [(start, length) for start, length, _ in ended.loads]
        if self.unit == "page":
            pages = {p for s, n in spans for p in range(s // PAGE_BYTES, -(-(s + n) // PAGE_BYTES))}
            spans = [(page * PAGE_BYTES, PAGE_BYTES) for page in sorted(pages)]
        return spans
