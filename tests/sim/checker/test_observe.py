"""Recorded runs of the racing programs, judged by their values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dvm_mpi.control.validation import Isolation
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.engine.interface import End, LoadTracking
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.sim.checker.check import check
from dvm_mpi.sim.checker.judge import anomalies
from dvm_mpi.sim.checker.observation import Level
from dvm_mpi.sim.checker.observe import observe
from dvm_mpi.sim.history import EndedAttempt, GivenAttempt, History
from dvm_mpi.sim.simulation import ENGINE_SETTINGS, Simulation
from dvm_mpi.sim.simulation import simulate as simulate_time
from tests.sim.bugs import BUGS
from tests.sim.cases import CASES, Case
from tests.sim.machine import program, simulate

BASE = 0x4_4000_0000
EMPTY = assemble_text(".text\nmain: exit:c\n", "test.dasm", {})


def given(number: int, runner: int = 0) -> GivenAttempt:
    return GivenAttempt(number, 0, 1, runner, 0x3D0_0000_0000, 0, (0, 0), True, (), ())


def ended(loads=(), stores=()) -> EndedAttempt:
    return EndedAttempt(
        End.COMMIT, 1, tuple(stores), (), (), b"", 0, -1, -1, -1, 0, loads=tuple(loads)
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}{case.defines or ''}")
def test_runs_of_the_machine_pass(case: Case) -> None:
    image = program(case.name, **case.defines)
    for seed in range(2):
        run = simulate(image, seed, tracking=LoadTracking.CONTENT)
        observations, order = observe(run.history, image)
        for claimed in (None, order):
            verdict = check(observations, Level.SNAPSHOT, order=claimed)
            assert verdict.anomaly is None, f"seed {seed}: {verdict}"
        assert verdict.is_complete
        assert (verdict.loads > 0) is (case.name != "neighbours")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("early child", "session violation"),
        ("page image", "lost stores"),
        ("no write-write check", "lost update"),
        ("freed under a pin", "stale read"),
    ],
)
def test_planted_faults_show_in_values(name: str, told: str) -> None:
    """A watcher that sleeps is not among them: memory does not show what did not happen."""
    bug = BUGS[name]
    image = bug.image
    for seed in range(bug.seeds_max):
        run = simulate(
            image, seed, settings=bug.settings, parts=bug.parts, tracking=LoadTracking.CONTENT
        )
        verdict = check(observe(run.history, image)[0], Level.SNAPSHOT)
        if verdict.anomaly is not None:
            assert told in str(verdict)
            return
    pytest.fail(f"{name} was not noticed within {bug.seeds_max} seeds")


def test_all_promises_are_among_the_sessions() -> None:
    image = program("counting_watcher")
    run = simulate(image, 1, tracking=LoadTracking.CONTENT)
    observations, _ = observe(run.history, image)
    assert {session.why for session in observations.sessions} == {
        "child after parent",
        "instance after what woke it",
        "retry after what it lost to",
    }
    assert all(session.before < session.after for session in observations.sessions)


def test_bytes_are_cut_where_any_run_begins_or_ends() -> None:
    """Eight bytes are stored, one of them is stored over, and two overlapping words are loaded."""
    history = History(
        given={number: given(number, number) for number in (1, 2, 3)},
        ended={
            1: ended(stores=[(BASE, 8, b"abcdefgh")]),
            2: ended(loads=[(BASE + 2, 1, b"c")], stores=[(BASE + 2, 1, b"C")]),
            3: ended(loads=[(BASE + 1, 4, b"bCde"), (BASE + 4094, 4, bytes(4))]),
        },
        orders=[(1, 2), (2, 3), (3, 4)],
        pages={BASE >> 12: b"abCdefgh".ljust(4096, b"\0")},
    )
    observations, order = observe(history, EMPTY)
    assert observations.attempts[0].stores == {
        (BASE, 1): b"a", (BASE + 1, 1): b"b", (BASE + 2, 1): b"c", (BASE + 3, 2): b"de",
        (BASE + 5, 3): b"fgh",
    }  # fmt: skip
    assert set(observations.attempts[2].loads) == {
        (BASE + 1, 1), (BASE + 2, 1), (BASE + 3, 2), (BASE + 4094, 2), (BASE + 4096, 2)
    }  # fmt: skip
    for level in Level:
        assert check(observations, level, order=order).anomaly is None
    history.ended[3] = replace(history.ended[3], loads=((BASE + 1, 4, b"\0Cde"),))
    observations, _ = observe(history, EMPTY)
    assert "fractured read" in str(check(observations, Level.SNAPSHOT))


def test_a_loser_and_its_retry() -> None:
    history = History(
        given={1: given(1, 1), 2: given(2, 7), 3: given(3, 7)},
        ended={
            1: ended(stores=[(BASE, 8, b"12345678")]),
            2: ended(stores=[(BASE, 8, b"abcdefgh")]),
            3: ended(loads=[(BASE, 8, bytes(8))]),
        },
        orders=[(1, 2), (3, 3)],
        pages={BASE >> 12: b"12345678".ljust(4096, b"\0")},
        losses=[(2, 2)],
    )
    observations, _ = observe(history, EMPTY)
    told = str(check(observations, Level.SNAPSHOT))
    assert "session violation" in told
    assert "attempt 3 must see attempt 1: retry after what it lost to" in told


def test_a_staged_store_has_unknown_bytes() -> None:
    history = History(
        given={1: given(1, 1), 2: given(2, 2)},
        ended={1: ended(stores=[(BASE, 8, None)]), 2: ended(loads=[(BASE, 8, b"12345678")])},
        orders=[(1, 2), (2, 3)],
        pages={BASE >> 12: b"12345678".ljust(4096, b"\0")},
    )
    observations, order = observe(history, EMPTY)
    assert check(observations, Level.SNAPSHOT, order=order).anomaly is None


@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
def test_write_skew_is_found_where_only_snapshots_are_promised(isolation: Isolation) -> None:
    """In simulated time, with faults; the values alone tell, at the level of serial orders."""
    image = program("write_skew")
    found = []
    for seed in range(6):
        simulation = Simulation(
            ranks=4, seed=seed, isolation=isolation, faults=frozenset({"slow", "suspect"})
        )
        run = simulate_time(simulation, image, lambda: ReferenceEngine(ENGINE_SETTINGS))
        assert run.history is not None
        assert anomalies(run.history, image, isolation) == []
        verdict = check(observe(run.history, image)[0], Level.SERIALIZABLE)
        found += [str(verdict)] if verdict.anomaly is not None else []
    if isolation == "snapshot":
        assert found
        assert all("write skew" in text for text in found)
    else:
        assert found == []
