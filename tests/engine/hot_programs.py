"""Random programs whose loops run hot: where a translator does what no interpreter does.

A program sets its cells, runs through a few loops, and leaves its cells on its status page, so that
whatever went wrong in a private cell is seen. Several runners with inputs of their own run it, in
several batches of one engine, in slices of all sizes, and some are set aside in between.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any, Final

from dvm_mpi.disa.types import BY_NAME
from dvm_mpi.engine.interface import LoadTracking
from dvm_mpi.layout import CELL_ID, DATA_START, PAGE_BYTES, TEXT_START, WORD_BYTES
from tests.engine.hot_draft import (
    COUNTERS,
    INPUT_CELLS,
    INPUTS,
    LEFT_AT,
    LINKS,
    ODD_CELLS,
    ROAMING,
    STACK_POINTER,
    SUMS,
    Draft,
    bits_of,
)
from tests.engine.hot_loops import NEST_SHARE, loop, nest, statement
from tests.engine.hot_parts import write_functions
from tests.engine.machine import OWN_ID, OWN_STACK, STACK_BYTES, Task, at, imm, via
from tests.engine.random_programs import DATA, DATA_PAGES, POINTERS, VALUES, Round, Scene

#: Instructions that all loops of a program execute, about.
BUDGETS: Final = (1_500, 2_500, 4_500)
#: Cells whose content is left at the end.
LEFT: Final = (*VALUES, *COUNTERS[:4], *POINTERS, LINKS[0], ROAMING[-1], *ODD_CELLS[:2])
#: Fuel of slices, in turn.
SLICES: Final = (
    (1_000_000,), (1_000_000,), (1_000,), (500, 3), (97,), (64,), (50, 1, 1, 7), (23, 400), (7,),
    (3, 1000), (1, 2_000), (1,),
)  # fmt: skip
PRIVATE_STACK: Final = 0x2_0002_0000
#: Private pages that are named directly in programs that name too many.
MANY_PAGES: Final = tuple(0x2_0010_0000 + PAGE_BYTES * i for i in range(18))


def hot_listing(d: Draft) -> None:
    """Write a program."""
    rng = d.rng
    for pointer in POINTERS:
        d.put("mov", imm(d.pointee(8, 64, 0.02)), at(pointer))
    for cell, type_name in d.types.items():
        d.put("mov", imm(bits_of(rng, type_name)), at(cell), types=type_name)
    _begin_sums(d)
    stack = OWN_STACK + STACK_BYTES - 64 if d.chance(0.6) else PRIVATE_STACK
    d.put("mov", imm(stack), at(STACK_POINTER))
    for number, cell in enumerate(INPUT_CELLS):
        d.put("mov", at(INPUTS + 8 * number), at(cell))
    if d.chance(0.08):
        for page in MANY_PAGES:
            d.put("add", at(page), imm(page), at(page))
    count = rng.choice([1, 2, 2, 3])
    budget = rng.choice(BUDGETS) // count
    for _ in range(count):
        if d.chance(0.2):
            statement(d, 0)
        d.rng.choices([nest, loop], [NEST_SHARE, 1 - NEST_SHARE])[0](d, budget)
        if d.is_long:
            break
    for number, cell in enumerate(LEFT):
        # By its own type: otherwise it would not live in a register.
        type_name = d.types.get(cell, "sq")
        if not d.is_strict and BY_NAME[type_name].width_bytes < WORD_BYTES:
            type_name = "sq"
        d.put("mov", at(cell), via(CELL_ID, LEFT_AT + 8 * number), types=type_name)
    _leave_sums(d)
    typed = [cell for cell in d.types if cell not in LEFT]
    for number, cell in enumerate(rng.sample(typed, min(len(typed), 4))):
        d.put("mov", at(cell), via(CELL_ID, LEFT_AT + 512 + 8 * number), types=d.types[cell])
    d.put("exit:c" if d.chance(0.9) else "exit:a")
    write_functions(d)


def _begin_sums(d: Draft) -> None:
    for cell in SUMS:
        d.put("mov", imm(bits_of(d.rng, "fd")), at(cell), types="fd")


def _leave_sums(d: Draft) -> None:
    for number, cell in enumerate(SUMS):
        d.put("mov", at(cell), via(CELL_ID, LEFT_AT + 640 + 8 * number), types="fd")


def hot_memory(rng: random.Random) -> dict[int, int]:
    """Return the snapshot: pages of each type in turn, with odd values among them."""
    memory: dict[int, int] = {}
    types = ["fd", "sq", "fs", "fd", "ub", "sd"]
    for page in range(DATA_PAGES):
        type_name = rng.choice([types[page], types[page], "fd"])
        width = {"fd": 8, "sq": 8, "fs": 4, "ub": 1, "sd": 4}[type_name]
        odd_share = rng.choice([0.0, 0.02, 0.3])
        plain = [rng.randrange(1, 100) for _ in range(16)]
        data = bytearray()
        while len(data) < PAGE_BYTES:
            value = rng.choice(plain)
            if rng.random() < odd_share or type_name in {"fd", "fs"}:
                value = bits_of(rng, type_name)
            data += value.to_bytes(width, "little")
        memory |= enumerate(data, DATA + page * PAGE_BYTES)
    return memory


def hot_grants(rng: random.Random) -> tuple[tuple[int, int, int], ...]:
    """Return declared ranges: everything, what just ends in the data, or pieces with holes."""
    newest = rng.choice([0, 1])
    if rng.random() < 0.7:
        return ((DATA_START, 1 << 20, newest),)
    if rng.random() < 0.5:
        # All but a few bytes at the end of some page.
        pages = rng.randrange(1, DATA_PAGES + 1)
        return ((DATA, pages * PAGE_BYTES - rng.choice([0, 1, 1, 4, 8, 100]), newest),)
    ranges = []
    start = DATA + rng.choice([0, 0, 1, 8])
    while start < DATA + DATA_PAGES * PAGE_BYTES:
        length = rng.choice([1000, 4096, 4095, 4097, 8192, 6000])
        ranges.append((start, length, newest))
        start += length + rng.choice([1, 8, 100, 4096])
    return tuple(ranges)


def hot_tasks(rng: random.Random, first_runner: int) -> list[Task]:
    """Return runners of one program, each with inputs of its own."""
    tasks = []
    for number in range(first_runner, first_runner + rng.choice([1, 1, 2, 3])):
        inputs = [
            rng.choice([0, 1, 3, 50, 110, 200, rng.randrange(130)]),
            rng.choice([2, 100, 120, (1 << 64) - 1, 1 << 63]),
            DATA + rng.randrange(DATA_PAGES * PAGE_BYTES),
            bits_of(rng, rng.choice(["fd", "sq"])),
        ]
        words = b"".join(value.to_bytes(8, "little") for value in inputs)
        image: list[tuple[int, bytes]] = [(INPUTS, words)]
        stack = (OWN_STACK, STACK_BYTES, 1)
        if rng.random() < 0.3:
            image.append((OWN_STACK + 200, rng.randbytes(rng.choice([8, 300]))))
        if rng.random() < 0.1:
            image = []
        task_id = OWN_ID + number * PAGE_BYTES
        tasks.append(Task(TEXT_START, hot_grants(rng), 1, 10 + number, task_id, stack, image))
    return tasks


def hot_settings(rng: random.Random) -> dict[str, Any]:
    """Return how the engine is set: mostly as usual."""
    common = 3 * [3_000] + 2 * [6_000] + [10_000, rng.randrange(200, 3_000)]
    changes: dict[str, Any] = {"fuel_max": rng.choice(common)}
    if rng.random() < 0.4:
        changes["loads"] = rng.choice([LoadTracking.PLACES, LoadTracking.CONTENT])
    if rng.random() < 0.12:
        changes["allow_undeclared"] = True
    if rng.random() < 0.12:
        changes["touched_pages_max"] = rng.choice([1, 2, 3, 4, 6])
    if rng.random() < 0.2:
        changes["clock"] = None
    return changes


def hot_scene(seed: int) -> Scene:
    """Return the program of a seed with its surroundings."""
    rng = random.Random(f"hot {seed}")
    draft = Draft(rng)
    hot_listing(draft)
    rounds = []
    runner = 0
    for _ in range(rng.choice([1, 2, 2, 3])):
        tasks = hot_tasks(rng, runner)
        runner += len(tasks)
        parking = rng.randrange(1, 1 << 30) if rng.random() < 0.4 else 0
        rounds.append(Round(tasks, rng.choice(SLICES), parking))
    first, *others = rounds
    return Scene(
        draft.finished(),
        list(first.tasks),
        hot_memory(rng),
        rng.randbytes(rng.choice([0, 3, 40])),
        hot_settings(rng),
        first.slice_fuels[0],
        is_flat=rng.random() < 0.25,
        tail=rng.randbytes(3),
        again=[replace(first, tasks=hot_tasks(rng, runner)), *others],
    )
