"""Which ranks try each other, and what their times mean. However many ranks there are: four rounds.

In a round every host is in one pair at most, so pairs do not share a network card.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

from dvm_mpi import config
from dvm_mpi.launch.finding import Finding, Level, good
from dvm_mpi.values import dataclass

WITHIN: Final = "within hosts"
BETWEEN: Final = "between hosts"

#: Pairs of ranks that try each other at the same time.
Round = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one pair found."""

    first: int
    second: int
    #: Half of a round trip of 8 bytes, and 10^6 bytes in a second of large messages: the best of
    #: several.
    latency_us: float
    rate_mb_s: float


def choose(hosts: Sequence[str]) -> list[Round]:
    """Return the rounds for ranks on these hosts: `hosts[r]` is that of rank r.

    The first and last rank of each host; each host with the next, in two rounds; and with the one
    that is half of all hosts away, which is more likely to be behind another switch.
    """
    by_host: dict[str, list[int]] = {}
    for rank, host in enumerate(hosts):
        by_host.setdefault(host, []).append(rank)
    within = [(ranks[0], ranks[-1]) for ranks in by_host.values() if len(ranks) > 1]
    first = [ranks[0] for ranks in by_host.values()]
    even = list(zip(first[::2], first[1::2], strict=False))
    odd = list(zip(first[1::2], first[2::2], strict=False))
    half = len(first) // 2
    far = list(zip(first[:half], first[half:], strict=False)) if half > 1 else []
    return [pairs for pairs in (within, even, odd, far) if pairs]


def judge(measured: Sequence[Measured], hosts: Sequence[str], *, is_crowded: bool) -> list[Finding]:
    """Return one finding for pairs within hosts and one for pairs between hosts, if there are any.

    Parameters
    ----------
    is_crowded
        Whether ranks share cores: times then say how the kernel divides them, and nothing else.
    """
    found = []
    for subject, latency_max, rate_min in (
        (WITHIN, config.LATENCY_US_WITHIN_MAX, config.RATE_MB_S_WITHIN_MIN),
        (BETWEEN, config.LATENCY_US_BETWEEN_MAX, config.RATE_MB_S_BETWEEN_MIN),
    ):
        is_within = subject == WITHIN
        rows = [m for m in measured if (hosts[m.first] == hosts[m.second]) == is_within]
        if rows:
            found.append(_of_kind(subject, rows, hosts, latency_max, rate_min, is_crowded))
    return found


def _of_kind(
    subject: str,
    rows: list[Measured],
    hosts: Sequence[str],
    latency_max: float,
    rate_min: float,
    is_crowded: bool,
) -> Finding:
    latency = median(m.latency_us for m in rows)
    rate = median(m.rate_mb_s for m in rows)
    late = max(rows, key=lambda m: m.latency_us)
    thin = min(rows, key=lambda m: m.rate_mb_s)
    told = f"{_us(latency)} µs, {rate:,.0f} MB/s"
    if len(rows) > 1:
        told += (
            f" (median of {len(rows)} pairs; worst: {_us(late.latency_us)} µs "
            f"{_named(late, hosts)}, {thin.rate_mb_s:,.0f} MB/s {_named(thin, hosts)})"
        )
    if is_crowded:
        return good(subject, f"{told}; not judged, since ranks share cores")
    if latency > latency_max:
        what = f"{told}: a message takes longer than {latency_max} µs"
    elif rate < rate_min:
        what = f"{told}: less than {rate_min} MB/s"
    elif late.latency_us > max(config.PAIR_FACTOR_MAX * latency, latency_max):
        what = f"{told}: one pair is far later than the others"
    elif thin.rate_mb_s * config.PAIR_FACTOR_MAX < rate:
        what = f"{told}: one pair is far slower than the others"
    else:
        return good(subject, told)
    return Finding(Level.SLOW, subject, what, _REMEDIES[subject])


_REMEDIES: Final = {
    WITHIN: "is another program on these hosts? Is MPIR_CVAR_NOLOCAL set, or shared memory off?",
    BETWEEN: "is MPI on the fast network? MPICH: FI_PROVIDER (fi_info lists them); Open MPI and "
    "UCX: UCX_NET_DEVICES, UCX_TLS; and look at the hosts of the worst pair",
}


def _us(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"  # noqa: PLR2004 - three digits


def _named(row: Measured, hosts: Sequence[str]) -> str:
    return (
        f"between ranks {row.first} on {hosts[row.first]} and {row.second} on {hosts[row.second]}"
    )
