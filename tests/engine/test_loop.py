"""Translated code beside the loop: entered wherever control comes to it, and exact to the end.

The code is written by hand; what must come out is what the reference says.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import LoadTracking, Reason
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.engine.predecode import CELLS_PAGE, STATIC_PAGES_MAX, Program
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.engine.state import Field
from dvm_mpi.engine.tally import Tally
from dvm_mpi.layout import CELL_REGISTERS, DATA_START, PAGE_BYTES, PAGE_SHIFT, TEXT_START
from tests.engine import units
from tests.engine.machine import Host, Task, at, batch, imm, op, program, run_tasks, settings

COUNTER, SUM, POINTER = (CELL_REGISTERS + 8 * n for n in range(2, 5))
LIMIT = 50
#: A program, the host address of a unit, and the addresses of the loop that it stands for.
Translated = tuple[Image, int, list[int]]
BODY = (
    op("add", at(COUNTER), imm(1), at(COUNTER)),
    op("add", at(SUM), at(COUNTER), at(SUM)),
)
TAIL = (op("mov", at(SUM), at(DATA_START)), op("exit:c"))


def looping(*before, after=TAIL, name: str) -> Translated:
    """Return a program whose loop is translated, the function, and the loop's addresses."""
    head = len(before)
    image = program(*before, *BODY, op("br:l", at(COUNTER), imm(LIMIT), target=head), *after)
    assert image.lines is not None
    pcs = image.lines.addresses.tolist()[head : head + 4]
    return image, units.counting_loop(name, COUNTER, SUM, LIMIT, pcs), pcs


ONE = (Task(),)


def attached(image: Image, function: int, pcs: list[int], **changes) -> InterpEngine:
    engine = InterpEngine(settings(**changes))
    engine.load(image, b"")
    engine.attach({pcs[0]: 0, pcs[2]: 1}, function, [COUNTER >> PAGE_SHIFT])
    return engine


def compare(image: Image, function: int, pcs: list[int], tasks=ONE, fuel=1_000_000, **changes):
    """Run on the reference and with translated code; return how much ran translated."""
    expected, _ = run_tasks(ReferenceEngine, image, tasks, fuel=fuel, **changes)
    engine = attached(image, function, pcs, **changes)
    try:
        engine.begin(batch(tasks))
        assert Host(engine).run(fuel) == expected
        return int(engine._state[Field.NATIVE_INSTRUCTIONS])
    finally:
        engine.close()


PLAIN = looping(op("mov", imm(0), at(COUNTER)), name="plain")


def test_control_falls_through_into_translated_code() -> None:
    assert compare(*PLAIN) == 3 * LIMIT


def test_a_branch_leads_into_translated_code() -> None:
    """Both a jump from before it and a branch from behind it."""
    forwards = (op("br:j", target=3), op("nop"), op("nop"))
    backwards = (op("br:le", at(COUNTER), imm(LIMIT), target=3), *TAIL)
    assert compare(*looping(*forwards, after=backwards, name="branch")) == 3 * LIMIT + 3


def test_an_indirect_jump_leads_into_translated_code() -> None:
    jump = op("mov", imm(TEXT_START), at(POINTER)), op("br:ji", at(POINTER))
    _, _, pcs = looping(*jump, name="jump_measured")
    jump = op("mov", imm(pcs[0]), at(POINTER)), op("br:ji", at(POINTER))
    assert compare(*looping(*jump, name="jump")) == 3 * LIMIT


def test_an_attempt_begins_in_translated_code() -> None:
    """At each of its entries, in front of it, and where the loop must execute something first."""
    image, function, pcs = PLAIN
    tasks = [Task(entry=pc) for pc in (pcs[0], pcs[2], TEXT_START, pcs[1])]
    assert compare(image, function, pcs, tasks) == 4 * 3 * LIMIT + 2


@pytest.mark.parametrize("fuel", [1, 2, 3, 4, 5, 7, 10, 100])
def test_slices_may_end_anywhere(fuel: int) -> None:
    assert compare(*PLAIN, tasks=[Task(), Task()], fuel=fuel) <= 2 * 3 * LIMIT


@pytest.mark.parametrize("fuel_max", [1, 2, 3, 4, 5, 6, 99, 3 * LIMIT, 3 * LIMIT + 3])
@pytest.mark.parametrize("fuel", [2, 1_000])
def test_fuel_is_exact(fuel_max: int, fuel: int) -> None:
    """The trap comes at the same instruction, after as many."""
    compare(*PLAIN, fuel_max=fuel_max, fuel=fuel)


def test_it_traps_behind_translated_code() -> None:
    program_ = looping(
        op("mov", imm(0), at(COUNTER)), name="trapping",
        after=(op("div", at(COUNTER), imm(0), at(POINTER)),),
    )  # fmt: skip
    compare(*program_)


def test_the_loop_is_left_to_wait_and_entered_again() -> None:
    """What follows the loop wants a page each time, and goes back into it."""
    image, function, pcs = looping(
        op("mov", imm(0), at(COUNTER)), name="waiting",
        after=(
            op("mov", at(DATA_START), at(COUNTER)),
            op("add", at(POINTER), imm(1), at(POINTER)),
            op("br:l", at(POINTER), imm(3), target=1),
            *TAIL,
        ),
    )  # fmt: skip
    assert compare(image, function, pcs, loads=LoadTracking.CONTENT) == 3 * 3 * LIMIT


@pytest.mark.parametrize("attaches_at", ["begin", "parked", "running"])
@pytest.mark.parametrize("fuel", [2, 3, 4, 5, 30, 60])
def test_attempts_that_were_set_aside_go_on(attaches_at: str, fuel: int) -> None:
    """Also those that were set aside before there was translated code."""
    image, function, pcs = PLAIN
    tasks = [Task(id=Task.id), Task(id=Task.id + PAGE_BYTES)]
    expected, _ = run_tasks(ReferenceEngine, image, tasks)
    engine = InterpEngine(settings())
    engine.load(image, b"")

    def attach(moment: str) -> None:
        if moment == attaches_at:
            engine.attach({pcs[0]: 0, pcs[2]: 1}, function, [COUNTER >> PAGE_SHIFT])

    host = Host(engine)
    attach("begin")
    engine.begin(batch(tasks))
    assert engine.run(fuel).reason is Reason.SLICE_ENDED
    handle = engine.park()
    attach("parked")
    assert engine.run(fuel).reason is Reason.SLICE_ENDED
    attach("running")
    ended = host.run()
    engine.unpark(handle)
    ended = host.run() + ended
    engine.close()
    assert ended == expected


@pytest.mark.parametrize("left", [1, 2, 3])
def test_translated_code_has_no_part_in_what_the_loop_may_execute(left: int) -> None:
    """It runs through, and the loop goes on behind it as far as it may, and then from there."""
    behind = (op("nop"), op("nop"), *TAIL)
    image, function, pcs = looping(op("mov", imm(0), at(COUNTER)), after=behind, name="behind")
    expected, _ = run_tasks(ReferenceEngine, image, ONE)
    engine = attached(image, function, pcs)
    engine.begin(batch(ONE))
    engine._state[Field.LOOP_LEFT] = left
    stopped = engine.run(1_000_000)
    assert stopped.reason is Reason.SLICE_ENDED
    native = engine._state[Field.NATIVE_INSTRUCTIONS]
    assert stopped.instructions - native == left
    assert engine._state[Field.LOOP_LEFT] == 0
    assert native == (0 if left == 1 else 3 * LIMIT)
    engine._state[Field.LOOP_LEFT] = 1_000
    assert Host(engine).run() == expected
    engine.close()


def test_what_was_reported_is_not_reported_again() -> None:
    """An instruction with an undeclared access becomes an entry after it was executed."""
    elsewhere = DATA_START + (1 << 19)
    image = program(op("mov", imm(1), at(elsewhere)), op("exit:c"))
    assert image.lines is not None
    pc = int(image.lines.addresses[0])
    engine = InterpEngine(settings(allow_undeclared=True))
    engine.load(image, b"")
    host = Host(engine)
    reports = []
    for attempt in range(3):
        engine.begin(batch([replace(Task(), grants=[(DATA_START, 8, 0)])]))
        host.run()
        reports.append(engine.undeclared_accesses())
        if attempt == 0:
            engine.attach({pc: 0}, units.nothing("nothing", pc), [])
    engine.close()
    assert reports == [[(pc, elsewhere)], [], []]


def test_an_entry_may_get_other_code() -> None:
    image, function, pcs = PLAIN
    engine = attached(image, units.nothing("leaves_it", pcs[0]), pcs)
    engine.attach({pcs[0]: 0, pcs[2]: 1}, function, [])
    engine.begin(batch([Task()]))
    expected, _ = run_tasks(ReferenceEngine, image, [Task()])
    assert Host(engine).run() == expected
    assert engine._state[Field.NATIVE_INSTRUCTIONS] == 3 * LIMIT
    engine.close()


def test_records_of_entries_tell_where_they_are() -> None:
    image, function, pcs = PLAIN
    taken = Program(image)
    record = int(taken.record_at[pcs[0] - TEXT_START])
    before = taken.instruction_at(pcs[0])
    taken.attach({pcs[0]: 0}, function, [CELLS_PAGE])
    assert int(taken.record_at[pcs[0] - TEXT_START]) == record
    assert taken.pc_at(record) == pcs[0]
    assert taken.instruction_at(pcs[0]) == before


def test_it_is_refused_where_it_would_do_wrong() -> None:
    image, function, pcs = PLAIN
    with pytest.raises(AssertionError, match="a page that records do not name"):
        Program(image).attach({pcs[0]: 0}, function, [CELLS_PAGE + STATIC_PAGES_MAX])
    with pytest.raises(AssertionError, match="no decoded instruction"):
        Program(image).attach({pcs[0] + 1: 0}, function, [])
    with pytest.raises(AssertionError, match="counts no arrivals"):
        Program(image, Tally(len(image.text))).attach({pcs[0]: 0}, function, [])
