"""What steps cost on one sort of machine, and messages on a network: as a value, and as JSON.

Costs are processor time, fitted to real runs (`fit.py`); of networks that are not here there are
published figures (`NETWORKS`), each with its source.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any, Final

from dvm_mpi.errors import FileError
from dvm_mpi.sim.model.effort import STEPS, Amounts
from dvm_mpi.values import dataclass, field

#: Of the file's form; others are refused.
VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Network:
    """LogGP without o and g, which are processor time and so belong to the steps.

    `latency_ns` is L, from the sender's last instruction to where the receiver could see the
    message; `byte_ns` is G. What the ranks of a host send between hosts shares one adapter.
    """

    latency_ns: float
    byte_ns: float
    source: str


def _published(latency_us: float, gigabytes_per_s: float, source: str) -> Network:
    return Network(latency_us * 1e3, 1 / gigabytes_per_s, source)


_SLOWEST_RDMA: Final = "latency: not there; that of ethernet-40g is taken, which is higher"
#: Between hosts, by name. One-way time of the smallest message and rate of large ones, as MPI
#: programs see them.
NETWORKS: Final[dict[str, Network]] = {
    "ethernet-1g": _published(
        25.13, 0.116,
        "MPICH over TCP, osu_latency and osu_bw, 16 B and 64 KiB: "
        "https://gist.github.com/jfgrimm/3af692a5475bdd4ed836b5a18197a209",
    ),
    "ethernet-40g": _published(
        1.93, 37.23 / 8,
        "Open MPI 1.8.1 over usNIC, NetPIPE, 37.23 Gbit/s: "
        "https://blogs.cisco.com/performance/mpi-over-40gb-ethernet",
    ),
    "ib-100g": _published(
        0.9, 10.3,
        "Open MPI over InfiniBand, osu_latency and osu_bw, 16 B and 32 KiB: "
        "https://gist.github.com/jfgrimm/3af692a5475bdd4ed836b5a18197a209",
    ),
    "ib-fdr": _published(
        1.93, 56 / 8 * 64 / 66,
        "56 Gbit/s, coded 64 in 66: Dell, Need for Speed: Comparing FDR and EDR InfiniBand, 2016; "
        + _SLOWEST_RDMA,
    ),
    "th-express": _published(
        1.93, 6.34,
        "Tianhe-1A, 6,340 MB/s in one direction: Xie et al., IEEE Micro 32 (1), 2012, p. 8; "
        + _SLOWEST_RDMA,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Costs:
    """Nanoseconds of processor time for each amount of each step, and of each instruction.

    `steps` has the names of `STEPS`. `instruction_ns` is by job, measured with one process;
    `nap_extra_ns` is what a sleep takes longer than it was asked to. `within` is the network
    between ranks of a host, `between` the one between hosts that was measured, if one was.
    `provenance` says where all this comes from, `residuals` how well steps and runs are met.
    """

    steps: dict[str, Amounts]
    instruction_ns: dict[str, float]
    nap_extra_ns: float
    within: Network
    between: Network | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    residuals: dict[str, Any] = field(default_factory=dict)

    def price(self, step: str, amounts: Amounts) -> float:
        """Return the nanoseconds that a step takes."""
        return sum(cost * amount for cost, amount in zip(self.steps[step], amounts, strict=True))

    def to_json(self) -> str:
        """Return all of it as the text of a file, amounts by name."""
        steps = {
            step: dict(zip(STEPS[step], costs, strict=True)) for step, costs in self.steps.items()
        }
        return json.dumps({"costs_version": VERSION, **asdict(self), "steps": steps}, indent=2)


def costs_from_json(text: str, path: str) -> Costs:
    """Return the costs that a file holds; `path` is for messages.

    Raises
    ------
    FileError
        It is none, or of another version.
    """
    try:
        told = json.loads(text)
        version = told.pop("costs_version")
        if version != VERSION:
            raise FileError(
                f"{path}: costs of version {version}, not {VERSION}; "
                "make them anew: python -m dvm_mpi calibrate"
            )
        named = told.pop("steps")
        steps = {
            step: tuple(float(named[step][name]) for name in names) for step, names in STEPS.items()
        }
        between = told.pop("between")
        return Costs(
            steps=steps,
            within=Network(**told.pop("within")),
            between=None if between is None else Network(**between),
            **told,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FileError(
            f"{path} holds no costs: {error}; make them: python -m dvm_mpi calibrate"
        ) from error
