"""One view for all engines of a process: turns, sparse memory, refusal without address space."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.engine import interp
from dvm_mpi.engine.address_space import FLAGS, MASK_BYTES, AddressSpace
from dvm_mpi.engine.interface import End, Reason
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.layout import (
    CELL_STACK_BASE,
    DATA_START,
    PAGE_BYTES,
    PR_START,
    SR_END,
    SR_START,
    STACKS_START,
)
from tests.engine.machine import Host, Task, at, batch, imm, op, program, settings, unpack, via
from tests.engine.random_programs import random_scene

ROOT = Path(__file__).parents[2]


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * PAGE_BYTES


def assert_view_is_clean(space: AddressSpace, pages: range) -> None:
    """Nothing may be left where an attempt was."""
    numbers = np.array(pages)
    assert not space.pages[numbers].any()
    assert not space.masks[numbers].any()
    assert not space.flags[numbers].any()
    assert not space.loaded[numbers].any()
    assert not space.load_masks[numbers].any()


def holds_memory(host_address: int) -> bool:
    """Return whether the system has given memory to a page of this process."""
    with Path("/proc/self/pagemap").open("rb") as file:
        file.seek(8 * (host_address // PAGE_BYTES))
        return bool(int.from_bytes(file.read(8), "little") >> 63)


def table_bytes() -> int:
    """Return what the system's page tables of this process take."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmPTE:")[1].split()[0]) << 10


def test_stacks_that_ended_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags of stacks of runners that ran, and the system's tables of their pages."""
    monkeypatch.setattr(interp, "_STACKS_REMEMBERED", 100)
    first = STACKS_START + (1 << 37)
    # Each has a table of its own, and flags in a page of their own.
    stacks = [first + (i << 24) + PAGE_BYTES for i in range(150)]
    flags = FLAGS + first // PAGE_BYTES
    engine = InterpEngine(settings())
    engine.load(program(op("mov", imm(-1), via(CELL_STACK_BASE)), op("exit:c")), b"")
    tasks = [Task(stack=(base, 8192, 1)) for base in stacks]
    try:
        before = table_bytes()
        engine.begin(batch(tasks[:100]))
        engine.run(1)
        handle = engine.park()
        Host(engine).run()
        assert holds_memory(flags)
        assert table_bytes() - before >= 100 * PAGE_BYTES
        engine.begin(batch(tasks[100:]))
        assert len(Host(engine).run()) == 50
        assert not holds_memory(flags)
        assert table_bytes() - before < 110 * PAGE_BYTES
        engine.unpark(handle)
        (late,) = Host(engine).run()
        assert late.row["end"] == End.COMMIT
    finally:
        engine.close()
    numbers = np.array(stacks) // PAGE_BYTES
    assert not AddressSpace.shared().flags[numbers].any()
    assert not AddressSpace.shared().pages[numbers].any()


def test_a_closed_engine_leaves_nothing_behind() -> None:
    engine = InterpEngine(settings())
    places = [DATA_START, PR_START + 0x3000, 0x3_FFFF_F000, 0x2FF_FFFF_F000]
    engine.load(program(*(op("mov", imm(-1), at(p)) for p in places), op("exit:c")), b"")
    engine.begin(batch([Task(grants=[(DATA_START, 0x2F0_0000_0000, 0)])]))
    Host(engine).run()
    engine.close()
    engine.close()
    space = AddressSpace.shared()
    for place in places:
        assert_view_is_clean(space, range(place // PAGE_BYTES, place // PAGE_BYTES + 1))
    assert MASK_BYTES * 8 == PAGE_BYTES


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_engines_that_take_turns_do_not_notice(first: int) -> None:
    """Three engines with a program each, interleaved after every few instructions."""
    for seed in range(first, first + 20):
        rng = random.Random(seed)
        scenes = [random_scene(20_000 + 3 * seed + i) for i in range(3)]
        alone = []
        for scene in scenes:
            engine = InterpEngine(settings(**scene.changes))
            engine.load(scene.image, scene.stdin)
            engine.begin(batch(scene.tasks))
            alone.append(Host(engine, scene.memory).run())
            engine.close()
        engines = [InterpEngine(settings(**scene.changes)) for scene in scenes]
        hosts = [Host(e, s.memory) for e, s in zip(engines, scenes, strict=True)]
        for engine, scene in zip(engines, scenes, strict=True):
            engine.load(scene.image, scene.stdin)
            engine.begin(batch(scene.tasks))
        unfinished = [0, 1, 2]
        while unfinished:
            turn = rng.choice(unfinished)
            stop = engines[turn].run(rng.choice([1, 5, 20]))
            if stop.reason is Reason.BATCH_DONE:
                unfinished.remove(turn)
            else:
                hosts[turn].answer(stop)
        together = [unpack(engine.take_outcomes()) for engine in engines]
        for engine in engines:
            engine.close()
        assert together == alone, seed


def test_cached_pages_survive_another_engine() -> None:
    one, other = (InterpEngine(settings()) for _ in range(2))
    image = program(op("mov", at(DATA_START), at(DATA_START + 8)), op("exit:c"))
    page = np.array([DATA_START // PAGE_BYTES])
    for value, engine in enumerate((one, other), start=1):
        engine.load(image, b"")
        Host(engine, {DATA_START: value}).install([int(page[0])], until=9)
    stored = []
    for engine in (one, other):
        assert engine.cached_versions(page).tolist() == [1]
        engine.begin(batch([Task()]))
        host = Host(engine)
        stored.append(host.run()[0].stored[DATA_START + 8])
        assert host.misses == []
    one.close()
    other.close()
    assert stored == [1, 2]


def test_scattered_stores_take_little_memory() -> None:
    """A thousand words over the program's part of SR, stored by some, read back by others."""
    rng = random.Random(7)
    areas = [(DATA_START, 0x300_0000_0000), (0x400_0000_0000, 0x2000_0000_0000)]
    places = sorted({rng.randrange(*rng.choice(areas)) & -8 for _ in range(1_000)})
    grants = [(place, 8, 0) for place in places]
    engine = InterpEngine(settings())
    stores = [op("mov", imm(place), at(place)) for place in places]
    checks = [op("br:ne", at(place), imm(place), target=2 * len(places) + 3) for place in places]
    image = program(
        op("br:nz", at(0x1_0000_0108), target=1),
        *stores, op("exit:c"), *checks, op("exit:c"), op("exit:a"),
    )  # fmt: skip
    engine.load(image, b"")
    assert image.lines is not None
    second_half = int(image.lines.addresses[len(places) + 2])
    before = resident_bytes()
    host = Host(engine)
    host.page = lambda page: zero_page_with(host.memory, page)  # type: ignore[method-assign]
    engine.begin(batch([Task(grants=grants)]))
    (ended,) = host.run()
    assert ended.row["end"] == 0
    host.memory |= ended.stored
    host.version = 2
    engine.begin(batch([Task(entry=second_half, grants=grants, snapshot=2)] * 3))
    engine.renew(np.array(host.misses), np.ones(len(host.misses), np.int64))
    host.install([place // PAGE_BYTES for place in places], until=9)
    assert [e.row["end"] for e in host.run()] == [0, 0, 0]
    grown = resident_bytes() - before
    engine.close()
    assert grown < 60 * 1024 * 1024


def zero_page_with(memory: dict[int, int], page: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    content = np.zeros(PAGE_BYTES, dtype=np.uint8)
    start = page * PAGE_BYTES
    for offset in range(0, PAGE_BYTES, 8):
        if start + offset in memory:
            content[offset : offset + 8] = [memory[start + offset + i] for i in range(8)]
    return content


def test_many_stacks_and_blocks_give_their_memory_back() -> None:
    """Runners with stacks of their own, children's stacks and malloc blocks, none used twice."""
    engine = InterpEngine(settings())
    image = program(
        op("mov", at(0x1_0000_0100), at(0x2_0000_0010)),
        op("mov", imm(1), at(0x1_0000_0420)),
        op("mov", imm(40_000), at(0x1_0000_1000)),
        op("int", number=0x80),
        *(op("mov", imm(7), at(0x2_0000_0018)) for _ in range(2)),
        op("mov", at(0x1_0000_1000), at(0x2_0000_0018)),
        *(store_behind(0x2_0000_0018, 4096 * i) for i in range(9)),
        *(store_behind(0x2_0000_0010, 4096 * i) for i in range(2)),
        op("exit:a"),
    )
    engine.load(image, b"")
    host = Host(engine)
    stacks = [0x300_0000_1000 + 0x3000 * i for i in range(6_000)]
    before = 0
    for first in range(0, len(stacks), 500):
        tasks = [Task(stack=(base, 8192, 1)) for base in stacks[first : first + 500]]
        engine.begin(batch(tasks))
        host.stops = 0
        assert {e.row["end"] for e in host.run()} == {1}
        before = before or resident_bytes()
    grown = resident_bytes() - before
    engine.close()
    # 6,000 attempts touched 11 fresh pages each: 270 MB.
    assert grown < 30 * 1024 * 1024


def store_behind(cell: int, displacement: int) -> Instruction:
    return op("mov", imm(1), via(cell, displacement))


def test_without_address_space_the_error_says_what_to_do() -> None:
    code = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))\n"
        "from dvm_mpi.engine.address_space import AddressSpace\n"
        "from dvm_mpi.errors import LimitError\n"
        "try:\n"
        "    AddressSpace.shared()\n"
        "except LimitError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "cannot reserve" in result.stdout
    assert "ulimit -v" in result.stdout


def test_the_view_spans_all_of_memory() -> None:
    space = AddressSpace.shared()
    assert space.pages.shape == (SR_END // PAGE_BYTES, PAGE_BYTES)
    last = space.pages[SR_END // PAGE_BYTES - 1]
    assert not last.any()
    assert AddressSpace.shared() is space
    assert SR_START < SR_END
