"""Attempts that bring their own addresses: each hands out its own, and tells what is left."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dvm_mpi.engine.interface import (
    LEASES,
    AttemptBatch,
    End,
    Engine,
    Lease,
    LeaseKind,
    Reason,
    TrapKind,
)
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.layout import (
    CELL_CHILD_ID,
    CELL_SYSCALL_ARGS,
    CELL_SYSCALL_NUMBER,
    DATA_START,
    PAGE_BYTES,
)
from tests.engine.machine import (
    EngineMaker,
    Host,
    Task,
    at,
    batch,
    imm,
    op,
    program,
    settings,
)

ENGINES: list[EngineMaker] = [ReferenceEngine, InterpEngine]
PR = 0x1_0000_4000
MALLOC_BYTES = 5_000
BLOCK = 2 * PAGE_BYTES

#: Creates a child with an explicit stack, mallocs, and notes both addresses in its own words.
CREATE = [
    op("mov", imm(DATA_START), at(PR)),
    op("mov", imm(8), at(PR + 8)),
    op("newr", imm(PR), imm(PR + 64), imm(PR + 64), imm(PR + 72)),
    op("mov", at(CELL_CHILD_ID), at(DATA_START + 64)),
    op("mov", imm(1), at(CELL_SYSCALL_NUMBER)),
    op("mov", imm(MALLOC_BYTES), at(CELL_SYSCALL_ARGS)),
    op("int", number=0x80),
    op("mov", at(CELL_SYSCALL_ARGS), at(DATA_START + 72)),
]


@pytest.fixture(params=ENGINES, ids=["reference", "interp"])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    machine: Engine = request.param(settings())
    yield machine
    machine.close()


def with_leases(count: int, *rows: tuple[int, ...]) -> AttemptBatch:
    tasks = [Task(runner=i) for i in range(count)]
    return replace(batch(tasks), leases=np.array(list(rows), dtype=LEASES))


def row(ids: int, mallocs: int, blocks: int = 3) -> tuple[int, ...]:
    return (ids, ids + blocks * PAGE_BYTES, 0, 0, mallocs, mallocs + blocks * BLOCK)


def noted(stored: dict[int, int]) -> tuple[int, int]:
    def word(address: int) -> int:
        return int.from_bytes(bytes(stored.get(address + i, 0) for i in range(8)), "little")

    return word(DATA_START + 64), word(DATA_START + 72)


def words(leases: Any) -> list[list[int]]:
    return [list(one) for one in leases.tolist()]


IDS, MALLOCS = 0x3E0_0000_0000, 0x2100_0000_0000
STEP = 1 << 30


def test_each_attempt_hands_out_its_own(engine: Engine) -> None:
    engine.load(program(*CREATE, op("exit:c")), b"")
    engine.begin(with_leases(3, *(row(IDS + i * STEP, MALLOCS + i * STEP) for i in range(3))))
    host = Host(engine)
    while (stop := engine.run(100)).reason is not Reason.BATCH_DONE:
        assert stop.reason is Reason.PAGE_MISSED
        host.answer(stop)
    taken = engine.take_outcomes()
    assert [int(child["id"]) for child in taken.children] == [IDS + i * STEP for i in range(3)]
    assert taken.mallocs["start"].tolist() == [MALLOCS + i * STEP for i in range(3)]
    assert words(taken.leases) == [
        [
            IDS + i * STEP + PAGE_BYTES,
            IDS + i * STEP + 3 * PAGE_BYTES,
            *(0, 0),
            MALLOCS + i * STEP + BLOCK,
            MALLOCS + i * STEP + 3 * BLOCK,
        ]
        for i in range(3)
    ]


@pytest.mark.parametrize("end", ["exit:a", "trap"])
def test_what_an_attempt_without_effect_took_is_taken(engine: Engine, end: str) -> None:
    last = op("exit:a") if end == "exit:a" else op("int", number=3)
    engine.load(program(*CREATE, last), b"")
    engine.begin(with_leases(1, row(IDS, MALLOCS)))
    host = Host(engine)
    while (stop := engine.run(100)).reason is not Reason.BATCH_DONE:
        host.answer(stop)
    taken = engine.take_outcomes()
    assert int(taken.outcomes["end"][0]) == (End.ABORT if end == "exit:a" else End.TRAP)
    assert int(taken.leases["id_next"][0]) == IDS + PAGE_BYTES
    assert int(taken.leases["malloc_next"][0]) == MALLOCS + BLOCK


def test_who_asks_is_parked_and_goes_on_with_what_it_gets(engine: Engine) -> None:
    """Nobody else hands out what the parked attempt has left, nor what comes for it."""
    engine.load(program(*CREATE, *CREATE, op("exit:c")), b"")
    engine.begin(with_leases(2, row(IDS, MALLOCS, 1), row(IDS + STEP, MALLOCS + STEP)))
    host = Host(engine)
    while (stop := engine.run(100)).reason is Reason.PAGE_MISSED:
        host.answer(stop)
    assert (stop.reason, stop.lease, stop.index) == (Reason.LEASE_NEEDED, LeaseKind.ID, 0)
    asks_at = stop.pc
    handle = engine.park()
    while (stop := engine.run(100)).reason is Reason.PAGE_MISSED:
        host.answer(stop)
    assert stop.reason is Reason.BATCH_DONE
    engine.unpark(handle)
    engine.grant_lease(Lease(LeaseKind.ID, IDS + 2 * STEP, IDS + 2 * STEP + PAGE_BYTES))
    stop = engine.run(100)
    assert (stop.reason, stop.lease) == (Reason.LEASE_NEEDED, LeaseKind.MALLOC)
    engine.grant_lease(Lease(LeaseKind.MALLOC, MALLOCS + 2 * STEP, MALLOCS + 2 * STEP + 3 * BLOCK))
    (second, first) = host.run()
    assert noted(second.stored) == (IDS + STEP + PAGE_BYTES, MALLOCS + STEP + BLOCK)
    assert noted(first.stored) == (IDS + 2 * STEP, MALLOCS + 2 * STEP)
    assert [c.row["id"] for c in first.children] == [IDS, IDS + 2 * STEP]
    assert first.children[1].row["newr_pc"] == asks_at, "who asks says where"


def test_a_refused_malloc_leaves_the_block_as_it_was(engine: Engine) -> None:
    large = [
        op("mov", imm(1), at(CELL_SYSCALL_NUMBER)),
        op("mov", imm(5 * BLOCK), at(CELL_SYSCALL_ARGS)),
        op("int", number=0x80),
    ]
    engine.load(program(*large, *CREATE, op("exit:c")), b"")
    engine.begin(with_leases(1, row(IDS, MALLOCS)))
    stop = engine.run(100)
    assert (stop.lease, stop.lease_bytes) == (LeaseKind.MALLOC, 5 * BLOCK)
    engine.grant_lease(Lease(LeaseKind.MALLOC, 7, 7))
    host = Host(engine)
    (ended,) = host.run()
    assert noted(ended.stored) == (IDS, MALLOCS)


def test_without_a_clock_gettime_traps() -> None:
    gettime = program(
        op("mov", imm(7), at(CELL_SYSCALL_NUMBER)), op("int", number=0x80), op("exit:c")
    )
    for maker in ENGINES:
        engine = maker(settings(clock=None))
        engine.load(gettime, b"")
        engine.begin(batch([Task()]))
        (ended,) = Host(engine).run()
        engine.close()
        assert (ended.row["end"], ended.row["trap"]) == (End.TRAP, TrapKind.NO_TIME)
        assert ended.row["instructions"] == 2
