"""All workloads under drawn conditions, seed after seed, then all planted faults: `make simulate`.

A seed draws ranks, delays, faults, data plane and modes, and every workload runs once under them.
Nothing may be wrong: neither its truth, nor the replay, the rules, the checker, or what is left at
the end. A finding is told with the command that repeats it, and ends the sweep.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Final

from dvm_mpi.errors import DvmError
from dvm_mpi.sim.faults import FAULTS
from dvm_mpi.sim.simulation import ENGINE_SETTINGS, SimulatedRun, Simulation, judge, simulate
from dvm_mpi.sim.workloads import WORKLOADS, RunEnd
from tests.engine.agreement import ALL_ENGINES
from tests.sim import table

#: Parameters for a sweep, where many small runs show more than few large ones.
SIZES: Final[dict[str, dict[str, int]]] = {
    "one_page": {"RUNNERS": 24},
    "children": {"CHILDREN": 24},
    "large": {"RUNNERS": 2},
}
#: Each fault alone, none, and all together, in turn.
FAULT_SETS: Final = (*(frozenset({name}) for name in FAULTS), frozenset[str](), frozenset(FAULTS))
#: One seed in so many asserts all invariants after every event.
CHECKED_EACH: Final = 10
#: Part of the seeds in which whole pages conflict: most runners lose then, again and again.
_PAGE_SHARE: Final = 0.1
#: Seconds between two lines about progress.
_TOLD_EACH_S: Final = 30.0


@dataclass(slots=True)
class Swept:
    """What one seed brought: sums by workload, and what is wrong, with the way to see it again."""

    seed: int
    sums: dict[str, Counter[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)


def conditions(seed: int) -> Simulation:
    """Return what a seed draws for all its runs."""
    chance = Random(seed)
    return Simulation(
        ranks=chance.choice([1, 2, 3, 5, 8, 12, 16]),
        seed=seed,
        network=chance.choice(["exponential", "heavy"]),
        faults=FAULT_SETS[seed % len(FAULT_SETS)],
        data_plane=chance.choice(["rma", "message"]),
        isolation=chance.choice(["snapshot", "snapshot", "serializable"]),
        conflict_unit="page" if chance.random() < _PAGE_SHARE else "byte",
        check="all" if seed % CHECKED_EACH == 0 else "end",
        leaders=chance.choice([0, 1, 2, 3, 16]),
    )


def command(name: str, simulation: Simulation) -> str:
    """Return the command line that repeats a run."""
    sizes = "".join(f" -D {key}={value}" for key, value in SIZES.get(name, {}).items())
    faults = ",".join(sorted(simulation.faults)) or "none"
    return (
        f"python -m dvm_mpi simulate --workload {name}{sizes} --ranks {simulation.ranks} "
        f"--seed {simulation.seed} --network {simulation.network} --faults {faults} "
        f"--data-plane {simulation.data_plane} --isolation {simulation.isolation} "
        f"--conflict-unit {simulation.conflict_unit} --leaders {simulation.leaders} "
        f"--check {simulation.check}"
    )


def wrong_with(name: str, run: SimulatedRun) -> list[str]:
    """Return all that is wrong with a run of a workload."""
    workload, modes = WORKLOADS[name], run.simulation
    sizes = SIZES.get(name, {})
    image, parameters = workload.image(sizes), workload.parameters(sizes)
    assert run.history is not None
    console = bytes(run.history.console)
    end = RunEnd(image, parameters, run.pages, console, run.failure, run.counters)
    untrue = workload.wrong(end, isolation=modes.isolation, conflict_unit=modes.conflict_unit)
    return [*run.violations, *untrue, *judge(run, image)]


def sweep(seed: int, engine: str = "reference", names: Iterable[str] = WORKLOADS) -> Swept:
    """Run workloads under the conditions of a seed; `engine` is of `agreement.ALL_ENGINES`."""
    swept = Swept(seed)
    maker = ALL_ENGINES[engine]
    simulation = conditions(seed)
    for name in names:
        workload = WORKLOADS[name]
        image = workload.image(SIZES.get(name, {}))
        try:
            run = simulate(simulation, image, lambda: maker(ENGINE_SETTINGS))
            found = wrong_with(name, run)
        except (AssertionError, DvmError):
            found = traceback.format_exc().splitlines()
        else:
            c = run.counters
            swept.sums[name] = Counter(
                runs=1, records=run.records, lost=c.retries, given_up=c.given_up, late=c.fenced
            )
        if found:
            swept.wrong += [f"seed {seed}, {name}:", *found, command(name, simulation)]
    return swept


def swept_seeds(seeds: range, jobs: int, engine: str) -> Iterator[Swept]:
    """Sweep all seeds in several processes, in their order."""
    one = partial(sweep, engine=engine)
    if jobs == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(one, seeds)


def show(sums: dict[str, Counter[str]]) -> None:
    """Print a row for each workload, and the totals."""
    columns = ("runs", "records", "lost", "given_up", "late")
    print(f"{'workload':18}" + "".join(f"{column.replace('_', ' '):>10}" for column in columns))
    total = sum(sums.values(), Counter[str]())
    for name, row in [*sums.items(), ("all", total)]:
        print(f"{name:18}" + "".join(f"{row[column]:>10,}" for column in columns))


def main() -> int:
    """Run as a command; the status tells whether anything is wrong or missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=300, help="how many (default: 300)")
    parser.add_argument("--first", type=int, default=1, help="the first of them (default: 1)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--engine", choices=ALL_ENGINES, default="reference", help="who executes; "
                        "others than the reference only sweep, and plant no faults")  # fmt: skip
    options = parser.parse_args()
    began_s = told_s = time.monotonic()
    sums: dict[str, Counter[str]] = {name: Counter() for name in WORKLOADS}
    seeds = range(options.first, options.first + options.seeds)
    for count, swept in enumerate(swept_seeds(seeds, options.jobs, options.engine), 1):
        if swept.wrong:
            print("\n".join(swept.wrong))
            return 1
        for name, row in swept.sums.items():
            sums[name].update(row)
        if time.monotonic() - told_s >= _TOLD_EACH_S:
            told_s = time.monotonic()
            print(f"{count} of {len(seeds)} seeds, {told_s - began_s:.0f} s", file=sys.stderr)
    show(sums)
    print(f"no violation in {len(seeds)} seeds, {time.monotonic() - began_s:.0f} s\n", flush=True)
    return int(options.engine == "reference" and table.main([]) > 0)


if __name__ == "__main__":
    sys.exit(main())
