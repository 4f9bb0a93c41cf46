"""From what every rank has counted to one account of who moved how much to whom, on rank 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.dsm.traffic import FLOWS, Flow, groups_of
from dvm_mpi.io.traffic import Matrix, Moved, Traffic

Ints = NDArray[np.int64]

#: What is read goes from the peer to the one who counts it; all else goes to the peer.
_INWARD: Final = (Flow.READ, Flow.READ_COUNT)


def number_hosts(names: Sequence[str]) -> list[int]:
    """Return the number of each rank's host: from 0, in the order of first mention."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [numbers[name] for name in names]


def groups(hosts: Sequence[int]) -> Ints:
    """Return the group that each rank is counted in, the same on all ranks."""
    return groups_of(np.array(hosts, np.int64), config.TRAFFIC_GROUPS_MAX)


def account(rows: Ints, host_names: Sequence[str]) -> Traffic:
    """Put the rows of all ranks together.

    Parameters
    ----------
    rows
        (rank_count, FLOWS, group_count + 1) as `Ledger.row` returns them.
    host_names
        Of each rank's host.
    """
    hosts = np.array(number_hosts(host_names), np.int64)
    group_of = groups(hosts.tolist())
    group_count = int(group_of.max()) + 1
    # (flow, sender, receiver) and (flow, group).
    moved = np.zeros((FLOWS, group_count, group_count), np.int64)
    kept = np.zeros((FLOWS, group_count), np.int64)
    for flow in Flow:
        by_group = np.zeros((group_count, group_count + 1), np.int64)
        np.add.at(by_group, group_of, rows[:, flow])
        between = by_group[:, :group_count]
        moved[flow] = between.T if flow in _INWARD else between
        kept[flow] = by_group[:, group_count]
    # Between ranks of one group, and of groups with a host in common.
    first_host = np.full(group_count, hosts.size)
    np.minimum.at(first_host, group_of, hosts)
    is_apart = first_host[:, np.newaxis] != first_host
    members = [np.flatnonzero(group_of == group) for group in range(group_count)]
    names = [dict.fromkeys(host_names[rank] for rank in each.tolist()) for each in members]
    return Traffic(
        hosts=tuple(", ".join(each) for each in names),
        ranks=tuple(each.size for each in members),
        payload_fetched=_matrix(moved[Flow.READ] + moved[Flow.SERVED]),
        payload_stored=_matrix(moved[Flow.STORED]),
        control=_matrix(moved[Flow.CONTROL]),
        messages=_matrix(moved[Flow.MESSAGE_COUNT]),
        operations=_matrix(moved[Flow.READ_COUNT] + moved[Flow.WRITE_COUNT]),
        kept_fetched=tuple((kept[Flow.READ] + kept[Flow.SERVED]).tolist()),
        kept_stored=tuple(kept[Flow.STORED].tolist()),
        between_ranks=_totals(moved),
        between_hosts=_totals(moved * is_apart),
    )


def _matrix(flow: Ints) -> Matrix:
    return tuple(tuple(line) for line in flow.tolist())


def _totals(moved: Ints) -> Moved:
    totals = moved.sum(axis=(1, 2)).tolist()
    return Moved(
        payload_fetched=totals[Flow.READ] + totals[Flow.SERVED],
        payload_stored=totals[Flow.STORED],
        control=totals[Flow.CONTROL],
        messages=totals[Flow.MESSAGE_COUNT],
        buffers=totals[Flow.BUFFER_COUNT],
        operations=totals[Flow.READ_COUNT] + totals[Flow.WRITE_COUNT],
    )
