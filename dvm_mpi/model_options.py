"""The command line's words for predictions: `calibrate`, and what `simulate --job` adds.

Light to import, as `options` is, which lies above: parsers come from there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

from dvm_mpi.errors import UsageError
from dvm_mpi.values import dataclass

#: Delays that a seed draws, and networks of which figures were published; `measured` is the one
#: that `calibrate --between` has found.
DRAWN_NETWORKS: Final = ("none", "exponential", "heavy")
JOB_NETWORKS: Final = (
    "ethernet-1g", "ethernet-40g", "ib-100g", "ib-fdr", "th-express", "measured",
)  # fmt: skip
NETWORKS: Final = DRAWN_NETWORKS + JOB_NETWORKS
NETWORK_HELP: Final = (
    "delays of messages: none, exponential, or heavy with a long tail (default: exponential); "
    f"of --job: {', '.join(JOB_NETWORKS)}"
)
_RANKS_MAX: Final = 1 << 16

#: Adds an argument to a parser.
Add = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class CalibrateOptions:
    """What `calibrate` was asked for."""

    output: Path
    ranks: tuple[int, ...]
    launcher: str
    data_plane: Literal["rma", "message"]
    is_between: bool
    repetitions: int
    compare: bool


@dataclass(frozen=True, slots=True)
class PredictOptions:
    """What `simulate --job` was asked for."""

    job: str
    defines: dict[str, str]
    ranks: tuple[int, ...]
    network: str
    costs: Path
    ranks_per_host: int
    cores: int
    data_plane: str
    #: None: as a run of so many ranks chooses; 0: none.
    leaders: int | None
    is_naive: bool
    csv: Path | None
    plot: Path | None
    quiet: bool


def numbers(text: str) -> tuple[int, ...]:
    """Read `1,2,4`: numbers of ranks."""
    try:
        read = tuple(int(word) for word in text.split(","))
    except ValueError:
        read = ()
    if not read or not 1 <= min(read) <= max(read) <= _RANKS_MAX:
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither a whole number from 1 to {_RANKS_MAX:,} nor a list such as 1,2,4"
        )
    return read


def calibrate_parser(
    make: Callable[..., argparse.ArgumentParser], count: Callable[[int, int], Callable[[str], int]]
) -> argparse.ArgumentParser:
    """Return the parser of `python -m dvm_mpi calibrate`.

    `make` makes parsers, and `count` types of numbers between two.
    """
    parser = make(
        prog="python -m dvm_mpi calibrate",
        description="Measure what the steps of a rank cost here, for simulate --job; from the "
        "project's folder, on a machine that nobody else uses.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-o", "--output", type=Path, default=Path("costs.json"), metavar="FILE",
        help="where costs and residuals go (default: costs.json)")  # fmt: skip
    add("--ranks", type=numbers, default=(1, 2, 4), metavar="N,…",
        help="of the runs that are fitted; the largest is predicted (default: 1,2,4)")  # fmt: skip
    add("--launcher", default="", metavar="WORDS",
        help="how ranks are started, with {ranks} (default: mpiexec -n {ranks})")  # fmt: skip
    add("--data-plane", default="rma", choices=("rma", "message"),
        help="what runs under this launcher choose (default: rma)")  # fmt: skip
    add("--between", dest="is_between", action="store_true",
        help="the launcher's ranks are on different hosts, whose network it is")  # fmt: skip
    add("--repetitions", type=count(1, 100), default=3, metavar="N",
        help="of each run that is predicted; the median counts (default: 3)")  # fmt: skip
    add("--no-compare", dest="compare", action="store_false",
        help="fit only, and predict nothing")  # fmt: skip
    return parser


def calibrate_options(given: argparse.Namespace) -> CalibrateOptions:
    """Return the options of a calibration, from what its parser has read."""
    return CalibrateOptions(**vars(given))


def add_prediction(add: Add, count: Callable[[int, int], Callable[[str], int]]) -> None:
    """Add what `simulate --job` takes beside the arguments of other simulations."""
    add("--job", default="", metavar="NAME",
        help="predict how long a job takes: kmeans, primes, treesum or empty, of any size (-D), "
        "on --ranks 10,20,40 of a --network, with the --costs of a machine")  # fmt: skip
    add("--costs", type=Path, default=Path("costs.json"), metavar="FILE",
        help="of --job: what calibrate has written (default: costs.json)")  # fmt: skip
    add("--ranks-per-host", type=count(1, _RANKS_MAX), default=1, metavar="N",
        help="of --job (default: 1)")  # fmt: skip
    add("--cores", type=count(0, _RANKS_MAX), default=0, metavar="N",
        help="of --job: cores of each host (default: one for each rank)")  # fmt: skip
    add("--naive", dest="is_naive", action="store_true",
        help="of --job: send every runner and hear of every end by itself, to compare")  # fmt: skip
    add("--csv", type=Path, metavar="FILE", help="of --job: write all figures")
    add("--plot", type=Path, metavar="FILE.svg", help="of --job: draw speed-up and efficiency")


#: Of `PredictOptions`, those that other simulations do not have.
_ONLY_JOBS: Final = ("job", "costs", "ranks_per_host", "cores", "is_naive", "csv", "plot")
#: And those that both have.
_ALSO_JOBS: Final = ("network", "ranks", "data_plane", "leaders", "quiet")


def predict_options(given: argparse.Namespace) -> PredictOptions | None:
    """Return the options of a prediction, from what the parser of `simulate` has read.

    None if no job was named; then what only predictions have is taken out of `given`.

    Raises
    ------
    UsageError
        A job is mixed with other things that are simulated, or the network is no job's.
    """
    values = vars(given)
    network, ranks = values["network"], values["ranks"]
    if not values["job"]:
        if network in JOB_NETWORKS:
            raise UsageError(f"--network {network} is for --job; others draw their delays")
        if len(ranks) > 1:
            raise UsageError("--ranks with several numbers is for --job")
        for name in _ONLY_JOBS:
            del values[name]
        values["ranks"] = ranks[0]
        return None
    if values["program"] is not None or values["workload"]:
        raise UsageError(
            "say what to simulate: PROGRAM, --workload NAME or --job NAME, one of them"
        )
    if network in DRAWN_NETWORKS:
        raise UsageError(f"--job wants a --network of these: {', '.join(JOB_NETWORKS)}")
    kept = {name: values[name] for name in (*_ONLY_JOBS, *_ALSO_JOBS)}
    kept["cores"] = kept["cores"] or kept["ranks_per_host"]
    return PredictOptions(defines=dict(values["defines"]), **kept)
