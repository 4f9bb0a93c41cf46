from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.engine.interface import CHILD, RUN, LoadTracking
from dvm_mpi.engine.state import ATTEMPT_FIELDS, Buffers, Field, List
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import DATA_START
from tests.engine.machine import Host, Task, at, batch, imm, op, program, settings, via


def test_a_list_keeps_its_rows_when_it_grows() -> None:
    buffers = Buffers()
    buffers.put(List.TOUCHED, np.arange(1_000))
    buffers.grow(List.TOUCHED)
    buffers.grow(List.TOUCHED, 10_000)
    assert buffers.rows(List.TOUCHED).tolist() == list(range(1_000))
    assert buffers.state[Field.LISTS + 3 * List.TOUCHED + 2] == 10_000
    taken = buffers.take(List.TOUCHED)
    assert len(taken) == 1_000
    assert buffers.count(List.TOUCHED) == 0


def test_what_is_taken_is_the_callers() -> None:
    """A small list is copied; a large one is handed over, and the list begins anew."""
    for byte_count, is_copied in ((1_000, True), (100 << 20, False)):
        buffers = Buffers()
        buffers.grow(List.DATA, byte_count)
        room = buffers.state[Field.LISTS + 3 * List.DATA]
        buffers.state[Field.LISTS + 3 * List.DATA + 1] = byte_count
        buffers.rows(List.DATA)[-1] = 7
        taken = buffers.take(List.DATA)
        assert (taken.ctypes.data != room) == is_copied
        buffers.put(List.DATA, np.full(byte_count, 9, np.uint8))
        assert taken[-1] == 7


def test_a_list_grows_to_what_is_wanted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that stored much is not collected once for every doubling."""
    from dvm_mpi.engine import interp  # noqa: PLC0415

    word = 0x2_0000_2000
    image = program(
        op("mov", imm(DATA_START), at(word)),
        op("mov", imm(7), via(word)),
        op("add", at(word), imm(8), at(word)),
        op("br:l", at(word), imm(DATA_START + (1 << 20)), target=1),
        op("exit:c"),
    )
    engine = interp.InterpEngine(settings(allow_undeclared=True))
    grown: list[tuple[List, int]] = []
    grow = engine._buffers.grow

    def noted(which: List, wanted_rows: int = 0) -> None:
        grown.append((which, wanted_rows))
        grow(which, wanted_rows)

    monkeypatch.setattr(engine._buffers, "grow", noted)
    engine.load(image, b"")
    engine.begin(batch([Task(grants=[(DATA_START, 1 << 20, 0)])]))
    Host(engine).run()
    engine.close()
    assert [rows for which, rows in grown if which is List.DATA] == [1 << 20]


def test_a_full_list_is_a_limit_with_a_name() -> None:
    buffers = Buffers()
    with pytest.raises(LimitError, match="explicit stacks of one attempt's children"):
        buffers.grow(List.OTHERS, 1 << 40)


def test_the_attempt_is_one_slice_of_the_state() -> None:
    attempt = range(ATTEMPT_FIELDS.start, ATTEMPT_FIELDS.stop)
    assert Field.PHASE in attempt
    assert Field.TRAP_ADDRESS in attempt
    assert Field.CURSOR not in attempt


@pytest.mark.parametrize("which", list(List))
def test_every_list_may_be_full_at_any_time(which: List) -> None:
    """With room for one row at the start, compiled code stops and goes on all the time."""
    from dvm_mpi.engine import interp  # noqa: PLC0415

    descriptors = 0x2_0000_2000
    image = program(
        op("mov", imm(2), at(descriptors + 16)),
        *(op("mov", imm(DATA_START), at(descriptors + 24 + 16 * i)) for i in range(2)),
        *(op("mov", imm(8), at(descriptors + 32 + 16 * i)) for i in range(2)),
        op("mov", imm(1), at(0x1_0000_0420)),
        op("mov", imm(100), at(0x1_0000_1000)),
        *[op("int", number=0x80)] * 3,
        *[op("newr", *(imm(descriptors + o) for o in (0, 16, 16, 0)))] * 3,
        *(op("mov", imm(65 + i), at(0x1_0000_0208)) for i in range(30)),
        *(op("mov", imm(i), at(DATA_START + 5000 * i)) for i in range(6)),
        *(op("mov", at(DATA_START + 6000 * i), at(descriptors + 512)) for i in range(6)),
        op("exit:c"),
    )
    outcomes = []
    for is_small in (False, True):
        tracking = LoadTracking.CONTENT
        engine = interp.InterpEngine(settings(allow_undeclared=True, loads=tracking))
        if is_small and which is not List.STATIC:
            shrink(engine._buffers, which)
        engine.load(image, b"")
        engine.begin(batch([Task(grants=[(DATA_START, 4096, 0)], runner=i) for i in range(3)]))
        outcomes.append((Host(engine).run(), engine.undeclared_accesses()))
        engine.close()
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][0][0].row["child_count"] == 3


def shrink(buffers: Buffers, which: List) -> None:
    buffers.state[Field.LISTS + 3 * which + 2] = 1
    buffers._arrays[which] = buffers._arrays[which][:1]
    assert buffers._arrays[which].ctypes.data == buffers.state[Field.LISTS + 3 * which]


def test_attempts_give_the_room_of_their_large_lists_back() -> None:
    buffers = Buffers()
    for which in (List.CHILDREN, List.ENDED_CHILDREN, List.TOUCHED):
        buffers.grow(which, 100 if which is List.TOUCHED else 1 << 20)
        buffers.state[Field.LISTS + 3 * which + 1] = 7
    buffers.shrink_those_of_attempts()
    rooms = [buffers.state[Field.LISTS + 3 * which + 2] for which in (List.CHILDREN, List.TOUCHED)]
    assert rooms == [64, 2_048]
    assert buffers.count(List.CHILDREN) == 0
    assert buffers.count(List.ENDED_CHILDREN) == 7, "those have not been taken yet"


def test_records_are_copied_whole() -> None:
    buffers = Buffers()
    rows = np.zeros(300, dtype=CHILD)
    rows["id"], rows["newr_pc"] = np.arange(300), -1
    buffers.put(List.ENDED_CHILDREN, rows)
    buffers.grow(List.ENDED_CHILDREN, 1_000)
    taken, none = buffers.take_all([List.ENDED_CHILDREN, List.RUNS])
    assert (taken == rows).all()
    assert taken.dtype == CHILD
    assert len(none) == 0
    assert none.dtype == RUN
