"""Which ranks try each other, and what their times mean."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dvm_mpi.doctor.pairs import BETWEEN, WITHIN, Measured, choose, judge
from dvm_mpi.launch.finding import Finding, Level


def hosts_of(host_count: int, per_host: int) -> list[str]:
    return [f"node{host:03}" for host in range(host_count) for _ in range(per_host)]


@pytest.mark.parametrize(("host_count", "per_host"), [(1, 1), (1, 4), (2, 2), (3, 1), (64, 64)])
def test_few_rounds_try_all_hosts(host_count: int, per_host: int) -> None:
    hosts = hosts_of(host_count, per_host)
    rounds = choose(hosts)
    assert len(rounds) <= 4
    tried = set()
    for pairs in rounds:
        busy = [hosts[rank] for pair in pairs for rank in pair]
        within = [pair for pair in pairs if hosts[pair[0]] == hosts[pair[1]]]
        # No host is in two pairs of one round: they would share a network card.
        assert len(busy) - len(within) == len(set(busy))
        tried |= {tuple(sorted((hosts[a], hosts[b]))) for a, b in pairs}
    if per_host > 1:
        assert {(host, host) for host in hosts} <= tried
    neighbours = set(zip(sorted(set(hosts)), sorted(set(hosts))[1:], strict=False))
    assert neighbours <= tried


def test_far_hosts_are_tried_too() -> None:
    assert [(0, 4), (1, 5), (2, 6), (3, 7)] in choose(hosts_of(8, 1))


def found(
    rows: Sequence[Measured], hosts: Sequence[str], *, is_crowded: bool = False
) -> dict[str, Finding]:
    return {finding.subject: finding for finding in judge(rows, hosts, is_crowded=is_crowded)}


def test_kinds_are_judged_apart() -> None:
    hosts = hosts_of(2, 2)
    rows = [Measured(0, 1, 1.0, 5000), Measured(2, 3, 1.2, 4000), Measured(0, 2, 20.0, 1000)]
    told = found(rows, hosts)
    assert [told[kind].level for kind in (WITHIN, BETWEEN)] == [Level.GOOD] * 2
    assert "worst: 1.2 µs between ranks 2 on node001 and 3 on node001" in told[WITHIN].what
    assert told[BETWEEN].what == "20.0 µs, 1,000 MB/s"


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([Measured(0, 1, 400, 1000)], "a message takes longer than 100 µs"),
        ([Measured(0, 1, 20, 112)], "less than 200 MB/s"),
        ([Measured(r, r + 1, 20, 1000) for r in range(5)] + [Measured(5, 6, 200, 1000)],
         "worst: 200 µs between ranks 5 on node005 and 6 on node006"),
        ([Measured(r, r + 1, 20, 5000) for r in range(5)] + [Measured(5, 6, 20, 1000)],
         "1,000 MB/s between ranks 5 on node005 and 6 on node006): one pair is far slower"),
    ],
)  # fmt: skip
def test_slow_networks_and_pairs_are_told(rows: list[Measured], told: str) -> None:
    hosts = hosts_of(8, 1)
    finding = found(rows, hosts)[BETWEEN]
    assert finding.level is Level.SLOW
    assert told in finding.what
    assert "FI_PROVIDER" in finding.remedy
    crowded = found(rows, hosts, is_crowded=True)[BETWEEN]
    assert (crowded.level, crowded.remedy) == (Level.GOOD, "")
    assert "not judged" in crowded.what
