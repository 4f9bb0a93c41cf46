"""What an attempt observed of its snapshot, under every engine."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvm_mpi.disa.image import Image
from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.engine.address_space import LOAD_MASKS, AddressSpace
from dvm_mpi.engine.interface import End, LoadTracking, Reason
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.engine.machine import (
    OWN_ID,
    OWN_STACK,
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
    unpack,
    via,
)

CELL = 0x2_0000_0010
OTHER_CELL = 0x2_0000_0018
NEXT_PAGE = DATA_START + PAGE_BYTES
DESCRIPTORS = 0x2_0000_2000
STACK_DESCRIPTOR, NO_RANGES, ENTRY = DESCRIPTORS, DESCRIPTORS + 32, DESCRIPTORS + 64
EXPLICIT_STACK = DATA_START + 0x8000
MEMORY = {DATA_START + i: (7 * i + 1) % 256 for i in range(3 * PAGE_BYTES)}
MEMORY |= {OWN_ID + i: 100 + i for i in range(16)}


def ended_of(maker: EngineMaker, *instructions: Instruction, **changes: Any) -> Ended:
    """Run one attempt that tracks content, and check content and order of what it observed."""
    task = changes.pop("task", Task())
    changes.setdefault("loads", LoadTracking.CONTENT)
    (ended,), _ = run_tasks(maker, program(*instructions), [task], memory=dict(MEMORY), **changes)
    for (start, length, _), (after, _, _) in pairwise(ended.loads):
        assert start + length < after, "sorted, disjoint and joined"
    for start, length, data in ended.loads:
        expected = bytes(MEMORY.get(a, 0) for a in range(start, start + length))
        assert data == (expected if changes["loads"] is LoadTracking.CONTENT else None)
    return ended


def places(ended: Ended) -> list[tuple[int, int]]:
    """Return what was observed as `(bytes after DATA_START, length)`."""
    return [(start - DATA_START, length) for start, length, _ in ended.loads]


def load(address: int, types: str = "sq") -> Instruction:
    return op("mov", at(address), at(CELL), types=types)


def store(address: int, types: str = "sq") -> Instruction:
    return op("mov", imm(5), at(address), types=types)


COMMIT = op("exit:c")


@pytest.mark.parametrize(
    ("instructions", "expected"),
    [
        ([load(DATA_START + 1, "ub")], [(1, 1)]),
        ([load(DATA_START + 6, "uw"), load(DATA_START, "ud")], [(0, 4), (6, 2)]),
        ([load(DATA_START), load(DATA_START + 8), load(DATA_START)], [(0, 16)]),
        # An unaligned load across two pages, and neighbours that join over the page's end.
        ([load(NEXT_PAGE - 3)], [(PAGE_BYTES - 3, 8)]),
        ([load(NEXT_PAGE), load(NEXT_PAGE - 8)], [(PAGE_BYTES - 8, 16)]),
        # Own stores come first, for all or for some of the bytes.
        ([store(DATA_START), load(DATA_START)], []),
        ([store(DATA_START + 2, "uw"), load(DATA_START)], [(0, 2), (4, 4)]),
        ([load(DATA_START), store(DATA_START)], [(0, 8)]),
        ([op("add", at(DATA_START), imm(1), at(DATA_START))], [(0, 8)]),
        ([store(NEXT_PAGE - 3), load(NEXT_PAGE - 8), load(NEXT_PAGE)],
         [(PAGE_BYTES - 8, 5), (PAGE_BYTES + 5, 3)]),
        # A store alone observes nothing of its page.
        ([store(DATA_START + 3, "ub")], []),
        ([load(OWN_STACK), load(CELL), load(0x4_0000_0000)], []),
        ([load(OWN_ID + 8)], [(OWN_ID + 8 - DATA_START, 8)]),
    ],
)  # fmt: skip
def test_which_bytes_count(
    maker: EngineMaker, instructions: list[Instruction], expected: list[tuple[int, int]]
) -> None:
    assert places(ended_of(maker, *instructions, COMMIT)) == expected


def test_a_pointer_in_shared_memory_counts_with_what_it_points_to(maker: EngineMaker) -> None:
    image = program(
        op("mov", via(NEXT_PAGE), at(CELL)),
        op("mov", imm(1), via(NEXT_PAGE + 16, 8)),
        COMMIT,
    )
    memory = MEMORY | dict(enumerate((DATA_START + 64).to_bytes(8, "little"), NEXT_PAGE))
    memory |= enumerate((DATA_START + 128).to_bytes(8, "little"), NEXT_PAGE + 16)
    (ended,), _ = run_tasks(maker, image, [Task()], memory=memory, loads=LoadTracking.CONTENT)
    assert places(ended) == [(64, 8), (PAGE_BYTES, 8), (PAGE_BYTES + 16, 8)]
    assert list(ended.stored) == list(range(DATA_START + 136, DATA_START + 144))


@pytest.mark.parametrize(
    ("left", "right", "length", "expected"),
    [
        # Equal all along: all of both.
        (0, 256, 40, [(0, 40), (256, 40)]),
        # The first bytes differ: only these were looked at.
        (0, 1, 40, [(0, 2)]),
        # Across a page: 256 bytes later the same pattern begins again.
        (PAGE_BYTES - 5, 2 * PAGE_BYTES - 5, 20, [(PAGE_BYTES - 5, 20), (2 * PAGE_BYTES - 5, 20)]),
        (0, 256, 0, []),
    ],
)
def test_strcmp_observes_up_to_the_first_difference(
    maker: EngineMaker, left: int, right: int, length: int, expected: list[tuple[int, int]]
) -> None:
    ended = ended_of(
        maker,
        op("strcmp", imm(DATA_START + left), imm(length), imm(DATA_START + right), imm(length),
           at(CELL)),
        COMMIT,
    )  # fmt: skip
    assert places(ended) == expected


def test_other_instructions_that_load(maker: EngineMaker) -> None:
    """`br:sl` looks at eight bytes of each; `newr` at its descriptors."""
    ended = ended_of(
        maker,
        op("br:sl", imm(DATA_START + 3), imm(DATA_START + 100), target=1),
        op("newr", *(imm(DATA_START + 0x4000 + 32 * i) for i in range(4))),
        COMMIT,
    )
    descriptors = [(0x4000, 16), (0x4020, 8), (0x4040, 8), (0x4060, 8)]
    assert places(ended) == [(3, 8), (100, 8), *descriptors]


def test_fresh_memory_does_not_count(maker: EngineMaker) -> None:
    """A block of this attempt's `malloc`, and the automatic stack of a child."""
    ended = ended_of(
        maker,
        op("mov", imm(1), at(0x1_0000_0420)),
        op("mov", imm(100), at(0x1_0000_1000)),
        op("int", number=0x80),
        op("mov", at(0x1_0000_1000), at(CELL)),
        op("mov", via(CELL), at(OTHER_CELL)),
        op("newr", imm(STACK_DESCRIPTOR), imm(NO_RANGES), imm(NO_RANGES), imm(ENTRY)),
        op("mov", via(0x1_0000_0400), at(OTHER_CELL)),
        COMMIT,
    )
    assert ended.row["child_count"] == 1
    assert ended.loads == []


def test_explicit_stacks_count(maker: EngineMaker) -> None:
    """A child's, and the runner's own."""
    ended = ended_of(
        maker,
        op("mov", imm(EXPLICIT_STACK), at(STACK_DESCRIPTOR)),
        op("mov", imm(4096), at(STACK_DESCRIPTOR + 8)),
        op("newr", imm(STACK_DESCRIPTOR), imm(NO_RANGES), imm(NO_RANGES), imm(ENTRY)),
        load(EXPLICIT_STACK + 16),
        load(DATA_START + 24),
        COMMIT,
        task=Task(grants=(), stack=(DATA_START, 4096, 0)),
    )
    assert places(ended) == [(24, 8), (0x8010, 8)]


def test_undeclared_bytes_count(maker: EngineMaker) -> None:
    """Those beside declared ones, and pages of which nothing is declared."""
    task = Task(grants=((DATA_START, 8, 0),))
    loads = [load(DATA_START + 16), load(NEXT_PAGE + 8), load(NEXT_PAGE + 8), COMMIT]
    ended = ended_of(maker, *loads, task=task, allow_undeclared=True)
    assert places(ended) == [(16, 8), (PAGE_BYTES + 8, 8)]


@pytest.mark.parametrize("end", ["exit:a", "exit:ad", "exit:cd"])
def test_every_end_tells_what_was_observed(maker: EngineMaker, end: str) -> None:
    ended = ended_of(maker, load(DATA_START + 8), store(DATA_START + 64), op(end))
    assert places(ended) == [(8, 8)]


def test_a_trap_tells_what_was_observed_before_it(maker: EngineMaker) -> None:
    """The sources of the trapping instruction too, but not the operand that was refused."""
    ended = ended_of(
        maker,
        op("add", at(DATA_START), at(DATA_START + 16), at(0x4_0000_0000)),
        task=Task(grants=((DATA_START, 8, 0),)),
    )
    assert ended.row["end"] == End.TRAP
    assert places(ended) == [(0, 8), (16, 8)]
    refused = ended_of(maker, load(NEXT_PAGE - 4), task=Task(grants=((DATA_START, 8, 0),)))
    assert refused.row["end"] == End.TRAP
    assert refused.loads == []


def test_places_come_without_content_and_nothing_comes_without_tracking(
    maker: EngineMaker,
) -> None:
    ended = ended_of(maker, load(DATA_START), COMMIT, loads=LoadTracking.PLACES)
    assert places(ended) == [(0, 8)]
    assert ended_of(maker, load(DATA_START), COMMIT, loads=LoadTracking.NONE).loads == []


def test_attempts_of_a_batch_have_rows_of_their_own(maker: EngineMaker) -> None:
    """The second one finds the page in the view, and observes it all the same."""
    image = program(load(DATA_START), store(DATA_START), load(DATA_START + 8), COMMIT)
    ended, _ = run_tasks(
        maker, image, [Task(runner=i) for i in range(3)], memory=MEMORY, loads=LoadTracking.CONTENT
    )
    assert [places(e) for e in ended] == [[(0, 16)]] * 3
    assert len({e.loads[0][2] for e in ended}) == 1


def summing(pages: int) -> Image:
    """Load the first word of each of many pages, in a loop."""
    return program(
        op("mov", imm(DATA_START), at(CELL)),
        op("add", at(OTHER_CELL), via(CELL), at(OTHER_CELL)),
        op("add", at(CELL), imm(PAGE_BYTES), at(CELL)),
        op("br:l", at(CELL), imm(DATA_START + pages * PAGE_BYTES), target=1),
        COMMIT,
    )


def test_pages_that_left_the_cache_are_not_forgotten(maker: EngineMaker) -> None:
    """Content is that of the snapshot, whatever the view holds when the attempt ends."""
    engine = maker(settings(loads=LoadTracking.CONTENT, cache_bytes=2 * PAGE_BYTES))
    engine.load(summing(40), b"")
    memory = {DATA_START + i * PAGE_BYTES: i + 1 for i in range(40)}
    engine.begin(batch([Task()]))
    host = Host(engine, memory)
    (ended,) = host.run()
    engine.close()
    assert places(ended) == [(i * PAGE_BYTES, 8) for i in range(40)]
    assert [data[0] for _, _, data in ended.loads if data is not None] == list(range(1, 41))


def test_an_attempt_out_of_the_view_keeps_its_notes(maker: EngineMaker) -> None:
    image = program(load(DATA_START), load(NEXT_PAGE), store(NEXT_PAGE), load(DATA_START + 8),
                    COMMIT)  # fmt: skip
    engine = maker(settings(loads=LoadTracking.CONTENT))
    engine.load(image, b"")
    engine.begin(batch([Task(), Task(runner=2)]))
    host = Host(engine, dict(MEMORY))
    host.answer(engine.run(100))
    assert engine.run(100).reason is Reason.PAGE_MISSED
    handle = engine.park()
    (second,) = host.run()
    # A newer version of the page comes meanwhile: the parked attempt saw the older one.
    host.memory[DATA_START], host.version = 255, 2
    host.install([DATA_START // PAGE_BYTES], until=2)
    host.memory[DATA_START], host.version = MEMORY[DATA_START], 1
    engine.unpark(handle)
    (first,) = host.run()
    engine.close()
    assert first.loads == second.loads
    assert places(first) == [(0, 16), (PAGE_BYTES, 8)]


@pytest.mark.parametrize("seed", range(20))
def test_random_loads_and_stores_match_a_model(maker: EngineMaker, seed: int) -> None:
    """Accesses of all widths to three pages, beside a set of stored and one of loaded bytes."""
    rng = random.Random(seed)
    instructions, stored, loaded = [], set[int](), set[int]()
    for _ in range(60):
        width, types = rng.choice([(1, "ub"), (2, "uw"), (4, "ud"), (8, "sq")])
        edge = rng.choice([DATA_START, NEXT_PAGE, NEXT_PAGE + PAGE_BYTES])
        address = max(edge + rng.randrange(-20, 20), DATA_START)
        touched = range(address, address + width)
        if rng.random() < 0.4:
            instructions.append(store(address, types))
            stored.update(touched)
        else:
            instructions.append(load(address, types))
            loaded.update(a for a in touched if a not in stored)
    ended = ended_of(maker, *instructions, COMMIT)
    assert {a for s, n, _ in ended.loads for a in range(s, s + n)} == loaded
    assert ended.stored.keys() == stored


def resident_bytes_at(address: int) -> int:
    """Return how much of the mapping that begins at a host address is in memory."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    (at,) = (i for i, line in enumerate(lines) if line.startswith(f"{address:x}-"))
    resident = next(line for line in lines[at:] if line.startswith("Rss:"))
    return int(resident.split()[1]) * 1024


def test_pages_that_left_the_cache_give_the_memory_of_their_masks_back() -> None:
    """Attempts that scan 2,000 pages each: their masks take a megabyte."""
    engine = InterpEngine(settings(loads=LoadTracking.PLACES, cache_bytes=16 * PAGE_BYTES))
    engine.load(summing(2_000), b"")
    before = resident_bytes_at(LOAD_MASKS)
    for _ in range(3):
        engine.begin(batch([Task(grants=((DATA_START, 2_000 * PAGE_BYTES, 0),))]))
        host = Host(engine)
        host.page = lambda page: np.zeros(PAGE_BYTES, np.uint8)  # type: ignore[method-assign]
        (ended,) = host.run()
        assert ended.row["load_count"] == 2_000
    grown = resident_bytes_at(LOAD_MASKS) - before
    engine.close()
    # Up to 1,024 pages wait to be given back together.
    assert grown < 600 * 1024


def test_the_view_is_left_without_notes() -> None:
    engine = InterpEngine(settings(loads=LoadTracking.CONTENT, cache_bytes=16 * PAGE_BYTES))
    engine.load(summing(200), b"")
    for _ in range(3):
        engine.begin(batch([Task()]))
        Host(engine).run()
        space = AddressSpace.shared()
        pages = np.arange(DATA_START // PAGE_BYTES, DATA_START // PAGE_BYTES + 200)
        assert not space.loaded[pages].any()
        assert not space.load_masks[pages].any()
    engine.begin(batch([Task()]))
    engine.run(100)
    engine.close()
    assert not space.loaded[pages].any()
    assert not space.load_masks[pages].any()
    assert unpack(engine.take_outcomes()) == []
