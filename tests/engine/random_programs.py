"""Random legal programs with their surroundings, from the instruction table.

Most operands are good, so that programs live long enough to get somewhere; some are at the
edges of everything: page ends, region ends, guard pages, text, the cells with effects.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dvm_mpi.disa.image import Image
from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.table import CONDITIONS, EXIT_SUFFIXES, TABLE, Access, OperandSpec
from dvm_mpi.disa.types import BY_NAME, Kind, Mode
from dvm_mpi.engine.interface import LoadTracking
from dvm_mpi.layout import (
    CELL_CHILD_STACK_BASE,
    CELL_CONSOLE,
    CELL_STDIN,
    CELL_SYSCALL_ARGS,
    CELL_SYSCALL_NUMBER,
    DATA_START,
    PAGE_BYTES,
    PR_END,
    PR_START,
    SR_END,
    TEXT_START,
)
from tests.engine.machine import OWN_ID, OWN_STACK, STACK_BYTES, Task, op, program

#: Cells that programs compute in, and cells that point to interesting places.
VALUES = [0x2_0000_0010 + 8 * i for i in range(6)]
POINTERS = [0x2_0000_0100 + 8 * i for i in range(8)]
#: Descriptors of newr: stack, heap, watched, entry, in private memory.
DESCRIPTORS = 0x2_0000_2000
DATA_PAGES = 6
DATA = DATA_START + 16 * PAGE_BYTES

INTERESTING_INTS = (
    0, 1, 2, 3, 7, 8, 31, 32, 63, 64, 127, 128, 255, 256, 0x7FFF, 0x8000, 0x7FFF_FFFF,
    0x8000_0000, 0xFFFF_FFFF, (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
)  # fmt: skip
INTERESTING_FLOATS = (
    0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.0, 3.0, -2.5, 127.5, 255.5, 1e10, -1e10, 2.0**31,
    2.0**32, 2.0**63, 2.0**64, -(2.0**63), 1e300, -1e300, 1e-300, 5e-324, 1e38, 3.5e38,
    1e-40, 1e-45, float("inf"), float("-inf"), float("nan"), 709.0, -740.0,
)  # fmt: skip


@dataclass(frozen=True)
class Round:
    """One batch of attempts, and how it is run."""

    tasks: Sequence[Task]
    #: Fuel of the slices, in turn.
    slice_fuels: Sequence[int]
    #: Decides which attempts are set aside when a slice ends; 0: none are.
    parking_seed: int = 0


@dataclass(frozen=True)
class Scene:
    """One program and all that its run depends on."""

    #: Targets of branches count instructions (`tests.engine.machine.program`).
    listing: list[Instruction]
    tasks: list[Task] = field(default_factory=lambda: [Task()])
    memory: dict[int, int] = field(default_factory=dict)
    stdin: bytes = b""
    #: Engine settings other than the usual ones.
    changes: dict[str, Any] = field(default_factory=dict)
    #: Fuel of one slice.
    slice_fuel: int = 1_000
    is_flat: bool = False
    #: What follows the instructions in the text.
    tail: bytes = b""
    #: Batches that the same engine runs afterwards.
    again: Sequence[Round] = ()

    @property
    def image(self) -> Image:
        """The assembled program."""
        return program(*self.listing, flat=self.is_flat, tail=self.tail)

    @property
    def rounds(self) -> list[Round]:
        """All batches."""
        return [Round(self.tasks, (self.slice_fuel,)), *self.again]


def random_bits(rng: random.Random, type_name: str) -> int:
    kind = BY_NAME[type_name]
    if kind.kind is Kind.FLOAT and rng.random() < 0.8:
        value = rng.choice(INTERESTING_FLOATS)
        if rng.random() < 0.4:
            value = rng.uniform(-1000, 1000)
        if kind.width_bytes == 8:
            return int.from_bytes(struct.pack("<d", value), "little")
        try:
            return int.from_bytes(struct.pack("<f", value), "little")
        except OverflowError:
            return 0x7F80_0000
    if rng.random() < 0.6:
        return rng.choice(INTERESTING_INTS) & (1 << 8 * kind.width_bytes) - 1
    return rng.getrandbits(8 * kind.width_bytes)


def interesting_address(rng: random.Random, edge_share: float = 0.01) -> int:
    """An address that a pointer cell may hold; mostly one that may be touched."""
    page = DATA + PAGE_BYTES * rng.randrange(DATA_PAGES)
    places = [
        page + 8 * rng.randrange(8),
        page + rng.randrange(64),
        page + PAGE_BYTES - rng.randrange(1, 9),
        OWN_STACK + 16 + rng.randrange(STACK_BYTES - 200),
        OWN_STACK + STACK_BYTES - 200,
        VALUES[0] + rng.randrange(64),
        PR_START + rng.randrange(0x100, 0x420),
        PR_END - rng.randrange(100, 116),
        PR_START + 5 * PAGE_BYTES + rng.randrange(64),
    ]
    edges = [
        OWN_ID + rng.randrange(64), OWN_STACK + STACK_BYTES - rng.randrange(1, 9),
        0, 1, (1 << 64) - rng.randrange(1, 9), PR_START - rng.randrange(1, 9), PR_START,
        PR_END - rng.randrange(1, 8), TEXT_START + rng.randrange(200), SR_END - rng.randrange(1, 9),
        SR_END, OWN_STACK - rng.randrange(1, 9), OWN_STACK + STACK_BYTES,
        OWN_STACK + 5 * (STACK_BYTES + PAGE_BYTES), CELL_STDIN, CELL_CONSOLE,
        DATA + DATA_PAGES * PAGE_BYTES, DATA - rng.randrange(1, 9), OWN_ID + PAGE_BYTES,
        DATA_START + rng.randrange(16 * PAGE_BYTES),
    ]  # fmt: skip
    return rng.choice(edges if rng.random() < edge_share else places)


def random_operand(rng: random.Random, spec: OperandSpec, type_name: str) -> Operand:
    is_source = spec.access is Access.READ
    kinds = {"constant": 25 * is_source, "value": 35, "effect": 3, "direct": 7, "pointed": 27,
             "far": 3}  # fmt: skip
    kind = rng.choices(list(kinds), weights=list(kinds.values()))[0]
    if kind == "constant":
        return Operand(Mode.IMMEDIATE, random_bits(rng, type_name))
    if kind == "pointed":
        displacement = rng.choice([0, 8, 1, 16, 4, rng.randrange(-8, 64)])
        pointer = rng.choice(POINTERS)
        plain = Operand(Mode.INDIRECT, pointer)
        return rng.choice([plain, Operand(Mode.DISPLACED, pointer, displacement)])
    if kind == "far":
        # Pointer cells in shared memory, and cells with effects as pointers.
        cell = DATA + 8 * rng.randrange(4)
        if rng.random() < 0.1:
            cell = rng.choice([CELL_STDIN, CELL_CONSOLE, CELL_CHILD_STACK_BASE])
        return Operand(Mode.DISPLACED, cell, rng.choice([0, 8]))
    addresses = {
        "value": rng.choice(VALUES),
        "effect": CELL_STDIN if is_source else CELL_CONSOLE,
        "direct": interesting_address(rng, 0.03),
    }
    return Operand(Mode.DIRECT, addresses[kind])


def creation(rng: random.Random) -> list[Instruction]:
    """Build four descriptors in private memory, then create a runner."""
    at = DESCRIPTORS
    written: list[Instruction] = []

    def words(*values: int) -> int:
        nonlocal at
        start = at
        for value in values:
            written.append(op("mov", Operand(Mode.IMMEDIATE, value), Operand(Mode.DIRECT, at)))
            at += 8
        return start

    def ranges() -> tuple[int, ...]:
        count = rng.choice([0, 1, 1, 2, 3])
        spans = []
        for _ in range(count):
            spans += [DATA + rng.randrange(4 * PAGE_BYTES), rng.choice([0, 1, 8, 4096])]
            if rng.random() < 0.03:
                spans[-1] = rng.choice([(1 << 64) - 1, 1 << 62])
            if rng.random() < 0.03:
                spans[-2] = interesting_address(rng)
        return (count if rng.random() < 0.97 else rng.choice([(1 << 64) - 1, 1 << 40]), *spans)

    stack = rng.choice([(0, 0), (0, 0), (0, 0), (DATA, 256), (DATA, 0), (0, 8)])
    operands = [words(*stack), words(*ranges()), words(*ranges()), words(TEXT_START)]
    created = op("newr", *(Operand(Mode.IMMEDIATE, value) for value in operands))
    # Arguments on the child's stack, stored, and loaded before or after.
    argument = Operand(Mode.DISPLACED, CELL_CHILD_STACK_BASE, rng.choice([0, 16, 100, 4090]))
    accesses = [
        op("mov", Operand(Mode.IMMEDIATE, random_bits(rng, "sq")), argument),
        op("mov", argument, Operand(Mode.DIRECT, rng.choice(VALUES))),
    ]
    return [*written, created, *rng.sample(accesses, rng.randrange(3))]


def system_call(rng: random.Random) -> list[Instruction]:
    number = rng.choice([1, 1, 6, 2, 7, 7] * 5 + [3])
    size = rng.choice([0, 1, 8, 4096, 5000, 100_000, 1 << 45])
    if rng.random() < 0.02:
        size = (1 << 64) - 1
    if number == 2:
        size = rng.choice([0, 5, 5, 100])
    return [
        op("mov", Operand(Mode.IMMEDIATE, number), Operand(Mode.DIRECT, CELL_SYSCALL_NUMBER)),
        op("mov", Operand(Mode.IMMEDIATE, size), Operand(Mode.DIRECT, CELL_SYSCALL_ARGS)),
        op("int", number=0x80 if rng.random() < 0.98 else rng.randrange(256)),
        op("mov", Operand(Mode.DIRECT, CELL_SYSCALL_ARGS),
           Operand(Mode.DIRECT, rng.choice(POINTERS if size not in {0, 1 << 45} else VALUES))),
    ]  # fmt: skip


def comparison_of_strings(rng: random.Random) -> Instruction:
    lengths = [
        Operand(Mode.IMMEDIATE, rng.choice([0, 1, 5, 8, 40, 90, 4000, 9000])) for _ in range(2)
    ]
    return op(
        "strcmp",
        Operand(Mode.DIRECT, rng.choice(POINTERS)), lengths[0],
        Operand(Mode.DIRECT, rng.choice(POINTERS)), lengths[1],
        Operand(Mode.DIRECT, rng.choice(VALUES)),
    )  # fmt: skip


def random_instructions(rng: random.Random, here: int, count: int) -> list[Instruction]:
    """One thought of a program: an instruction, or a few that belong together."""
    row = rng.choice(TABLE)
    special: dict[str, Callable[[], list[Instruction]]] = {
        "newr": lambda: creation(rng),
        "int": lambda: system_call(rng),
        "strcmp": lambda: [comparison_of_strings(rng)],
        "exit": lambda: [op(f"exit:{rng.choice(list(EXIT_SUFFIXES))}")],
        "br": lambda: [_branch(rng, here, count)],
        "bl": lambda: [_link(rng)],
    }
    rare = {"exit": 0.1, "bl": 0.1, "newr": 0.8}
    if rng.random() > rare.get(row.mnemonic, 1.0):
        return [op("nop")]
    if row.mnemonic in special:
        return special[row.mnemonic]()
    type_names = [rng.choice(sorted(row.types)) if row.types else "sq"]
    if row.mnemonic == "mov":
        type_names.append(rng.choice(sorted(row.types)))
    operands = [
        random_operand(rng, spec, type_names[min(i, len(type_names) - 1)])
        for i, spec in enumerate(row.operands)
    ]
    return [op(row.mnemonic, *operands, types=" ".join(type_names))]


def _link(rng: random.Random) -> Instruction:
    """Jump back to the start, or badly: addresses further on are not known here."""
    target = rng.choice([TEXT_START, TEXT_START + 1, 0])
    return op("bl", Operand(Mode.IMMEDIATE, target), Operand(Mode.DIRECT, VALUES[0]))


def _branch(rng: random.Random, here: int, count: int) -> Instruction:
    condition = rng.choice(CONDITIONS)
    if condition.name == "ji":
        return op("nop")
    type_name = rng.choice(sorted(condition.types))
    sources = [s for s in condition.operands if s.access is Access.READ]
    operands = [random_operand(rng, spec, type_name) for spec in sources]
    if condition.name == "sl":
        operands = [Operand(Mode.DIRECT, rng.choice(POINTERS)) for _ in sources]
    target = min(here + rng.randrange(1, 6), count)
    if rng.random() < 0.15:
        target = max(here - rng.randrange(4), 0)
    if rng.random() < 0.02:
        target = rng.choice([TEXT_START + 1, PR_START, (1 << 64) - 1])
    return op(
        f"br:{condition.name}", *operands, types=type_name, target=target,
        relative=rng.random() < 0.5,
    )  # fmt: skip


def random_listing(rng: random.Random) -> list[Instruction]:
    listing = [
        op("mov", Operand(Mode.IMMEDIATE, interesting_address(rng)), Operand(Mode.DIRECT, pointer))
        for pointer in POINTERS
    ]
    for value in VALUES:
        bits = random_bits(rng, rng.choice(["sq", "fd", "fs", "sd"]))
        listing.append(op("mov", Operand(Mode.IMMEDIATE, bits), Operand(Mode.DIRECT, value)))
    count = rng.choice([4, 8, 16, 30, 60])
    while len(listing) < count + 14:
        listing += random_instructions(rng, len(listing), count + 14)
    return [*listing, op("exit:c" if rng.random() < 0.8 else "exit:a")]


def random_grants(rng: random.Random) -> Sequence[tuple[int, int, int]]:
    """Declared ranges, sorted and disjoint: everything, or pieces with holes."""
    if rng.random() < 0.7:
        return ((DATA_START, 1 << 20, rng.choice([0, 1])),)
    ranges = []
    at = DATA
    while at < DATA + DATA_PAGES * PAGE_BYTES:
        length = rng.choice([8, 100, 4096, 4096, 8192, 5000])
        ranges.append((at, length, rng.choice([0, 1])))
        at += length + rng.choice([0, 8, 1000, 4096])
    return ranges


def random_scene(seed: int) -> Scene:
    rng = random.Random(seed)
    listing = random_listing(rng)
    memory = {}
    for page in range(DATA_PAGES):
        for offset in [*range(64), *range(PAGE_BYTES - 16, PAGE_BYTES)]:
            if rng.random() < 0.7:
                memory[DATA + page * PAGE_BYTES + offset] = rng.getrandbits(8)
    if rng.random() < 0.9:
        # Pointer cells in shared memory that point somewhere.
        for cell in range(4):
            data = interesting_address(rng).to_bytes(8, "little")
            memory |= enumerate(data, DATA + 8 * cell)
    tasks = []
    for runner in range(rng.choice([1, 2, 3])):
        stack = (OWN_STACK, STACK_BYTES, 1)
        image = [(OWN_STACK + rng.randrange(5000), rng.randbytes(20))]
        if rng.random() < 0.08:
            stack, image = (DATA + 100, 300, 0), []
        elif rng.random() < 0.5:
            image = []
        task_id = OWN_ID + runner * PAGE_BYTES
        tasks.append(Task(TEXT_START, random_grants(rng), 1, 10 + runner, task_id, stack, image))
    is_flat, tail = rng.random() < 0.5, rng.randbytes(3)
    changes = {
        "allow_undeclared": rng.random() < 0.2,
        "fuel_max": rng.choice([500, 500, 500, 30, 60]),
    }
    # Of its own source, so that older seeds keep their programs.
    tracking_rng = random.Random(-seed - 1)
    changes["loads"] = tracking_rng.choice([*LoadTracking, LoadTracking.CONTENT])
    changes["touched_pages_max"] = tracking_rng.choice([0, 0, 0, 1, 2, 4])
    slice_fuel = 1_000 if seed % 3 else 7
    return Scene(listing, tasks, memory, rng.randbytes(5), changes, slice_fuel, is_flat, tail)
