"""How often instructions are executed, counted by hand and by every engine."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import LoadTracking, Reason
from dvm_mpi.engine.tally import addresses, by_row
from dvm_mpi.layout import DATA_START, TEXT_START
from tests.engine.agreement import ENGINES
from tests.engine.machine import EngineMaker, Host, Task, at, batch, imm, op, program, settings, via

COUNTER = 0x2_0000_0010
POINTER = 0x2_0000_0018

on_engines = pytest.mark.parametrize("maker", ENGINES.values(), ids=ENGINES)


def counts(
    maker: EngineMaker, image: Image, tasks: int = 1, fuel: int = 1_000, **changes: object
) -> list[int]:
    """Run attempts from the first instruction, and return all counts."""
    engine = maker(settings(**({"counts_instructions": True} | changes)))
    try:
        engine.load(image, b"")
        engine.begin(batch([Task(runner=number) for number in range(tasks)]))
        Host(engine).run(fuel)
        return [int(count) for count in engine.instruction_counts()]
    finally:
        engine.close()


#: A loop of three rounds: its head is reached once from above and twice from its end.
LOOP = program(
    op("mov", imm(0), at(COUNTER)),
    op("add", at(COUNTER), imm(1), at(COUNTER)),
    op("nop"),
    op("br:l", at(COUNTER), imm(3), target=1),
    op("nop"),
    op("exit:c"),
)
#: The fourth round divides by zero, in the midst of what goes on from above.
TRAPPING = program(
    op("mov", imm(4), at(COUNTER)),
    op("sub", at(COUNTER), imm(1), at(COUNTER)),
    op("div", imm(1), at(COUNTER), at(POINTER)),
    op("nop"),
    op("br:j", target=1),
)


@on_engines
@pytest.mark.parametrize("fuel", [1, 2, 3, 1_000])
def test_a_loop_is_counted_whatever_the_slices(maker: EngineMaker, fuel: int) -> None:
    assert counts(maker, LOOP, fuel=fuel) == [1, 3, 3, 3, 1, 1, 0]


@on_engines
def test_attempts_add_up(maker: EngineMaker) -> None:
    assert counts(maker, LOOP, tasks=5) == [5, 15, 15, 15, 5, 5, 0]


@on_engines
def test_nothing_is_counted_unless_asked(maker: EngineMaker) -> None:
    assert counts(maker, LOOP, counts_instructions=False) == [0] * 7


@on_engines
def test_the_instruction_that_traps_is_executed_and_none_after_it(maker: EngineMaker) -> None:
    assert counts(maker, TRAPPING) == [1, 4, 4, 3, 3, 0]


@on_engines
@pytest.mark.parametrize(
    ("fuel_max", "executed"),
    [(1, [1, 0, 0, 0, 0, 0]), (3, [1, 1, 1, 0, 0, 0]), (5, [1, 1, 1, 1, 1, 0])],
)
def test_fuel_ends_before_an_instruction(
    maker: EngineMaker, fuel_max: int, executed: list[int]
) -> None:
    assert counts(maker, TRAPPING, fuel_max=fuel_max) == executed


@on_engines
def test_fuel_ends_on_the_way_of_a_jump(maker: EngineMaker) -> None:
    assert counts(maker, LOOP, fuel_max=4) == [1, 1, 1, 1, 0, 0, 0]
    assert counts(maker, LOOP, fuel_max=4, fuel=1) == [1, 1, 1, 1, 0, 0, 0]


@on_engines
def test_control_that_leaves_the_text_is_counted_there(maker: EngineMaker) -> None:
    assert counts(maker, program(op("nop"), op("nop"))) == [1, 1, 1]
    assert counts(maker, program(op("br:ne", imm(1), imm(1), target=0))) == [1, 1]


@on_engines
def test_a_long_strcmp_is_many_instructions(maker: EngineMaker) -> None:
    image = program(
        op("strcmp", imm(DATA_START), imm(20_000), imm(DATA_START), imm(20_000), at(COUNTER)),
        op("exit:c"),
    )
    assert counts(maker, image, loads=LoadTracking.PLACES) == [5, 1, 0]


@on_engines
def test_an_instruction_that_waits_is_not_executed_yet(maker: EngineMaker) -> None:
    """The second one wants a page; the attempt is set aside there, and goes on later."""
    image = program(
        op("mov", imm(DATA_START), at(POINTER)),
        op("mov", via(POINTER), at(COUNTER)),
        op("exit:c"),
    )
    engine = maker(settings(counts_instructions=True))
    try:
        engine.load(image, b"")
        engine.begin(batch([Task()]))
        stopped = engine.run(1_000)
        assert stopped.reason is Reason.PAGE_MISSED
        assert engine.instruction_counts().tolist() == [1, 0, 0, 0]
        handle = engine.park()
        assert engine.instruction_counts().tolist() == [1, 0, 0, 0]
        engine.unpark(handle)
        host = Host(engine)
        host.answer(stopped)
        host.run()
        assert engine.instruction_counts().tolist() == [1, 1, 1, 0]
    finally:
        engine.close()


def test_rows_are_instructions_and_bytes_of_flat_text() -> None:
    image = program(op("nop"), op("exit:c"))
    flat = program(op("nop"), op("exit:c"), flat=True)
    assert len(addresses(image)) == 3
    assert np.array_equal(addresses(flat), TEXT_START + np.arange(len(flat.text) + 1))
    second = int(addresses(image)[1])
    executed = {TEXT_START: 5, second: 6, TEXT_START - 1: 7, second + (1 << 40): 8}
    assert by_row(image, executed).tolist() == [5, 6, 15]
    assert by_row(flat, executed)[[0, second - TEXT_START, -1]].tolist() == [5, 6, 15]
