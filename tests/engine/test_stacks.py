"""What creators leave on automatic stacks, on both engines, and that it mostly takes no page."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from dvm_mpi.disa.image import Image
from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.engine.address_space import VIEW
from dvm_mpi.engine.interface import Engine, LeaseKind, LoadTracking, Reason, TrapKind
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.layout import (
    CELL_CHILD_STACK_BASE,
    CELL_STACK_BASE,
    DATA_START,
    PAGE_BYTES,
    STACKS_START,
    TEXT_START,
)
from tests.engine.agreement import ENGINES
from tests.engine.machine import (
    OWN_ID,
    OWN_STACK,
    SLOT_BYTES,
    STACK_BYTES,
    Ended,
    EngineMaker,
    Host,
    Task,
    at,
    batch,
    imm,
    op,
    program,
    run_tasks,
    settings,
    via,
)

#: Descriptors: an automatic stack, no ranges, and the entry.
NOTHING = 0x2_0000_2000
ENTRY = 0x2_0000_2020
#: Where a parent keeps the stacks of its children.
STACKS = 0x2_0000_3000
SEEN = 0x2_0000_4000
#: Stacks that no other test uses.
UNUSED_STACKS = STACKS_START + (1 << 20) * SLOT_BYTES


def newr(number: int = 0) -> list[Instruction]:
    """Create a child; its stack's address goes to the cell of that number."""
    return [
        op("mov", imm(TEXT_START), at(ENTRY)),
        op("newr", imm(NOTHING), imm(NOTHING), imm(NOTHING), imm(ENTRY)),
        op("mov", at(CELL_CHILD_STACK_BASE), at(STACKS + 8 * number)),
    ]


def store(value: int, offset: int, number: int = 0, types: str = "sq") -> Instruction:
    return op("mov", imm(value), via(STACKS + 8 * number, offset), types=types)


def left(maker: EngineMaker, *instructions: Instruction) -> list[dict[int, int]]:
    """Return what a parent leaves to each of its children, by offset in the stack."""
    image = program(*instructions, op("exit:c"))
    (ended,), _ = run_tasks(maker, image, [Task()])
    assert ended.row["trap"] == -1
    return [
        {address - child.row["stack_base"]: byte for address, byte in child.image.items()}
        for child in ended.children
    ]


def test_a_child_gets_the_arguments_that_were_stored(maker: EngineMaker) -> None:
    found = left(
        maker, *newr(), store(1, 0), store(2, 8), store(3, 16), *newr(1), store(4, 0, 1), *newr(2)
    )
    words = [{8 * i: v for i, v in enumerate(values)} for values in ([1, 2, 3], [4], [])]
    assert [{k: v for k, v in child.items() if v} for child in found] == words
    assert [len(child) for child in found] == [24, 8, 0]


@pytest.mark.parametrize(
    ("stores", "content"),
    [
        # (value, offset, type); what lies there afterwards, all else that was stored being zero.
        ([(1, 0, "sq"), (2, 64, "sb"), (3, 65, "sb")], {0: 1, 64: 2, 65: 3}),
        ([(1, 8, "sq"), (2, 0, "sq")], {0: 2, 8: 1}),
        ([(-1, 0, "sq"), (0, 4, "sw"), (7, 8, "sq")],
         {**dict.fromkeys((0, 1, 2, 3, 6, 7), 255), 8: 7}),
        ([(0x0102, 4095, "sw"), (5, 8190, "sw")], {4095: 2, 4096: 1, 8190: 5}),
        ([(i, 8 * i, "sq") for i in range(40)], {8 * i: i for i in range(1, 40)}),
        ([(i + 1, 200 * i, "sb") for i in range(40)], {200 * i: i + 1 for i in range(40)}),
    ],
    ids=["gaps", "downwards", "over each other", "across pages", "many words", "many bytes"],
)  # fmt: skip
def test_the_order_and_number_of_stores_does_not_matter(
    maker: EngineMaker, stores: Sequence[tuple[int, int, str]], content: dict[int, int]
) -> None:
    writes = [store(value, offset, types=kind) for value, offset, kind in stores]
    # Another child's stores come between the first two.
    (found, _) = left(maker, *newr(0), *newr(1)[:0], writes[0], *newr(1), *writes[1:])
    assert {offset: byte for offset, byte in found.items() if byte} == content


def test_a_parent_loads_what_it_has_stored_and_stores_on(maker: EngineMaker) -> None:
    found = left(
        maker,
        *newr(0), store(5, 0), store(6, 8),
        *newr(1), store(7, 16, 1),
        # Loads of both stacks, and a sum into the older one.
        op("add", via(STACKS, 8), via(STACKS + 8, 16), via(STACKS, 4096)),
        store(9, 24, 1),
        *newr(2), store(11, 0, 2),
        op("add", via(STACKS, 4096), via(STACKS + 16, 0), via(STACKS + 16, 8)),
    )  # fmt: skip
    seen = [{offset: byte for offset, byte in child.items() if byte} for child in found]
    assert seen == [{0: 5, 8: 6, 4096: 13}, {16: 7, 24: 9}, {0: 11, 8: 24}]


@pytest.mark.parametrize("offset", [-8, -4, STACK_BYTES - 4, STACK_BYTES])
def test_stores_beside_a_childs_stack_trap(maker: EngineMaker, offset: int) -> None:
    image = program(*newr(), store(1, 0), store(2, offset), op("exit:c"))
    (ended,), _ = run_tasks(maker, image, [Task()])
    assert ended.row["trap"] == TrapKind.STACK_OVERFLOW
    assert ended.children == []


# --- the own stack ----------------------------------------------------------------------------
def argument(offset: int) -> Operand:
    return via(CELL_STACK_BASE, offset)


def sums(*offsets: int, repeated: int = 1) -> list[Instruction]:
    """Add the words at offsets of the own stack, and store the sum where others can see it."""
    adds = [op("add", at(SEEN), argument(offset), at(SEEN)) for offset in offsets]
    return [*adds * repeated, op("mov", at(SEEN), at(DATA_START))]


def word_at(ended: Ended, address: int) -> int:
    return int.from_bytes(bytes(ended.stored[address + i] for i in range(8)), "little")


#: Two runs of bytes: words 1 and 2, and behind a gap 3.
LEFT = (
    (OWN_STACK, (1).to_bytes(8, "little") + (2).to_bytes(8, "little")),
    (OWN_STACK + 32, (3).to_bytes(8, "little")),
)


@pytest.mark.parametrize("tracking", [LoadTracking.NONE, LoadTracking.CONTENT])
@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        (sums(0, 8, 32), 6),
        (sums(0, 8, 32, repeated=20), 120),
        (sums(0, 16, 8), 3),
        (sums(28), 3 << 32),
        ([op("mov", imm(9), argument(16)), *sums(0, 8, 16, 32)], 15),
        ([op("mov", imm(9), argument(8)), *sums(0, 8, 32)], 13),
        ([*sums(0), op("mov", imm(9), argument(4096)), *sums(8, 32, 4096)], 15),
    ],
    ids=["once", "often", "a gap", "half of it", "stored between", "stored over", "later"],
)
def test_a_child_finds_what_its_creator_left(
    maker: EngineMaker, tracking: LoadTracking, instructions: list[Instruction], expected: int
) -> None:
    image = program(*instructions, op("exit:c"))
    tasks = [Task(image=LEFT), Task(runner=2, image=LEFT), Task(runner=3)]
    (first, second, bare), _ = run_tasks(maker, image, tasks, loads=tracking)
    assert word_at(first, DATA_START) == word_at(second, DATA_START) == expected
    assert word_at(bare, DATA_START) == sum(
        9 for instruction in instructions if instruction.operands[0] == imm(9)
    )
    assert first.loads == []


def test_an_attempt_that_was_set_aside_still_finds_its_arguments(engine: Engine) -> None:
    engine.load(program(*sums(0, 8, 32), op("exit:c")), b"")
    engine.begin(batch([Task(image=LEFT)]))
    assert engine.run(1).reason is Reason.SLICE_ENDED
    handle = engine.park()
    assert engine.run(1).reason is Reason.BATCH_DONE
    # The batch that brought the arguments is gone.
    engine.begin(batch([Task(runner=2, image=[(OWN_STACK, bytes(range(1, 41)))])]))
    host = Host(engine)
    host.run()
    engine.unpark(handle)
    (ended,) = host.run()
    assert ended.row["runner"] == 1
    assert word_at(ended, DATA_START) == 6


def test_a_parent_that_was_set_aside_still_leaves_its_arguments(engine: Engine) -> None:
    engine.load(program(*newr(), store(1, 0), store(2, 8), *newr(1), op("exit:c")), b"")
    engine.begin(batch([Task(), Task(runner=2)]))
    host = Host(engine)
    while (stop := engine.run(4)).reason is Reason.LEASE_NEEDED:
        host.answer(stop)
    assert stop.reason is Reason.SLICE_ENDED
    handle = engine.park()
    (other,) = host.run()
    engine.unpark(handle)
    (ended,) = host.run()
    for end in (ended, other):
        base = end.children[0].row["stack_base"]
        assert {a - base: b for a, b in end.children[0].image.items() if b} == {0: 1, 8: 2}
        assert end.children[1].image == {}


# --- pages --------------------------------------------------------------------------------------
def holds_memory(address: int) -> bool:
    """Return whether the system has given memory to a page of the view."""
    entry = 8 * ((VIEW + address) // PAGE_BYTES)
    with Path("/proc/self/pagemap").open("rb") as file:
        file.seek(entry)
        return bool(int.from_bytes(file.read(8), "little") >> 63)


def run_until_slept(image: Image, task: Task) -> InterpEngine:
    """Run an attempt up to its `usleep`."""
    engine = InterpEngine(settings())
    engine.load(image, b"")
    engine.begin(batch([task]))
    host = Host(engine, _next={LeaseKind.ID: OWN_ID + PAGE_BYTES, LeaseKind.STACK: UNUSED_STACKS})
    while (stop := engine.run(1_000)).reason in {Reason.LEASE_NEEDED, Reason.PAGE_MISSED}:
        host.answer(stop)
    assert stop.reason is Reason.SLEEPING
    return engine


SLEEP = [
    op("mov", imm(2), at(0x1_0000_0420)),
    op("mov", imm(1), at(0x1_0000_1000)),
    op("int", number=0x80),
]


def test_arguments_take_no_page() -> None:
    own = UNUSED_STACKS - STACK_BYTES
    left = [(own + start - OWN_STACK, content) for start, content in LEFT]
    children = [*newr(), store(1, 0), store(2, 8)]
    task = Task(stack=(own, STACK_BYTES, 1), image=left)
    for more, are_held in (([], False), ([argument(64), via(STACKS, 0)], True)):
        loads = [op("mov", place, at(SEEN)) for place in more]
        image = program(*sums(0, 8, 32), *children, *loads, *SLEEP, op("exit:c"))
        engine = run_until_slept(image, task)
        try:
            assert holds_memory(own) is are_held
            assert holds_memory(UNUSED_STACKS + PAGE_BYTES) is are_held
        finally:
            engine.close()
        assert engine._space.peek(own, 64) == bytes(64), "nothing of an attempt stays"


# --- random orders --------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(40))
def test_engines_agree_on_stores_to_stacks(seed: int) -> None:
    rng = random.Random(seed)
    listing = []
    count = 0
    for _ in range(rng.randrange(5, 60)):
        choice = rng.random()
        number = max(count - 1, 0) if rng.random() < 0.7 else rng.randrange(max(count, 1))
        near = rng.choice([0, 8, 16, 24, 64, 250, 4090, 4096, 8184])
        if count == 0 or choice < 0.2:
            listing += newr(count)
            count += 1
        elif choice < 0.8:
            kind = rng.choice(["sq", "sd", "sw", "sb"])
            offset = near + rng.randrange(8) if near < 8184 else near
            listing.append(store(rng.randrange(1, 100), offset, number, kind))
        elif choice < 0.9:
            cell = SEEN + 8 * rng.randrange(8)
            listing.append(op("add", at(cell), via(STACKS + 8 * number, near), at(cell)))
        else:
            offset = rng.choice([0, 8, 16, 32, 4096, 8000])
            listing.append(op("add", argument(offset), argument(0), at(SEEN)))
    listing += [op("mov", at(SEEN + 8 * i), at(DATA_START + 8 * i)) for i in range(8)]
    listing.append(op(rng.choice(["exit:c", "exit:a", "exit:cd"])))
    tasks = [Task(image=LEFT), Task(runner=2, image=LEFT)]
    slice_fuel = rng.choice([1, 7, 1_000])
    image = program(*listing)
    ends = [run_tasks(maker, image, tasks, fuel=slice_fuel)[0] for maker in ENGINES.values()]
    assert ends[0] == ends[1]
