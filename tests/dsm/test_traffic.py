"""What one rank counts of what it moves."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.dsm.traffic import FLOWS, Flow, Ledger, groups_of


def test_a_buffer_is_content_and_control() -> None:
    ledger = Ledger(3)
    ledger.sent(2, byte_count=5000, message_count=4, served=4096, stored=100)
    ledger.sent(2, byte_count=64, message_count=1, served=0, stored=0)
    told = {flow.name: ledger.counts[flow, 2] for flow in Flow if ledger.counts[flow, 2]}
    assert told == {
        "SERVED": 4096,
        "STORED": 100,
        "CONTROL": 5064 - 4196,
        "MESSAGE_COUNT": 5,
        "BUFFER_COUNT": 2,
    }
    assert not ledger.counts[:, :2].any()


def test_all_that_is_sent_to_others_counts_as_sent_once() -> None:
    ledger = Ledger(3)
    ledger.sent(2, byte_count=5000, message_count=4, served=4096, stored=100)
    ledger.wrote(0, 500)
    ledger.wrote(1, 70)
    ledger.handed_over(1, served=4096, stored=9)
    ledger.read(2, 8192, operations=1)
    assert ledger.sent_bytes(own=1) == 5500


def test_one_sided_operations_are_counted_by_stretch() -> None:
    ledger = Ledger(2)
    ledger.read(1, 3 * 4096, operations=2)
    ledger.wrote(1, 500)
    ledger.wrote(1, 7)
    assert ledger.counts[Flow.READ, 1] == 3 * 4096
    assert ledger.counts[Flow.READ_COUNT, 1] == 2
    assert ledger.counts[Flow.STORED, 1] == 507
    assert ledger.counts[Flow.WRITE_COUNT, 1] == 2


def test_a_row_adds_up_groups_and_keeps_what_stayed_here_apart() -> None:
    ledger = Ledger(5)
    for peer in range(5):
        ledger.read(peer, 10**peer, operations=1)
    row = ledger.row(own=1, groups=np.array([0, 0, 1, 1, 1]))
    assert row.shape == (FLOWS, 3)
    assert row[Flow.READ].tolist() == [1, 11_100, 10]
    assert row[Flow.READ_COUNT].tolist() == [1, 3, 1]


# fmt: off
#    hosts                groups_max  groups
GROUPS = (
    ([0],                 1,          [0]),
    ([0, 0, 1, 1],        4,          [0, 1, 2, 3]),        # few ranks: each alone
    ([0, 1, 0, 1],        3,          [0, 1, 0, 1]),        # else those of a host
    ([0, 0, 1, 2, 3, 4],  2,          [0, 0, 0, 0, 1, 1]),  # of many hosts, neighbours
)
# fmt: on


@pytest.mark.parametrize(("hosts", "groups_max", "groups"), GROUPS)
def test_groups(hosts: list[int], groups_max: int, groups: list[int]) -> None:
    found = groups_of(np.array(hosts), groups_max)
    assert found.tolist() == groups
    assert found.max() < groups_max
