"""A run of 20,000 attempts is judged at once, and one wrong load in it is found and told."""

from __future__ import annotations

import random
from dataclasses import replace

from dvm_mpi.sim.checker.check import check
from dvm_mpi.sim.checker.observation import Cell, Level, Observations, ObservedAttempt, Session

ATTEMPTS = 20_000
CELLS = tuple((0x4_4000_0000 + 8 * at, 8) for at in range(2_000))
#: How many commits a snapshot may be behind.
LAG = 20


def large_run() -> Observations:
    """Each attempt loads four cells and stores over two of them, unless it loses."""
    chance = random.Random(1)
    versions: dict[Cell, list[tuple[int, bytes]]] = {cell: [(0, bytes(8))] for cell in CELLS}
    attempts, sessions, order = [], [], [0]
    for number in range(1, ATTEMPTS + 1):
        snapshot = max(0, len(order) - 1 - chance.randint(0, LAG))
        cells = chance.sample(CELLS, 4)
        loads = {
            cell: next(value for at, value in reversed(versions[cell]) if at <= snapshot)
            for cell in cells
        }
        stores = {
            cell: (8 * number + at).to_bytes(8, "little") for at, cell in enumerate(cells[:2])
        }
        is_committed = all(versions[cell][-1][0] <= snapshot for cell in stores)
        attempts.append(ObservedAttempt(number, loads, dict(stores), is_committed))
        if snapshot:
            parent = order[chance.randint(max(1, snapshot - 50), snapshot)]
            sessions.append(Session(parent, number, "child after parent"))
        if is_committed:
            for cell, value in stores.items():
                versions[cell].append((len(order), value))
            order.append(number)
    final = {cell: made[-1][1] for cell, made in versions.items()}
    return Observations(attempts, sessions, {}, final)


def test_20000_attempts_pass_and_one_wrong_load_does_not() -> None:
    run = large_run()
    verdict = check(run, Level.SNAPSHOT)
    assert verdict.anomaly is None, str(verdict)
    assert verdict.is_complete
    assert sum(attempt.is_committed for attempt in run.attempts) > 19_000

    attempts = list(run.attempts)
    at = next(
        at
        for at in range(ATTEMPTS // 2, ATTEMPTS)
        if attempts[at].is_committed and any(map(any, list(attempts[at].loads.values())[2:]))
    )
    cell = next(cell for cell, value in list(attempts[at].loads.items())[2:] if any(value))
    attempts[at] = replace(attempts[at], loads={**attempts[at].loads, cell: bytes(8)})
    verdict = check(replace(run, attempts=attempts), Level.SNAPSHOT)
    assert verdict.anomaly is not None
    assert at + 1 in verdict.anomaly.attempts
    assert len(verdict.anomaly.lines) < 10, "a short cycle, not any"
