"""What moved between ranks in a run, for the report and the summary. Holds figures only."""

from __future__ import annotations

from dvm_mpi.values import dataclass

#: By sender, then receiver: groups of ranks.
Matrix = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """Totals over pairs of different ranks; bytes unless the name says otherwise."""

    #: Content of pages that were read, and stored bytes, each time they went from rank to rank.
    payload_fetched: int
    payload_stored: int
    #: All else that was sent.
    control: int
    #: Messages, the buffers that they travelled in, and one-sided reads and writes.
    messages: int
    buffers: int
    operations: int

    @property
    def payload(self) -> int:
        """All content."""
        return self.payload_fetched + self.payload_stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Who sent how much to whom; bytes unless the name says otherwise.

    Rows are senders, columns receivers. Both are the groups: each rank alone, or, in a job of many
    ranks, those of a host, or of some neighbouring hosts, together. What a rank moved to itself is
    in no matrix.
    """

    #: By group: its hosts, and how many ranks it has.
    hosts: tuple[str, ...]
    ranks: tuple[int, ...]
    payload_fetched: Matrix
    payload_stored: Matrix
    control: Matrix
    messages: Matrix
    #: Reads count from the one that was read to the reader, writes from the writer.
    operations: Matrix
    #: By group: content that ranks took from their own homes, and put there.
    kept_fetched: tuple[int, ...]
    kept_stored: tuple[int, ...]
    #: Between all ranks; and of it, between ranks of different groups and different hosts.
    between_ranks: Moved
    between_hosts: Moved
