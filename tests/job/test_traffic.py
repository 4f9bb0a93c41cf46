"""The account of what all ranks have moved."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi import config
from dvm_mpi.dsm.traffic import Ledger
from dvm_mpi.io.traffic import Traffic
from dvm_mpi.job.traffic import account, groups, number_hosts


def run_of(ledgers: list[Ledger], host_names: list[str]) -> Traffic:
    """Return the account of ranks that have counted so much."""
    of_rank = groups(number_hosts(host_names))
    rows = np.array([ledger.row(rank, of_rank) for rank, ledger in enumerate(ledgers)])
    return account(rows, host_names)


def test_reads_go_from_whom_they_are_read_and_all_else_to_whom_it_is_sent() -> None:
    ledgers = [Ledger(3) for _ in range(3)]
    ledgers[1].read(0, 4096, operations=1)
    ledgers[0].sent(2, byte_count=8292, message_count=1, served=8192, stored=0)
    ledgers[2].wrote(0, 50)
    ledgers[2].handed_over(2, served=4096, stored=9)
    traffic = run_of(ledgers, ["a", "a", "b"])
    assert traffic.payload_fetched == ((0, 4096, 8192), (0, 0, 0), (0, 0, 0))
    assert traffic.payload_stored == ((0, 0, 0), (0, 0, 0), (50, 0, 0))
    assert traffic.control == ((0, 0, 100), (0, 0, 0), (0, 0, 0))
    assert traffic.operations == ((0, 1, 0), (0, 0, 0), (1, 0, 0))
    assert (traffic.kept_fetched, traffic.kept_stored) == ((0, 0, 4096), (0, 0, 9))
    assert traffic.hosts == ("a", "a", "b")
    ranks, hosts = traffic.between_ranks, traffic.between_hosts
    assert (ranks.payload_fetched, ranks.payload_stored, ranks.payload) == (12_288, 50, 12_338)
    assert (hosts.payload_fetched, hosts.payload_stored, hosts.control) == (8192, 50, 100)
    assert (ranks.messages, ranks.operations, hosts.operations) == (1, 2, 1)


def test_of_many_ranks_those_of_a_host_are_one_line() -> None:
    """What moves between ranks of one host counts between ranks, and not between hosts."""
    count = config.TRAFFIC_GROUPS_MAX + 2
    ledgers = [Ledger(count) for _ in range(count)]
    ledgers[0].sent(1, 10, 1, 0, 0)
    ledgers[0].sent(count - 1, 7, 1, 0, 0)
    ledgers[3].handed_over(3, served=0, stored=5)
    traffic = run_of(ledgers, ["a"] * 60 + ["b"] * (count - 60))
    assert traffic.control == ((10, 7), (0, 0))
    assert (traffic.ranks, traffic.hosts) == ((60, count - 60), ("a", "b"))
    assert traffic.kept_stored == (5, 0)
    assert traffic.between_ranks.control == 17
    assert traffic.between_hosts.control == 7


@pytest.mark.parametrize("host_count", [64, 65, 1000])
def test_the_account_does_not_grow_with_the_hosts(host_count: int) -> None:
    names = [f"node{number}" for number in range(host_count) for _ in range(2)]
    of_rank = groups(number_hosts(names))
    assert of_rank.max() < config.TRAFFIC_GROUPS_MAX
    assert len(set(of_rank.tolist())) == of_rank.max() + 1
