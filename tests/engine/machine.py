"""A host for engines under test: homes, leases and epochs reduced to dicts and counters.

It answers every stop of `Engine.run` as a worker would, from a memory that only tests change.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import numpy as np

from dvm_mpi.disa.encoding import encode
from dvm_mpi.disa.image import Image, LineTable
from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.table import EXIT_SUFFIXES
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine.interface import (
    ATTEMPT,
    GRANT,
    RUN,
    AttemptBatch,
    Engine,
    EngineSettings,
    Exit,
    Lease,
    LeaseKind,
    OutcomeBatch,
    Reason,
    TrapDetail,
)
from dvm_mpi.layout import (
    DATA_START,
    MALLOC_START,
    PAGE_BYTES,
    RANGE,
    STACKS_START,
    STATUS_AREAS,
    TEXT_START,
)

MASK64 = (1 << 64) - 1
#: Constants from here on stand for addresses of instructions; see `code`.
CODE = 0x0C0D_E000_0000_0000
_CODE_COUNT_BITS = 20
_CODE_OFFSETS = 256
STACK_BYTES = 8192
SLOT_BYTES = STACK_BYTES + PAGE_BYTES
OWN_ID = STATUS_AREAS[0][0]
OWN_STACK = STACKS_START + PAGE_BYTES
CLOCK_NS = 1_700_000_000_123_456_789
#: Of the attempts whose slice ends, where any are set aside.
PARKED_SHARE = 0.2

EngineMaker = Callable[[EngineSettings], Engine]


def settings(**changes: Any) -> EngineSettings:
    given: dict[str, Any] = {
        "stack_bytes": STACK_BYTES,
        "fuel_max": 0,
        "allow_undeclared": False,
        "cache_bytes": 1 << 26,
        "clock": lambda: CLOCK_NS,
    }
    return EngineSettings(**(given | changes))


# --- programs by hand -------------------------------------------------------------------------
def imm(value: int) -> Operand:
    return Operand(Mode.IMMEDIATE, value & MASK64)


def code(number: int, offset: int = 0) -> Operand:
    """Stand for the address of an instruction, counted from 0, plus up to 255 bytes.

    `program` replaces it by the address, so that instructions may still be left out or put in.
    """
    assert 0 <= number < 1 << _CODE_COUNT_BITS, number
    assert 0 <= offset < _CODE_OFFSETS, offset
    return Operand(Mode.IMMEDIATE, CODE | offset << _CODE_COUNT_BITS | number)


def code_number(operand: Operand) -> int | None:
    """Return which instruction an operand stands for, None if for none."""
    above = operand.value - CODE
    if operand.mode is Mode.IMMEDIATE and 0 <= above < _CODE_OFFSETS << _CODE_COUNT_BITS:
        return above & (1 << _CODE_COUNT_BITS) - 1
    return None


def renumbered(operand: Operand, number: int) -> Operand:
    """Return an operand that stands for another instruction, at the same offset."""
    offset = operand.value - CODE >> _CODE_COUNT_BITS
    return code(number, offset)


def at(address: int) -> Operand:
    return Operand(Mode.DIRECT, address)


def via(cell: int, displacement: int | None = None) -> Operand:
    if displacement is None:
        return Operand(Mode.INDIRECT, cell)
    return Operand(Mode.DISPLACED, cell, displacement)


def op(mnemonic: str, *operands: Operand, types: str = "sq", **fields: Any) -> Instruction:
    """Build an instruction; `types` is one name, or two for mov, separated by a space.

    Names such as `br:le` and `exit:c` carry the condition or the mode of exit.
    """
    name, _, suffix = mnemonic.partition(":")
    if name == "exit":
        return Instruction(0, 0, name, exit_mode=EXIT_SUFFIXES[suffix])
    if name == "int":
        return Instruction(0, 0, name, **fields)
    typed = name not in {"nop", "newr", "strcmp", "bl"} and suffix not in {"j", "ji"}
    names = tuple(types.split())
    if name == "mov" and len(names) == 1:
        names = names * 2
    instruction = Instruction(
        0, 0, name, names if typed else (), operands, condition=suffix or None, **fields
    )
    cut = tuple(
        Operand(o.mode, o.value & (1 << 8 * instruction.width_of(i)) - 1)
        if o.mode is Mode.IMMEDIATE
        else o
        for i, o in enumerate(operands)
    )
    return Instruction(0, 0, name, instruction.types, cut, condition=suffix or None, **fields)


def program(
    *instructions: Instruction, flat: bool = False, sections: Iterable[Any] = (), tail: bytes = b""
) -> Image:
    """Lay instructions out from TEXT_START; a branch's `target` counts instructions."""
    addresses = []
    here = TEXT_START
    for instruction in instructions:
        addresses.append(here)
        here += len(encode(_placed(instruction, 0, [0])))
    addresses.append(here)
    text = b"".join(
        encode(_placed(i, a, addresses)) for i, a in zip(instructions, addresses, strict=False)
    )
    count = len(instructions)
    lines = LineTable(
        ("test.dasm",),
        np.array(addresses[:-1], dtype=np.int64),
        np.zeros(count, dtype=np.int32),
        np.arange(1, count + 1, dtype=np.int32),
    )
    reserved = np.array([(DATA_START, 1 << 20)], dtype=RANGE)
    return Image(TEXT_START, text + tail, tuple(sections), reserved, lines=None if flat else lines)


def _placed(instruction: Instruction, address: int, addresses: Sequence[int]) -> Instruction:
    target = instruction.target
    if target is not None:
        target = addresses[min(target, len(addresses) - 1)] if target < 1 << 20 else target
    operands = tuple(_resolved(operand, addresses) for operand in instruction.operands)
    return Instruction(
        address, 0, instruction.mnemonic, instruction.types, operands,
        instruction.condition, target, instruction.relative, instruction.number,
        instruction.exit_mode,
    )  # fmt: skip


def _resolved(operand: Operand, addresses: Sequence[int]) -> Operand:
    number = code_number(operand)
    if number is None:
        return operand
    offset = operand.value - CODE >> _CODE_COUNT_BITS
    return imm(addresses[min(number, len(addresses) - 1)] + offset)


# --- attempts ---------------------------------------------------------------------------------
@dataclass
class Task:
    """One attempt to run; the defaults are a runner that may touch a megabyte of data."""

    entry: int = TEXT_START
    grants: Sequence[tuple[int, int, int]] = ((DATA_START, 1 << 20, 0),)
    snapshot: int = 1
    runner: int = 1
    id: int = OWN_ID
    stack: tuple[int, int, int] = (OWN_STACK, STACK_BYTES, 1)
    image: Sequence[tuple[int, bytes]] = ()


def batch(tasks: Sequence[Task]) -> AttemptBatch:
    attempts, grants, runs, data = [], [], [], bytearray()
    for task in tasks:
        attempts.append((
            task.runner, task.id, task.entry, task.snapshot, *task.stack,
            len(grants), len(task.grants), len(runs), len(task.image),
        ))  # fmt: skip
        grants += [tuple(g) for g in task.grants]
        for start, content in task.image:
            runs.append((start, len(content), len(data)))
            data += content
    return AttemptBatch(
        np.array(attempts, dtype=ATTEMPT),
        np.array(grants, dtype=GRANT),
        np.array(runs, dtype=RUN),
        np.frombuffer(bytes(data), dtype=np.uint8),
    )


@dataclass
class ChildSeen:
    """A CHILD row with what its companion arrays hold for it."""

    row: dict[str, int]
    heap: list[tuple[int, int]]
    watched: list[tuple[int, int]]
    image: dict[int, int]


@dataclass
class Ended:
    """One outcome in plain Python: comparable with `==` whatever engine made it."""

    row: dict[str, int]
    stored: dict[int, int]
    runs: list[tuple[int, int]]
    children: list[ChildSeen]
    mallocs: list[tuple[int, int]]
    console: bytes
    trap: TrapDetail | None
    #: `(start, length, values in the snapshot or None)`.
    loads: list[tuple[int, int, bytes | None]]


def unpack(taken: OutcomeBatch) -> list[Ended]:
    def stored(first: int, count: int) -> dict[int, int]:
        found: dict[int, int] = {}
        for start, length, data_first in taken.runs[first : first + count].tolist():
            found |= enumerate(taken.data[data_first : data_first + length].tolist(), start)
        return found

    def loads(row: dict[str, int]) -> list[tuple[int, int, bytes | None]]:
        rows = taken.loads[row["load_first"] :][: row["load_count"]].tolist()
        data = taken.load_data.tobytes()
        return [(s, n, None if at < 0 else data[at : at + n]) for s, n, at in rows]

    def child(row: dict[str, int]) -> ChildSeen:
        spans = {
            name: taken.child_ranges[row[f"{name}_first"] :][: row[f"{name}_count"]].tolist()
            for name in ("heap", "watched")
        }
        image = stored(row["image_first"], row["image_count"])
        plain = {k: v for k, v in row.items() if not k.endswith("_first")}
        return ChildSeen(plain, spans["heap"], spans["watched"], image)

    ended = []
    for position, outcome in enumerate(taken.outcomes):
        row = {name: int(outcome[name]) for name in taken.outcomes.dtype.names or ()}
        children = taken.children[row["child_first"] :][: row["child_count"]]
        names = taken.children.dtype.names or ()
        run_rows = taken.runs[row["run_first"] :][: row["run_count"]].tolist()
        ended.append(
            Ended(
                {k: v for k, v in row.items() if not k.endswith("_first")},
                stored(row["run_first"], row["run_count"]),
                [(start, length) for start, length, _ in run_rows],
                [child({n: int(c[n]) for n in names}) for c in children],
                taken.mallocs[row["malloc_first"] :][: row["malloc_count"]].tolist(),
                taken.console[row["console_first"] :][: row["console_count"]].tobytes(),
                taken.traps.get(position),
                loads(row),
            )
        )
    return ended


@dataclass
class Host:
    """Serves one engine: pages from `memory` (address -> byte), leases from counters."""

    engine: Engine
    memory: dict[int, int] = field(default_factory=dict)
    version: int = 1
    malloc_left: int = 1 << 40
    slept_us: int = 0
    misses: list[int] = field(default_factory=list)
    stops: int = 0
    #: Every return of `Engine.run`, if it is wanted.
    exits: list[Exit] | None = None
    #: Whether attempts are set aside at the ends of slices, and which: None for none.
    parking: random.Random | None = None
    _aside: list[int] = field(default_factory=list)
    _next: dict[LeaseKind, int] = field(
        default_factory=lambda: {
            LeaseKind.ID: OWN_ID + (1 << 20),
            LeaseKind.STACK: STACKS_START + 64 * SLOT_BYTES,
            LeaseKind.MALLOC: MALLOC_START,
        }
    )

    def page(self, page: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        start = page * PAGE_BYTES
        content = np.zeros(PAGE_BYTES, dtype=np.uint8)
        for address in range(start, start + PAGE_BYTES):
            byte = self.memory.get(address)
            if byte is not None:
                content[address - start] = byte
        return content

    def install(self, pages: Sequence[int], until: int) -> None:
        numbers = np.array(pages, dtype=np.int64)
        versions = np.full(len(numbers), self.version, dtype=np.int64)
        data = np.stack([self.page(page) for page in pages])
        self.engine.install(numbers, versions, np.full_like(versions, until), data)

    def lease(self, kind: LeaseKind, wanted: int) -> Lease:
        start = self._next[kind]
        if kind is LeaseKind.MALLOC:
            length = max(wanted, 16 * PAGE_BYTES)
            if length > self.malloc_left:
                return Lease(kind, start, start)
            self.malloc_left -= length
        else:
            length = 4 * (PAGE_BYTES if kind is LeaseKind.ID else SLOT_BYTES)
        self._next[kind] = start + length
        return Lease(kind, start, start + length)

    def run(self, *fuels: int, stops_max: int = 100_000) -> list[Ended]:
        """Run the batch to its end and return what ended; slices take their fuel in turn."""
        for fuel in cycle(fuels or (1_000_000,)):
            stop = self.engine.run(fuel)
            self.stops += 1
            if self.exits is not None:
                self.exits.append(stop)
            assert self.stops < stops_max, "the engine makes no progress"
            if stop.reason is not Reason.BATCH_DONE:
                self.answer(stop)
            elif self._aside:
                self.engine.unpark(self._aside.pop(0))
            else:
                break
        return unpack(self.engine.take_outcomes())

    def answer(self, stop: Any) -> None:
        if stop.reason is Reason.PAGE_MISSED:
            self.misses.append(stop.page)
            self.install([stop.page], until=1 << 40)
        elif stop.reason is Reason.LEASE_NEEDED:
            self.engine.grant_lease(self.lease(stop.lease, stop.lease_bytes))
        elif stop.reason is Reason.SLEEPING:
            self.slept_us += stop.sleep_us
        elif self.parking is not None and self.parking.random() < PARKED_SHARE:
            self._aside.append(self.engine.park())


def run_tasks(
    maker: EngineMaker,
    image: Image,
    tasks: Sequence[Task],
    *,
    memory: dict[int, int] | None = None,
    stdin: bytes = b"",
    fuel: int = 1_000_000,
    **changes: Any,
) -> tuple[list[Ended], Host]:
    engine = maker(settings(**changes))
    try:
        engine.load(image, stdin)
        host = Host(engine, memory or {})
        engine.begin(batch(tasks))
        return host.run(fuel), host
    finally:
        engine.close()
