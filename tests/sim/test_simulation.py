"""Runs in simulated time: repeated by their seed, right under every fault, and clean at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi.control.driver import StalledError
from dvm_mpi.control.loader import LOADED_EPOCH
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.dsm.home import Addressed, Home
from dvm_mpi.dsm.messages import ApplyRequested, DiscardRequested
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.errors import LimitError
from dvm_mpi.sim.faults import FAULTS, parse_faults
from dvm_mpi.sim.network import NETWORKS
from dvm_mpi.sim.replay import replay
from dvm_mpi.sim.simulation import ENGINE_SETTINGS, SimulatedRun, Simulation, simulate
from dvm_mpi.sim.synthetic import SyntheticEngine, SyntheticWork
from dvm_mpi.sim.trace import Trace
from dvm_mpi.sim.workloads import WORKLOADS, RunEnd


def run_workload(name: str, simulation: Simulation, **options: Any) -> SimulatedRun:
    """Simulate a workload under the reference engine."""
    image = WORKLOADS[name].image()
    return simulate(simulation, image, lambda: ReferenceEngine(ENGINE_SETTINGS), **options)


def wrong(name: str, run: SimulatedRun) -> list[str]:
    """Return all that is wrong with a run."""
    workload = WORKLOADS[name]
    image = workload.image()
    assert run.history is not None
    console = bytes(run.history.console)
    end = RunEnd(image, workload.parameters(), run.pages, console, run.failure, run.counters)
    return run.violations + workload.wrong(end) + replay(run.history, image, ENGINE_SETTINGS)


# --- right under every fault --------------------------------------------------------------------
@pytest.mark.parametrize(("name", "seed"), [
    ("counters", 2), ("bank", 2), ("large", 1), ("sleepers", 2), ("stacks", 2), ("trap", 2),
    ("storm", 2), ("deleted", 3), ("children", 2), ("chains", 2),
])  # fmt: skip
def test_a_run_with_all_faults_is_right(name: str, seed: int) -> None:
    simulation = Simulation(
        ranks=8, seed=seed, network="heavy", faults=parse_faults("all"), check="all"
    )
    assert wrong(name, run_workload(name, simulation)) == []


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("data_plane", ["rma", "message"])
def test_networks_and_data_planes_are_right(network: str, data_plane: str) -> None:
    simulation = Simulation(ranks=12, seed=5, network=network, data_plane=data_plane, check="all")
    assert wrong("counters", run_workload("counters", simulation)) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_alone_is_right(fault: str) -> None:
    simulation = Simulation(ranks=6, seed=2, faults=parse_faults(fault), check="all")
    assert wrong("counters", run_workload("counters", simulation)) == []


def test_suspicion_and_loss_do_happen() -> None:
    """Otherwise the tests above would show nothing."""
    simulation = Simulation(
        ranks=8, seed=2, network="heavy", faults=parse_faults("all"), check="all"
    )
    run = run_workload("counters", simulation)
    assert run.counters.given_up > 0
    assert run.counters.fenced > 0
    assert run.history is not None
    assert len(run.history.given_up) == run.counters.given_up


# --- repeated by their seed ---------------------------------------------------------------------
def traced(simulation: Simulation) -> str:
    lines: list[str] = []
    run_workload("watchers", simulation, trace=Trace(lines.append))
    return "".join(lines)


def test_one_seed_has_one_trace() -> None:
    simulation = Simulation(ranks=10, seed=4, network="heavy", faults=parse_faults("all"))
    trace = traced(simulation)
    assert trace == traced(simulation)
    assert {"takes", "executed", "reads"} <= set(trace.split())
    assert trace != traced(Simulation(ranks=10, seed=5, network="heavy", faults=frozenset()))


# --- very many ----------------------------------------------------------------------------------
def test_hundreds_of_ranks_of_synthetic_runners() -> None:
    work = SyntheticWork(seed=3, leaves=10_000)
    simulation = Simulation(ranks=300, seed=3, draws_fuel=False, faults=parse_faults("suspect"))
    run = simulate(simulation, work.image(), lambda: SyntheticEngine(work), records_history=False)
    total = sum(int(np.frombuffer(page, np.int64).sum()) for page in run.pages.values())
    assert work.wrong(total) == []
    assert run.violations == []
    assert run.counters.retries > 0
    assert run.counters.commits == 1 + work.parents + work.leaves


# --- what is wrong is told ----------------------------------------------------------------------
class _Forgetful(Home):
    """Keeps what losers have staged."""

    def _drop(self, event: DiscardRequested) -> tuple[Addressed, ...]:
        return ()


class _Hoarding(Home):
    """Keeps what was loaded, as if its snapshot were in use for ever."""

    def collect(self, visible: int, pins: NDArray[np.int64]) -> None:
        super().collect(visible, np.union1d(pins, [LOADED_EPOCH]))


class _Silent(Home):
    """Never applies an epoch after the first few."""

    def _take_epoch(self, event: ApplyRequested) -> tuple[Addressed, ...]:
        return super()._take_epoch(event) if event.epoch < 4 else ()


def test_staged_bytes_that_are_left_are_told() -> None:
    simulation = Simulation(ranks=4, seed=1, faults=parse_faults("arena"))
    run = run_workload("large", simulation, parts={"make_home": _Forgetful})
    assert any("keeps staged bytes of workers" in line for line in run.violations)


def test_a_frame_too_many_is_told() -> None:
    """One page of one home, which does not move: its first version stays, beside the newest."""
    run = run_workload("bank", Simulation(ranks=4, seed=2), parts={"make_home": _Hoarding})
    assert run.violations == ["home 0 has 2 frames in use, and 1 are live"]


def test_a_run_in_which_nothing_can_happen_says_who_waits() -> None:
    simulation = Simulation(ranks=4, seed=1)
    with pytest.raises(StalledError, match=r"nothing can happen, .* epoch 4 waits for homes"):
        run_workload("counters", simulation, parts={"make_home": _Silent})


def engines() -> Callable[[], ReferenceEngine]:
    return lambda: ReferenceEngine(ENGINE_SETTINGS)


def test_a_program_that_cannot_fit_ends_with_the_sizes() -> None:
    """It stores to ever more pages, and no memory suffices that tight homes are given."""
    image = assemble_text(
        """
        .bss
        .align  4096
array:  .space  $20000 * 4096
        .private at
        .text
main:   mov     $array, at
.next:  mov     $1, (at)
        add     at, $4096, at
        br:l    at, $array + 20000 * 4096, .next
        exit:c
""".replace("$20000", "20000"),
        "test.dasm",
        {},
    )
    with pytest.raises(LimitError, match=r"memory of a home is full|write sets that wait"):
        simulate(Simulation(ranks=1, seed=1), image, engines())
