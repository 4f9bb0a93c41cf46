"""What `--isolation serializable` forbids and snapshot isolation allows; conflicts on whole pages.

Every run is compared with its replay, which decides by values and by who stored each byte last.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dvm_mpi import config
from dvm_mpi.control.driver import LocalMachine, MachineSettings
from dvm_mpi.control.validation import ConflictUnit
from dvm_mpi.engine.interface import Engine, LoadTracking
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.sim.replay import replay
from tests.sim.cases import CASES, Case
from tests.sim.machine import ENGINE, Run, program, simulate

SEEDS = range(20)
#: Programs whose runners load nothing that others might store.
STORING_ONLY = {"neighbours"}
SERIALIZABLE: dict[str, Any] = {"isolation": "serializable"}


def compiled(tracking: LoadTracking) -> Callable[[], Engine]:
    return lambda: InterpEngine(replace(ENGINE, loads=tracking))


def serializable(name: str, seed: int) -> Run:
    """Run under `serializable`, with either engine, and what they note with values or without."""
    tracking = LoadTracking.CONTENT if seed % 4 < 2 else LoadTracking.PLACES
    run = simulate(
        program(name),
        seed,
        settings=SERIALIZABLE,
        tracking=tracking,
        make_engine=compiled(tracking) if seed % 2 else None,
    )
    assert run.differences == [], f"seed {seed}"
    return run


# --- anomalies ----------------------------------------------------------------------------------
def left_over(run: Run) -> int:
    return run.word("left") + run.word("right")


def test_write_skew_is_possible_under_snapshot_isolation() -> None:
    runs = [simulate(program("isolation/skew"), seed) for seed in SEEDS]
    assert all(run.differences == [] for run in runs)
    assert 0 in {left_over(run) for run in runs}


def test_write_skew_is_impossible_under_serializable() -> None:
    assert {left_over(serializable("isolation/skew", seed)) for seed in SEEDS} == {1}


def is_anomaly(run: Run) -> bool:
    """Say whether the report found the deposit without the withdrawal, which then paid the fee."""
    return run.words("seen", 2) == [0, 20] and run.word("first") == -11


def test_a_reader_may_see_no_serial_order_under_snapshot_isolation() -> None:
    runs = [simulate(program("isolation/reader"), seed) for seed in SEEDS]
    assert all(run.differences == [] for run in runs)
    assert any(is_anomaly(run) for run in runs)


def test_a_reader_sees_a_serial_order_under_serializable() -> None:
    runs = [serializable("isolation/reader", seed) for seed in SEEDS]
    assert not any(is_anomaly(run) for run in runs)
    assert any(run.retries for run in runs), "the seeds that show the anomaly are among them"


# --- everything else ----------------------------------------------------------------------------
@pytest.mark.parametrize("case", CASES, ids=str)
def test_programs_keep_their_truth_under_serializable(case: Case) -> None:
    """Staged and inline write sets, retries and watchers; each record's loads come again."""
    seed = CASES.index(case) % 2
    run = simulate(
        program(case.name, **case.defines),
        seed,
        settings=SERIALIZABLE | {"on_wire": True, "inline_bytes_max": 4 if seed else 4096},
        tracking=LoadTracking.CONTENT,
        make_engine=compiled(LoadTracking.CONTENT) if seed else None,
    )
    assert run.differences == []
    loads = any(ended.loads for ended in run.history.ended.values())
    assert loads == (case.name not in STORING_ONLY)
    assert case.wrong(run, isolation="serializable") == []


@pytest.mark.parametrize("case", CASES[:12], ids=str)
def test_programs_keep_their_truth_with_conflicts_on_pages(case: Case) -> None:
    both = SERIALIZABLE | {"conflict_unit": "page"}
    run = simulate(
        program(case.name, **case.defines), 1, settings=both, tracking=LoadTracking.PLACES
    )
    assert run.differences == []
    if case.name == "neighbours":
        assert run.retries > 0, "they store to the same pages"
    modes = {"isolation": "serializable", "conflict_unit": "page"}
    assert case.wrong(run, **modes) == []


def test_the_replay_notices_another_value() -> None:
    run = simulate(program("counters"), 3, tracking=LoadTracking.CONTENT)
    history = run.history
    number = next(number for number, _ in history.orders if history.ended[number].loads)
    ended = history.ended[number]
    (start, length, _), *others = ended.loads
    history.ended[number] = replace(ended, loads=((start, length, b"?" * length), *others))
    found = replay(history, run.image, replace(ENGINE, loads=LoadTracking.CONTENT))
    assert len(found) == 1
    assert found[0].startswith(f"attempt {number}: loads was")


# --- neighbours ---------------------------------------------------------------------------------
def adjacent(unit: ConflictUnit) -> tuple[list[int], int]:
    """Return the words that 2,048 runners stored side by side, and how often one ran again."""
    image = program("isolation/adjacent")
    settings = MachineSettings(workers=4, memory_bytes=16 * config.MIB, conflict_unit=unit)
    machine = LocalMachine(image, settings, lambda: InterpEngine(ENGINE))
    with closing(machine):
        assert machine.run().failure is None
        content = machine.read(image.symbols["cells"] // PAGE_BYTES, 4)
        return content.reshape(-1).view(np.int64).tolist(), machine.scheduler.counters.retries


def test_2048_neighbours_conflict_by_pages_and_not_by_bytes() -> None:
    by_bytes, by_pages = adjacent("byte"), adjacent("page")
    assert by_bytes[0] == by_pages[0] == list(range(1, 2_049))
    assert by_bytes[1] == 0
    assert by_pages[1] > 2_048
