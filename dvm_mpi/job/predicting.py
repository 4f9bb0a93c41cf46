"""`python -m dvm_mpi simulate --job`: how long jobs take on machines that are not there.

The shell around `sim/model`: reads the costs, goes through the numbers of ranks, and writes table,
CSV and plot.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import numpy as np

from dvm_mpi.control.loader import LOADED_EPOCH
from dvm_mpi.errors import FileError, UsageError
from dvm_mpi.io.report import missing_for_page
from dvm_mpi.job.held_out import worth
from dvm_mpi.job.parts import say
from dvm_mpi.job.preparation import wait_for_code
from dvm_mpi.layout import PAGE_SHIFT
from dvm_mpi.model_options import PredictOptions
from dvm_mpi.sim.model.costs import NETWORKS, Costs, Network, costs_from_json
from dvm_mpi.sim.model.engine import ShapeEngine
from dvm_mpi.sim.model.predict import Job, Prediction, predict
from dvm_mpi.sim.model.priced import PricedMachine, Site
from dvm_mpi.sim.model.shapes import Shape, make_shape

_BYTES_PER_MB: Final = 1e6


def run_predictions(options: PredictOptions) -> str:
    """Predict what was asked for; return the text for standard output.

    Raises
    ------
    UsageError, FileError
        What was asked for is wrong, or a file.
    """
    if options.plot is not None and (missing := missing_for_page()):
        raise UsageError(
            f"--plot: {missing} is not installed, which draws: pip install 'dvm-mpi[report]'"
        )
    costs = read_costs(options.costs)
    try:
        given = {name: int(value, 0) for name, value in options.defines.items()}
    except ValueError as error:
        raise UsageError(f"-D: {error}") from error
    shape = make_shape(options.job, given)
    wait_for_code("reference", say)
    job = job_of(options.job, shape)
    site = Site(
        costs,
        _network(options.network, costs),
        ranks_per_host=options.ranks_per_host,
        cores=options.cores,
        instruction_ns=instruction_ns_of(options.job, costs),
    )
    found = []
    for ranks in options.ranks:
        if not options.quiet:
            say(f"dvm: predicting {options.job} on {ranks:,} ranks")
        found.append(
            predict(
                job,
                ranks,
                site,
                plane=options.data_plane,
                leaders="auto" if options.leaders is None else options.leaders or "none",
                is_naive=options.is_naive,
            )
        )
    _write(options, found)
    return _table(options, costs, found)


def read_costs(path: Path) -> Costs:
    """Read a file that `calibrate` wrote; `FileError` if it is none."""
    try:
        return costs_from_json(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise FileError(
            f"cannot read {path}: {error.strerror}; make it: python -m dvm_mpi calibrate -o {path}"
        ) from error


def job_of(name: str, shape: Shape) -> Job:
    """Return the job of a shape."""

    def load(machine: PricedMachine) -> None:
        start, length = shape.loaded
        pages = np.arange(start >> PAGE_SHIFT, -(-(start + length) >> PAGE_SHIFT))
        for number, positions in machine.geometry.group_pages(pages):
            # Of frames that nobody wrote all bytes are one page of zeros: they take no memory.
            home = machine.homes[number]
            home.enter(LOADED_EPOCH, pages[positions], home.pool.allocate(positions.size))

    return Job(name, shape.image, lambda: ShapeEngine(shape), load, shape.loaded[1])


def _network(name: str, costs: Costs) -> Network:
    if name != "measured":
        return NETWORKS[name]
    if costs.between is None:
        raise UsageError(
            "--network measured: these costs have no network between hosts; calibrate --between"
        )
    return costs.between


def instruction_ns_of(job: str, costs: Costs) -> float:
    """Return what an instruction of a job takes; of one that was not measured the median."""
    return costs.instruction_ns.get(job) or float(np.median(list(costs.instruction_ns.values())))


# --- results -------------------------------------------------------------------------------------
def speed_ups(found: Sequence[Prediction]) -> list[tuple[float, float]]:
    """Return how many times as fast as the first each is, and that as a share of the ideal."""
    first = found[0]
    gains = [first.work_s / p.work_s for p in found]
    return [(gain, gain * first.ranks / p.ranks) for gain, p in zip(gains, found, strict=True)]


def _table(options: PredictOptions, costs: Costs, found: Sequence[Prediction]) -> str:
    naive = ", a naive coordinator" if options.is_naive else ""
    lines = [
        f"{options.job} on {options.network}, {options.ranks_per_host} ranks on "
        f"{options.cores} cores of a host{naive}; costs: {options.costs}",
        "   ranks      time  speed-up  of ideal  efficiency  rank 0 busy  deciding"
        "  visible after (worst)       moved",
    ]
    for p, (gain, share) in zip(found, speed_ups(found), strict=True):
        lines.append(
            f"{p.ranks:>8,} {p.work_s:>8.3f}s {gain:>9.2f} {share:>9.2f} "
            f"{p.executing_share:>11.3f} {p.rank0_busy:>12.2f} {p.rank0_deciding:>9.2f} "
            f"{p.lag_median_ms:>10.2f} ({p.lag_worst_ms:,.1f}) ms "
            f"{p.moved_bytes / _BYTES_PER_MB:>9,.1f} MB"
        )
    lines += [
        f"speed-up: against {found[0].ranks:,} ranks; efficiency: share of all time that executes",
        worth(costs.residuals.get("held_out", [])),
    ]
    return "\n".join(lines)


def _write(options: PredictOptions, found: Sequence[Prediction]) -> None:
    for path, write in ((options.csv, _write_csv), (options.plot, _write_plot)):
        if path is None:
            continue
        try:
            write(path, found)
        except OSError as error:
            raise FileError(f"cannot write {path}: {error.strerror}") from error


def _write_csv(path: Path, found: Sequence[Prediction]) -> None:
    rows = [
        asdict(p) | {"speed_up": gain, "of_ideal": share}
        for p, (gain, share) in zip(found, speed_ups(found), strict=True)
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _write_plot(path: Path, found: Sequence[Prediction]) -> None:
    from dvm_mpi.io.plots import draw_scaling

    gains = speed_ups(found)
    draw_scaling(
        path,
        [p.ranks for p in found],
        {
            "speed-up": [gain for gain, _ in gains],
            "ideal": [p.ranks / found[0].ranks for p in found],
        },
        {
            "efficiency": [p.executing_share for p in found],
            "rank 0 busy": [p.rank0_busy for p in found],
        },
    )
