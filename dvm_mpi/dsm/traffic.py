"""How much one rank moves, by peer: bytes of content, bytes of control, messages, operations.

Counted where it leaves: messages by their sender, one-sided operations by their origin. Content is
what programs see, pages that are read and bytes that are stored; control is all the rest. What a
rank takes from its own home or puts there is counted beside it: it moves nothing between ranks.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Flow(IntEnum):
    """What is counted for each peer; bytes unless the name says otherwise."""

    #: Content of pages that this rank has read out of the peer's memory.
    READ = 0
    #: Content of pages within messages to the peer.
    SERVED = 1
    #: Stored bytes, put into the peer's memory or within messages to it.
    STORED = 2
    #: Everything else in messages to the peer: they themselves less the content within them.
    CONTROL = 3
    #: Messages to the peer, and buffers that they travelled in.
    MESSAGE_COUNT = 4
    BUFFER_COUNT = 5
    #: Reads from the peer's memory and writes to it, one for each stretch.
    READ_COUNT = 6
    WRITE_COUNT = 7


FLOWS: Final = len(Flow)


class Ledger:
    """What one rank has moved since it began."""

    #: (FLOWS, rank_count): by flow, then by peer; the own column moves nothing between ranks.
    counts: Ints

    def __init__(self, rank_count: int) -> None:
        self.counts = np.zeros((FLOWS, rank_count), np.int64)

    def sent(
        self, peer: int, byte_count: int, message_count: int, served: int, stored: int
    ) -> None:
        """Count one buffer of messages, and the content within them."""
        counts = self.counts
        counts[Flow.CONTROL, peer] += byte_count - served - stored
        counts[Flow.MESSAGE_COUNT, peer] += message_count
        counts[Flow.BUFFER_COUNT, peer] += 1
        self.handed_over(peer, served, stored)

    def sent_bytes(self, own: int) -> int:
        """Return all that this rank has sent to others: in messages, and into their memory."""
        sent = self.counts[[Flow.SERVED, Flow.STORED, Flow.CONTROL]]
        return int(sent.sum() - sent[:, own].sum())

    def handed_over(self, peer: int, served: int, stored: int) -> None:
        """Count content alone: of a message from a rank to itself, which has no bytes."""
        self.counts[Flow.SERVED, peer] += served
        self.counts[Flow.STORED, peer] += stored

    def read(self, peer: int, byte_count: int, operations: int) -> None:
        """Count pages that were taken out of a peer's memory."""
        self.counts[Flow.READ, peer] += byte_count
        self.counts[Flow.READ_COUNT, peer] += operations

    def wrote(self, peer: int, byte_count: int) -> None:
        """Count one stretch of stored bytes that was put into a peer's memory."""
        self.counts[Flow.STORED, peer] += byte_count
        self.counts[Flow.WRITE_COUNT, peer] += 1

    def row(self, own: int, groups: Ints) -> Ints:
        """Return this rank's line of the account: (FLOWS, group_count + 1).

        Parameters
        ----------
        own
            This rank; what it moved to itself is apart, in the final column.
        groups
            (rank_count,) the group of each peer, from 0; several ranks may share one.
        """
        group_count = int(groups.max()) + 1
        row = np.zeros((FLOWS, group_count + 1), np.int64)
        others = np.flatnonzero(np.arange(groups.size) != own)
        np.add.at(row.T, groups[others], self.counts[:, others].T)
        row[:, group_count] = self.counts[:, own]
        return row


def groups_of(hosts: Ints, groups_max: int) -> Ints:
    """Return the group that each rank is counted in: (rank_count,), numbers from 0 without a gap.

    Ranks alone as long as there are few; else those of one host together, and of more hosts than
    `groups_max` as many neighbours as it takes.

    Parameters
    ----------
    hosts
        (rank_count,) host of each rank, numbered from 0 without a gap.
    """
    if hosts.size <= groups_max:
        return np.arange(hosts.size)
    host_count = int(hosts.max()) + 1
    return np.asarray(hosts // -(-host_count // groups_max))
