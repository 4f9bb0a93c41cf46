"""Loops of every form that hot programs consist of, as those over arrays, rows and tables.

Each function writes one loop to a draft, with what stands in it (hot_parts.py).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from dvm_mpi.disa.types import BY_NAME, Kind
from dvm_mpi.layout import PAGE_BYTES, PR_START
from tests.engine.hot_draft import (
    COUNTERS,
    INPUT_CELLS,
    LIMITS,
    ROAMING,
    ROW_CELLS,
    SCRATCH,
    STRIDES,
    TYPED,
    Draft,
    Loop,
    bits_of,
)
from tests.engine.hot_parts import (
    COMPUTING,
    SOURCES,
    around,
    call,
    carry,
    choose,
    index,
    leave,
    rare,
    side_by_side,
    simple,
    step_pointer,
    straight,
    switch,
)
from tests.engine.machine import at, imm, via
from tests.engine.random_programs import (
    DATA,
    VALUES,
)

COUNTER_TYPES: Final = {"sq": 50, "uq": 12, "sd": 14, "ud": 9, "sb": 5, "ub": 5, "fd": 4, "fs": 1}
TRIPS: Final = (1, 17, 60, *range(104, 260, 13))
#: Of the loops without others in them, those over arrays, those with a pointer that goes anywhere,
#: those that do nothing but sum up side by side, those that are two after all, and the rest.
SPECIAL_WEIGHTS: Final = (25, 8, 12, 6, 49)
#: Of the rest, those that do nothing rare; and of what is in these, branches.
TIGHT_SHARE: Final = 0.5
AROUND_SHARE: Final = 0.25
#: Of those that do nothing rare, those that compute numbers side by side.
SIDE_BY_SIDE_SHARE: Final = 0.4
#: Of loops around a loop, those over the rows of something.
NEST_SHARE: Final = 0.3
#: Of these, those that add to the same row in each round; and how many rounds these have at least.
ROW_SHARE: Final = 0.4
ROW_ROUNDS_MIN: Final = 9
#: Loops in loops.
LEVELS_MAX: Final = 3


def statement(d: Draft, budget: int) -> None:
    """Write anything that a loop may hold; `budget` is in instructions executed."""
    ways = {"simple": 62, "choose": 9, "index": 8, "step": 2, "leave": 4, "rare": 4, "call": 7,
            "switch": 4, "carry": 4, "loop": 10}  # fmt: skip
    if d.is_long:
        ways = {"simple": 90, "choose": 10, "leave": 5}
    if len(d.loops) >= LEVELS_MAX or budget < 60:
        ways.pop("loop", None)
    writers: dict[str, Callable[[], None]] = {
        "simple": lambda: simple(d),
        "choose": lambda: choose(d),
        "index": lambda: index(d),
        "step": lambda: step_pointer(d),
        "leave": lambda: leave(d),
        "rare": lambda: rare(d),
        "call": lambda: call(d),
        "switch": lambda: switch(d),
        "carry": lambda: carry(d),
        "loop": lambda: loop(d, budget),
    }
    writers[d.rng.choices(list(ways), weights=list(ways.values()))[0]]()


# --- loops ------------------------------------------------------------------------------------
def loop(d: Draft, budget: int) -> None:
    """Write a loop of some form; `budget` is about how many instructions all its turns execute."""
    rng = d.rng
    level = len(d.loops)
    # A loop without others counts far: that is where time goes.
    is_outer = budget > 1_500 and level < LEVELS_MAX - 1 and d.chance(0.3)
    trips = rng.choice([2, 3, 5, 8]) if is_outer else rng.choice(TRIPS)
    trips = max(min(trips, budget // 6), 1)
    kinds = [sweep, roaming_loop, columns, row_sums, None]
    special = rng.choices(kinds, weights=SPECIAL_WEIGHTS)[0]
    if special is not None and not is_outer:
        special(d, trips)
        return
    made = _begun(d)
    moves = [_pointer(d, made, trips) for _ in range(rng.choice([0, 1, 1, 2, 2, 3]))]
    close = _counting(d, made, trips)
    if d.chance(0.06):
        # A second way in: then no block is entered before all others.
        d.put(f"br:{rng.choice(['z', 'nz'])}", at(d.value("sq")), target=made.onward)
    top = d.here()
    head = close(top)
    d.loops.append(made)
    early = [move for move in moves if d.chance(0.15)]
    for move in early:
        move()
    left = budget // trips
    count = rng.choice([1, 1, 2, 2, 3, 4, 6])
    is_tight = not is_outer and d.chance(TIGHT_SHARE)
    # As most programs do, it stores to what it does not load, or stores nothing.
    stores_to = made.pointers[: d.rng.choice([0, 1, 1, 3])]
    if is_tight and made.pointers and d.chance(SIDE_BY_SIDE_SHARE):
        side_by_side(d)
        count = rng.choice([0, 0, 0, 1])
    for _ in range(count):
        if is_tight and d.chance(AROUND_SHARE):
            around(d)
        elif is_tight:
            straight(d, stores_to)
        else:
            statement(d, left // count)
    if is_outer and d.chance(NEST_SHARE):
        nest(d, left)
    elif is_outer:
        loop(d, left)
    d.place(made.onward)
    for move in moves:
        if move not in early:
            move()
    head()
    d.loops.pop()
    d.place(made.end)


def row_sums(d: Draft, trips: int) -> None:
    """Write a loop that adds rows to one row."""
    nest(d, trips * 6, row_share=1)


def nest(d: Draft, budget: int, row_share: float = ROW_SHARE) -> None:
    """Write a loop around a tight one, as those over the rows of a matrix are.

    Its pointers go on where a row ended, begin anew, beside where they began before, or move with
    the outer loop alone; nearly always evenly.
    """
    rng = d.rng
    turns = rng.choice([1, 3, 5, 17, 40])
    has_row = d.chance(row_share)
    rounds = max(min(budget // (turns * 6), 30), ROW_ROUNDS_MIN if has_row else 4)
    outer, inner = at(COUNTERS[4]), at(COUNTERS[5])
    made = Loop(COUNTERS[5], "sq", [], d.label(), d.label())
    count = rng.choice([0, 1, 2] if has_row else [1, 2, 2, 3])
    moves = [_row_pointer(d, made, turns * rounds) for _ in range(count)]
    row = _row(d, made, turns, moves) if has_row else None
    first = rng.choice([0, 0, 1, -3])
    d.put("mov", imm(0), outer)
    d.put("mov", imm(first), inner)
    has_prefix = d.chance(0.9)
    top = d.here() if has_prefix else -1
    d.loops.append(made)
    if has_prefix:
        if row is not None:
            _change_factor(d, row, made.pointers)
        _row_ends(d, [before for before, _, _ in moves])
        d.put("mov", imm(first), inner)
    again = d.here()
    if row is not None:
        _add_to_row(d, row)
    elif d.chance(0.5):
        side_by_side(d)
    for _ in range(rng.choice([0, 1, 1, 2]) if row is None or d.chance(0.2) else 0):
        straight(d, d.loops[-1].pointers)
    for _, within, _ in moves:
        within()
    d.put("add", inner, imm(1), inner)
    d.put("br:l", inner, imm(first + turns), target=again)
    d.place(made.onward)
    if row is None or d.chance(0.3):
        _row_ends(d, [behind for _, _, behind in moves])
    else:
        for _, _, behind in moves:
            behind()
    if not has_prefix:
        d.put("mov", imm(first), inner)
    d.put("add", outer, imm(1), outer)
    d.put("br:l", outer, imm(rounds), target=top if has_prefix else again)
    d.loops.pop()
    d.place(made.end)


def _begun(d: Draft) -> Loop:
    counter = COUNTERS[len(d.loops) * 2 + d.rng.randrange(2)]
    counter_type = d.rng.choices(list(COUNTER_TYPES), weights=list(COUNTER_TYPES.values()))[0]
    return Loop(counter, counter_type, [], d.label(), d.label())


def sweep(d: Draft, trips: int) -> None:
    """Write a loop over arrays, element after element, as most hot ones are."""
    rng = d.rng
    type_name = rng.choice(["sq", "fd", "fd", "fs", "sd", "ub"])
    stride = BY_NAME[type_name].width_bytes * rng.choice([1, 1, 1, -1])
    made = _begun(d)
    moves = [_pointer(d, made, trips, stride) for _ in range(rng.choice([1, 2, 2, 3]))]
    *sources, target = made.pointers
    meets = bool(sources) and d.chance(0.5)
    if meets:
        # What is stored is loaded soon after, or just before.
        ahead = imm(stride * rng.choice([-20, -2, -1, 0, 1, 2, 3, 20]))
        d.put("add", at(rng.choice(sources)), ahead, at(target))
    sources = sources or [target]
    close = _counting(d, made, trips)
    top = d.here()
    head = close(top)
    d.loops.append(made)
    for _ in range(rng.choice([1, 1, 2])):
        kinds = [m for m, types in COMPUTING if type_name in types and m not in {"div", "mod"}]
        mnemonic = rng.choice([m for m in kinds if SOURCES[m] == 2])
        cell = at(d.value(type_name))
        operands = [via(rng.choice(sources)) if meets or d.chance(0.7) else cell]
        operands.append(rng.choice([cell, imm(bits_of(rng, type_name))]))
        stored = via(target) if meets or d.chance(0.6) else cell
        d.put(mnemonic, *operands, stored, types=type_name)
    d.place(made.onward)
    for move in moves:
        move()
    head()
    d.loops.pop()
    d.place(made.end)


def roaming_loop(d: Draft, trips: int) -> None:
    """Write a loop with a pointer that goes anywhere, behind a sum and rarely behind a store."""
    counter, scratch, pointer, total = ROAMING
    own = _pointer(d, made := Loop(counter, "sq", [], d.label(), d.label()), trips)
    stream = made.pointers[0]
    d.put("mov", imm(0), at(counter))
    top = d.here()
    d.put("add", at(total), at(counter), at(total))
    if d.chance(0.2):
        d.put("add", via(stream), imm(3), via(stream))
    if d.chance(0.5):
        # One page after the other is touched for the first time.
        d.put("shr", at(counter), imm(d.rng.choice([2, 4, 5])), at(scratch))
        d.put("and", at(scratch), imm(3), at(scratch))
        d.put("mul", at(scratch), imm(PAGE_BYTES), at(scratch))
        base = DATA + d.rng.randrange(PAGE_BYTES)
    else:
        if d.chance(0.3):
            d.put("mov", via(stream), at(scratch), types="ub sq")
        d.put("and", at(scratch), imm(d.rng.choice([1, 7, 63, 255])), at(scratch))
        d.put("mul", at(scratch), imm(d.rng.choice([1, 4, 8, 8, 40, 4096, -8])), at(scratch))
        base = d.pointee(8, 64)
    d.put("add", at(scratch), imm(base), at(pointer))
    d.loops.append(replace(made, pointers=[pointer]))
    for _ in range(d.rng.choice([1, 1, 2, 4])):
        if d.chance(0.85):
            straight(d, [pointer])
        else:
            around(d)
    d.loops.pop()
    d.place(made.onward)
    own()
    d.put("add", at(counter), imm(1), at(counter))
    d.put("br:l", at(counter), imm(trips), target=top)
    d.place(made.end)


def columns(d: Draft, trips: int) -> None:
    """Write a loop that sums up numbers that lie side by side, row after row.

    Most have few rows: after many, all sums are the NaN of one number among them.
    """
    trips = min(trips, d.rng.choice([4, 5, 6, 9, 17, 260]))
    made = _begun(d)
    move = _pointer(d, made, trips, d.rng.choice([8, 64, 64, 72, 80, -64]))
    close = _counting(d, made, trips)
    top = d.here()
    head = close(top)
    d.loops.append(made)
    side_by_side(d)
    d.place(made.onward)
    move()
    head()
    d.loops.pop()
    d.place(made.end)


def _row_ends(d: Draft, moves: list[Callable[[], None]]) -> None:
    """Write what stands before or behind the inner loop."""
    for move in moves:
        move()
        if d.chance(0.25):
            straight(d, d.loops[-1].pointers)


@dataclass(frozen=True, slots=True)
class Row:
    """What each round of a nest adds to, and of what: pointers; cells of factor and product."""

    pointer: int
    source: int
    type_name: str
    factor: int
    product: int


def _row(d: Draft, made: Loop, turns: int, moves: list[tuple[Callable[[], None], ...]]) -> Row:
    """Set a pointer of a nest to a row that begins anew with each round."""
    type_name = d.rng.choice(["fd", "fd", "fd", "fs", "sq", "ub"])
    width = BY_NAME[type_name].width_bytes
    # On a page where few others begin, mostly.
    own = DATA + 4 * PAGE_BYTES + d.rng.randrange(256) if d.chance(0.7) else None
    moves.append(_row_pointer(d, made, turns, width, "anew", own))
    moves.append(_row_pointer(d, made, turns, width, d.rng.choice(["goes on", "goes on", "anew"])))
    pointer, source = made.pointers[-2:]
    if d.chance(0.3):
        # It meets the row in some rounds, or nearly so.
        near = imm(width * d.rng.choice([-turns - 1, -turns, -turns, -3, -1, 0, 1, turns]))
        d.put("add", at(pointer), near, at(source))
    row = Row(pointer, source, type_name, *ROW_CELLS[type_name])
    for cell in (row.factor, row.product):
        d.put("mov", imm(bits_of(d.rng, type_name)), at(cell), types=type_name)
    return row


def _change_factor(d: Draft, row: Row, pointers: Sequence[int]) -> None:
    """Write what gives each round another factor, mostly."""
    factor, types = at(row.factor), row.type_name
    if d.chance(0.6):
        d.put("mov", via(d.rng.choice(pointers)), factor, types=types)
    if d.chance(0.5):
        d.put("add", factor, imm(bits_of(d.rng, types)), factor, types=types)


def _add_to_row(d: Draft, row: Row) -> None:
    """Write what adds to an element of a row, or nearly so."""
    rng, types = d.rng, row.type_name
    element = via(row.pointer, rng.choice([8, -8]) if d.chance(0.03) else 0)
    others = {via(row.source): 60, d.access(types): 20, at(row.factor): 20}
    (other,) = rng.choices(list(others), weights=list(others.values()))
    has_product, is_late = d.chance(0.7), d.chance(0.15)

    def multiply() -> None:
        if has_product:
            mnemonic = rng.choice(["mul", "add", "sub"])
            d.put(mnemonic, at(row.factor), other, at(row.product), types=types)

    if not is_late:
        multiply()
    operands = [via(row.pointer), at(row.product) if has_product else other]
    if d.chance(0.2):
        operands.reverse()
    mnemonic = rng.choice(["add", "add", "sub", "mul", "max"])
    if d.chance(0.15):
        # Through a cell.
        d.put("mov", operands[0], at(row.product), types=types)
        operands[0] = at(row.product)
    d.put(mnemonic, *operands, element, types=types)
    if is_late:
        # The turn uses what the one before it computed.
        multiply()


def _row_pointer(
    d: Draft,
    made: Loop,
    trips: int,
    stride: int | None = None,
    kind: str = "",
    begin: int | None = None,
) -> tuple[Callable[[], None], ...]:
    """Set a pointer of a nest; return what is written before, in and behind the inner loop."""
    rng = d.rng
    pointer, beside = d.next_pointer(), at(LIMITS[len(made.pointers)])
    made.pointers.append(pointer)
    stride = rng.choice([8, 8, 8, 8, 4, 1, 16, 0, -8]) if stride is None else stride
    kind = kind or rng.choice(["goes on", "goes on", "anew", "anew", "beside", "outside"])
    start = imm(d.pointee(stride, trips) if begin is None else begin)
    d.put("mov", start, at(pointer))
    d.put("mov", start, beside)
    far = imm(rng.choice([8, 64, 8 * trips, -8, 0]))

    def nothing() -> None:
        """Write nothing."""

    def step() -> None:
        d.put("add", at(pointer), imm(stride), at(pointer))

    def on() -> None:
        d.put("add", at(pointer), far, at(pointer))

    def anew() -> None:
        d.put("mov", start if d.chance(0.5) else beside, at(pointer))

    def move_beside() -> None:
        d.put("add", beside, far, beside)

    last = on if d.chance(0.2) else nothing
    return {
        "goes on": (nothing, step, last),
        "anew": (anew, step, last),
        "beside": (lambda: d.put("mov", beside, at(pointer)), step, move_beside),
        "outside": (nothing, nothing, step),
    }[kind]


def _pointer(d: Draft, made: Loop, trips: int, stride: int | None = None) -> Callable[[], None]:
    """Set a pointer of the loop, which moves by a stride or any; return what writes its step."""
    pointer = d.next_pointer()
    stride = d.rng.choice(STRIDES) if stride is None else stride
    made.pointers.append(pointer)
    if d.chance(0.03):
        d.put("mov", at(d.rng.choice(INPUT_CELLS)), at(pointer))
    else:
        start = d.pointee(stride, trips)
        if d.chance(0.02):
            # At its own cell, or near to what the loop counts in.
            start = d.rng.choice([pointer, made.counter]) + d.rng.choice([0, 0, 4, -8])
        elif d.chance(0.05):
            # Over cells that may be in registers, when the loop is hot.
            cell = d.rng.choice([*VALUES, *COUNTERS, *TYPED.values()])
            start = max(cell - stride * d.rng.randrange(4, max(trips, 5)), PR_START)
        d.put("mov", imm(start), at(pointer))
    step = imm(stride)
    if d.chance(0.15):
        step = at(d.rng.choice(SCRATCH[1:]))
        d.put("mov", imm(stride), step)
    if stride < 0 and d.chance(0.5) and step == imm(stride):
        return lambda: d.put("sub", at(pointer), imm(-stride), at(pointer))
    return lambda: d.put("add", at(pointer), step, at(pointer))


def _number(value: int, type_name: str) -> int:
    """Return the bits of a whole number as a value of a type."""
    kind = BY_NAME[type_name]
    if kind.kind is Kind.FLOAT:
        return int.from_bytes(struct.pack("<d" if kind.width_bytes == 8 else "<f", value), "little")
    return value & (1 << 8 * kind.width_bytes) - 1


def _first(d: Draft, type_name: str, span: int) -> int:
    """Return where to start counting `span` upwards: mostly 0, or at some edge of the type."""
    kind = BY_NAME[type_name]
    if d.chance(0.65) or kind.kind is Kind.FLOAT:
        return d.rng.choice([0, 0, 0, 1, -5])
    top = 1 << 8 * kind.width_bytes - (kind.kind is Kind.SIGNED)
    half = 1 << 8 * kind.width_bytes - 1
    # Up to the largest number and beyond, and across the sign.
    return d.rng.choice([top - span, top - span - 1, top - span // 2, -half, half - span // 2])


def _counting(d: Draft, made: Loop, trips: int) -> Callable[[int], Callable[[], None]]:
    """Set what a loop counts in; return what writes its head, which returns its tail's writer."""
    type_name, counter = made.counter_type, at(made.counter)
    step = d.rng.choice([1, 1, 1, 1, 2, 3, 8])
    is_down = d.chance(0.25)
    low = _first(d, type_name, trips * step)
    high = low + trips * step
    start, goal = (high, low) if is_down else (low, high)
    # Not all are met exactly: what comes behind may be beyond the largest number.
    goal += d.rng.choice([0, 0, 0, 0, 1, -1])
    d.put("mov", imm(_number(start, type_name)), counter, types=type_name)
    bound = d.held(_number(goal, type_name), type_name)
    if d.chance(0.12) and not is_down:
        bound = at(d.rng.choice(INPUT_CELLS[:2]))
    mnemonic = "sub" if is_down else "add"
    if d.chance(0.15):
        mnemonic, step = ("add" if is_down else "sub"), -step
    amount = imm(_number(step, type_name))
    # Counting down ends below or at the goal, by operands the other way round.
    pair = [bound, counter] if is_down else [counter, bound]
    is_zero = is_down and low == 0 and d.chance(0.6)
    condition = d.rng.choice(["l", "l", "l", "le", "ne"])

    def advance() -> None:
        d.put(mnemonic, counter, amount, counter, types=type_name)

    def tail(top: int) -> None:
        advance()
        if is_zero:
            d.put("br:nz", counter, types=type_name, target=top)
        else:
            d.put(f"br:{condition}", *pair, types=type_name, target=top)

    def head(top: int) -> Callable[[], None]:
        if d.chance(0.75):
            return lambda: tail(top)
        # It is tested at the top: not below means ended.
        d.put("br:le", *reversed(pair), types=type_name, target=made.end)

        def back() -> None:
            advance()
            d.put("br:j", target=top)

        return back

    return head
