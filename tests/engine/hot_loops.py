"""What hot programs consist of: loops of every form, and what may stand in their bodies.

Each function writes one thing to a draft. Most of what is drawn is what compilers write; the rest
is what a translator must refuse, or leave to the interpreter in the middle of a loop.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from dvm_mpi.disa.instruction import Operand
from dvm_mpi.disa.table import TABLE, TYPED2, TYPED3, Access
from dvm_mpi.disa.types import BY_NAME, NUMBERS, Kind, Mode
from dvm_mpi.layout import CELL_CONSOLE, CELL_STDIN, PAGE_BYTES, PR_START
from tests.engine.hot_draft import (
    COUNTERS,
    INPUT_CELLS,
    LIMITS,
    LINKS,
    ROAMING,
    SCRATCH,
    STACK_POINTER,
    STRIDES,
    SUMS,
    TYPED,
    Draft,
    Loop,
    bits_of,
)
from tests.engine.machine import at, imm, via
from tests.engine.random_programs import (
    DATA,
    POINTERS,
    VALUES,
    comparison_of_strings,
    creation,
    system_call,
)

#: Instructions that compute: mnemonic, types.
COMPUTING: Final = tuple(
    (row.mnemonic, sorted(row.types)) for row in TABLE if row.form in {TYPED2, TYPED3}
)
SOURCES: Final = {
    row.mnemonic: sum(spec.access is Access.READ for spec in row.operands) for row in TABLE
}
MOV_TYPES: Final = sorted(BY_NAME)
COMPARING: Final = ("l", "le", "e", "ne")
COUNTER_TYPES: Final = {"sq": 50, "uq": 12, "sd": 14, "ud": 9, "sb": 5, "ub": 5, "fd": 4, "fs": 1}
TRIPS: Final = (1, 17, 60, *range(104, 260, 13))
#: Of the loops without others in them, those with a pointer that goes anywhere; of the rest, those
#: that do nothing rare; and of what is in these, branches.
ROAMING_SHARE: Final = 0.12
TIGHT_SHARE: Final = 0.5
#: Of those, what computes numbers side by side.
SIDE_BY_SIDE_SHARE: Final = 0.4
AROUND_SHARE: Final = 0.25
#: Of loops around a loop, those over the rows of something.
NEST_SHARE: Final = 0.3
#: Loops in loops.
LEVELS_MAX: Final = 3


# --- statements -------------------------------------------------------------------------------
def compute(d: Draft) -> None:
    """Write one computing instruction: a type that some value has, or any."""
    mnemonic, types = d.rng.choice(COMPUTING)
    if d.chance(0.5):
        mnemonic, types = d.rng.choice([c for c in COMPUTING if c[0] in {"add", "sub", "mul"}])
    usual = [d.types[cell] for cell in VALUES if d.types[cell] in types]
    type_name = d.rng.choice(usual if usual and d.chance(0.7) else types)
    operands = [d.source(type_name) for _ in range(SOURCES[mnemonic])]
    if mnemonic in {"div", "mod"} and BY_NAME[type_name].kind is not Kind.FLOAT and d.chance(0.8):
        # Mostly without a trap, often by what has a rule of its own.
        operands[1] = imm(d.rng.choice([-1, -1, 1, 3, 7, bits_of(d.rng, type_name) | 1]))
    d.put(mnemonic, *operands, d.target(type_name), types=type_name)


def accumulate(d: Draft) -> None:
    """Write a cell that is carried from turn to turn."""
    cell = d.rng.choice(VALUES)
    type_name = d.types[cell] if d.is_strict or d.chance(0.85) else d.rng.choice(sorted(NUMBERS))
    fitting = [m for m, types in COMPUTING if type_name in types and SOURCES[m] == 2]
    mnemonic = d.rng.choice([m for m in fitting if m not in {"div", "mod"}])
    mnemonic = "add" if d.chance(0.5) else mnemonic
    operands = [at(cell), d.access(type_name) if d.chance(0.7) else d.source(type_name)]
    if d.chance(0.3):
        operands.reverse()
    d.put(mnemonic, *operands, at(cell), types=type_name)


def move(d: Draft) -> None:
    """Write a mov: most keep the bits, others convert."""
    first = d.rng.choice(MOV_TYPES)
    if d.chance(0.5):
        first = d.rng.choice(["sq", "fd", "fs", "ub"])
    second = first if d.chance(0.6) else d.rng.choice(MOV_TYPES)
    d.put("mov", d.source(first), d.target(second), types=f"{first} {second}")


def choose(d: Draft) -> None:
    """Write something that is skipped at times, or one of two."""
    over, other = d.label(), d.label()
    type_name = d.rng.choice(["sq", "fd", "uq", *sorted(NUMBERS)])
    if d.chance(0.3) and d.loops:
        d.put("and", at(d.loops[-1].counter), imm(d.rng.choice([1, 3, 15])), at(SCRATCH[0]))
        d.put(f"br:{d.rng.choice(['z', 'nz'])}", at(SCRATCH[0]), target=other)
    elif d.chance(0.2):
        d.put(f"br:{d.rng.choice(['z', 'nz'])}", d.source(type_name), types=type_name, target=other)
    else:
        operands = [d.source(type_name), d.source(type_name)]
        d.put(f"br:{d.rng.choice(COMPARING)}", *operands, types=type_name, target=other)
    simple(d)
    if d.chance(0.4):
        d.put("br:j", target=over)
        d.place(other)
        simple(d)
    else:
        d.place(other)
    d.place(over)


def step_pointer(d: Draft) -> None:
    """Write what moves a pointer in a way that no stride describes."""
    own = d.loops[-1].pointers if d.loops else []
    pointer = d.rng.choice(own or POINTERS)
    ways: list[Callable[[], None]] = [
        lambda: d.put("add", at(pointer), imm(d.rng.choice([1, 8, -8])), at(pointer)),
        lambda: d.put("mov", at(d.rng.choice(POINTERS)), at(pointer)),
        lambda: d.put("xor", at(pointer), imm(8), at(pointer)),
        lambda: d.put("mov", at(pointer), at(pointer), types="sd sq") if d.chance(0.1) else None,
        lambda: d.put("mov", via(pointer), at(pointer)) if d.chance(0.2) else None,
    ]
    d.rng.choice(ways)()


def index(d: Draft) -> None:
    """Write an address that is computed from what counts, and used."""
    if not d.loops:
        return
    pointer, scratch = d.next_pointer(), d.rng.choice(SCRATCH[1:])
    base = d.pointee(8, 64)
    if d.chance(0.5):
        d.put("and", at(d.loops[-1].counter), imm(d.rng.choice([7, 63, 255])), at(scratch))
        d.put("mul", at(scratch), imm(d.rng.choice([1, 4, 8, 16, 24])), at(scratch))
    else:
        d.put("shl", at(d.loops[-1].counter), imm(d.rng.choice([0, 2, 3, 67])), at(scratch))
    d.put("add", at(scratch), imm(base), at(pointer))
    d.loops[-1].pointers.append(pointer)
    simple(d)
    if d.chance(0.7):
        d.loops[-1].pointers.remove(pointer)


def leave(d: Draft) -> None:
    """Write a way out of the loop, or on to its next turn."""
    if not d.loops:
        return
    loop = d.rng.choice(d.loops[-2:])
    target = loop.end if d.chance(0.7) else loop.onward
    if target == loop.end and d.chance(0.8):
        # Late, so that the loop is hot by then.
        limit = d.rng.choice([90, 101, 140])
        d.put("br:e", at(loop.counter), imm(limit), types="sq", target=target)
        return
    type_name = d.rng.choice(["sq", "fd", "sd"])
    condition = d.rng.choice(["l", "e", "e"])
    d.put(f"br:{condition}", d.access(type_name), d.source(type_name), types=type_name,
          target=target)  # fmt: skip


def rare(d: Draft) -> None:
    """Write what only the interpreter does, mostly at few of a loop's turns."""
    over = d.label()
    if d.loops and d.chance(0.9):
        d.put("and", at(d.loops[-1].counter), imm(d.rng.choice([7, 31, 63])), at(SCRATCH[0]))
        d.put("br:ne", at(SCRATCH[0]), imm(d.rng.choice([0, 3])), target=over)
    cell = at(d.value("sq"))
    kinds: dict[str, tuple[float, Callable[[], None]]] = {
        "newr": (1, lambda: d.listing.extend(creation(d.rng))),
        "system": (2, lambda: d.listing.extend(system_call(d.rng))),
        "strcmp": (2, lambda: d.listing.append(comparison_of_strings(d.rng))),
        "sl": (2, lambda: d.put("br:sl", at(d.rng.choice(POINTERS)), at(d.rng.choice(POINTERS)),
                                target=over)),
        "stdin": (2, lambda: d.put("mov", at(CELL_STDIN), cell)),
        "stdin twice": (1, lambda: d.put("add", at(CELL_STDIN), at(CELL_STDIN), cell)),
        "console": (2, lambda: d.put("mov", at(d.value("sb")), at(CELL_CONSOLE), types="sb")),
        "exit": (0.1, lambda: d.put(f"exit:{d.rng.choice('ca')}")),
    }  # fmt: skip
    name = d.rng.choices(list(kinds), weights=[weight for weight, _ in kinds.values()])[0]
    kinds[name][1]()
    d.place(over)


def call(d: Draft) -> None:
    """Write a call of a function, which is written later."""
    if d.functions and d.chance(0.4):
        function, calls_itself = d.rng.choice(d.functions)
    else:
        function, calls_itself = d.label(), d.chance(0.3)
        d.functions.append((function, calls_itself))
    link = at(LINKS[0])
    if calls_itself:
        d.put("mov", imm(d.rng.choice([1, 3, 9, 30])), at(SCRATCH[2]))
    if d.chance(0.25):
        cell = at(d.rng.choice(LINKS[1:]))
        d.put("mov", d.address(function), cell)
        d.put("bl", cell, link)
    else:
        d.put("bl", d.address(function), link)


def write_functions(d: Draft) -> None:
    """Write the functions that are called; they may call others."""
    for number in range(20):
        if number >= len(d.functions):
            break
        label, calls_itself = d.functions[number]
        d.place(label)
        # The first few may call the rest: no two call each other.
        outside, d.loops = d.loops, []
        if calls_itself:
            _recursion(d, label)
        else:
            _leaf(d, may_call=number < 2 and not d.is_long)
        d.loops = outside
    assert len(d.functions) <= 20


def _leaf(d: Draft, may_call: bool) -> None:
    is_saved = may_call or d.chance(0.3)
    if is_saved:
        d.put("sub", at(STACK_POINTER), imm(16), at(STACK_POINTER))
        d.put("mov", at(LINKS[0]), via(STACK_POINTER))
    for _ in range(d.rng.randrange(1, 4)):
        simple(d)
    if may_call and d.chance(0.4):
        call(d)
    if not is_saved:
        if d.chance(0.2):
            _change_link(d)
        else:
            d.put("br:ji", at(LINKS[0]))
        return
    d.put("add", at(STACK_POINTER), imm(16), at(STACK_POINTER))
    if d.chance(0.5):
        d.put("br:ji", via(STACK_POINTER, -16))
    else:
        d.put("mov", via(STACK_POINTER, -16), at(LINKS[2]))
        d.put("br:ji", at(LINKS[2]))


def _change_link(d: Draft) -> None:
    """Write a jump by the link to another place than the caller's, and a return from there."""
    tail = d.label()
    d.put("mov", at(LINKS[0]), at(LINKS[2]))
    d.put("mov", d.address(tail), at(LINKS[0]))
    d.put("br:ji", at(LINKS[0]))
    d.place(tail)
    accumulate(d)
    d.put("br:ji", at(LINKS[2]))


def _recursion(d: Draft, label: int) -> None:
    """Write a function that calls itself as often as a cell says."""
    last = d.label()
    bytes_each = d.rng.choice([16, 16, 24, 400])
    d.put("sub", at(STACK_POINTER), imm(bytes_each), at(STACK_POINTER))
    d.put("mov", at(LINKS[0]), via(STACK_POINTER, 8))
    simple(d)
    d.put("sub", at(SCRATCH[2]), imm(1), at(SCRATCH[2]))
    d.put("br:le", at(SCRATCH[2]), imm(0), target=last)
    d.put("bl", d.address(label), at(LINKS[0]))
    d.place(last)
    d.put("mov", via(STACK_POINTER, 8), at(LINKS[0]))
    d.put("add", at(STACK_POINTER), imm(bytes_each), at(STACK_POINTER))
    d.put("br:ji", at(LINKS[0]))


def switch(d: Draft) -> None:
    """Write a jump through a table of addresses."""
    table, pointer, after = d.next_table(), d.next_pointer(), d.label()
    count = d.rng.choice([2, 4])
    ways = [d.label() for _ in range(count)]
    chooser = at(d.loops[-1].counter) if d.loops else d.source("sq")
    is_far = d.chance(0.2)
    if d.chance(0.3):
        d.put("mov", d.address(ways[0], 0.02), at(table))
    for number, way in enumerate(ways):
        d.put("mov", d.address(way), at(table + 8 * number))
    d.put("and", chooser, imm(count - 1), at(SCRATCH[1]))
    d.put("shl", at(SCRATCH[1]), imm(3), at(SCRATCH[1]))
    d.put("add", at(SCRATCH[1]), imm(table), at(pointer))
    if is_far:
        d.put("mov", via(pointer), at(SCRATCH[1]))
    d.put("br:ji", at(SCRATCH[1]) if is_far else via(pointer))
    for way in ways:
        d.place(way)
        simple(d)
        if d.chance(0.8):
            d.put("br:j", target=after)
    d.place(after)


def simple(d: Draft) -> None:
    """Write an instruction that does not branch."""
    d.rng.choices([compute, accumulate, move], [40, 30, 30])[0](d)


def straight(d: Draft, stores_to: Sequence[int]) -> None:
    """Write an instruction over memory that moves with the loop: it never traps of itself.

    `stores_to`: pointers through which it may store.
    """
    mnemonic, types = d.rng.choice(
        [c for c in COMPUTING if c[0] not in {"div", "mod", "exp", "log"}]
    )
    usual = [t for t in ("fd", "fs", "sq", "sd", "ub") if t in types]
    type_name = d.rng.choice(usual if d.chance(0.8) else types)
    cell = at(d.value(type_name))
    if d.chance(0.3):
        pair = [type_name, type_name if d.chance(0.7) else d.rng.choice(MOV_TYPES)]
        operands = [d.access(pair[0]), cell] if d.chance(0.5) else [cell, d.access(pair[1])]
        if d.chance(0.4):
            operands = [d.access(pair[0]), d.access(pair[1])]
        if operands[1].mode is not Mode.DIRECT:
            operands[1] = _stored(d, pair[1], stores_to)
        d.put("mov", *operands, types=" ".join(pair))
        return
    sources = [
        d.rng.choice([d.access(type_name), cell, cell, imm(bits_of(d.rng, type_name))])
        for _ in range(SOURCES[mnemonic])
    ]
    target = _stored(d, type_name, stores_to) if d.chance(0.5) else cell
    d.put(mnemonic, *sources, target, types=type_name)


def _stored(d: Draft, type_name: str, stores_to: Sequence[int]) -> Operand:
    """Return an operand to store to, through one of some pointers if there are any."""
    if not stores_to:
        return at(d.value(type_name))
    operand = d.access(type_name)
    return replace(operand, value=d.rng.choice(stores_to))


def side_by_side(d: Draft) -> None:
    """Write numbers that are computed in the same way, of what lies side by side; or nearly so."""
    rng = d.rng
    lanes = list(range(rng.choice([2, 4, 5, 8, 8, 9])))
    if d.chance(0.3):
        rng.shuffle(lanes)
    pointer = rng.choice(d.loops[-1].pointers)
    base = rng.choice([0, 0, 8, -16, 64])
    factor = rng.choice([at(d.value("fd")), at(SUMS[0]), imm(bits_of(rng, "fd"))])
    first, second = (rng.choice(["add", "mul", "sub", "div"]) for _ in range(2))
    between = at(SUMS[-1])
    for lane in lanes:
        cell, number = at(SUMS[lane]), via(pointer, base + 8 * lane)
        if d.chance(0.1):
            number = via(pointer, base + 8 * rng.choice(lanes))
        d.put(first, factor, number, between, types="fd")
        pair = [cell, between] if d.chance(0.95) else [between, cell]
        d.put(second, *pair, cell, types="fd")


def pure(d: Draft) -> None:
    """Write an instruction that computes with cells alone, and never traps."""
    mnemonic, types = d.rng.choice(
        [c for c in COMPUTING if c[0] not in {"div", "mod", "exp", "log"}]
    )
    type_name = d.rng.choice([t for t in ("fd", "sq", "sd", *sorted(types)) if t in types])
    if d.chance(0.15):
        # Counts, in a cell that would move evenly if it were not skipped.
        cell = at(d.value("sq"))
        d.put(d.rng.choice(["add", "sub"]), cell, imm(d.rng.choice([1, 8, -3])), cell)
        return
    if d.chance(0.4):
        d.put("mov", d.cell_or_constant(type_name), at(d.value(type_name)), types=type_name)
        return
    sources = [d.cell_or_constant(type_name) for _ in range(SOURCES[mnemonic])]
    d.put(mnemonic, *sources, at(d.value(type_name)), types=type_name)


def around(d: Draft) -> None:
    """Write what is skipped at times, or one of two, and rarely touches memory or a pointer."""
    type_name = d.rng.choice(["fd", "fd", "sq", "uq", "sd", "fs"])
    over, other = d.label(), d.label()
    operands = [at(d.value(type_name)), d.cell_or_constant(type_name)]
    if d.chance(0.3):
        operands[1] = d.access(type_name)
    d.rng.shuffle(operands)
    d.put(f"br:{d.rng.choice(COMPARING)}", *operands, types=type_name, target=other)
    stores_to = d.loops[-1].pointers
    inner = [
        lambda: pure(d),
        lambda: straight(d, stores_to),
        lambda: step_pointer(d),
        lambda: around(d),
    ]
    for _ in range(d.rng.choice([1, 1, 2, 3])):
        d.rng.choices(inner, weights=[88, 4, 2, 6])[0]()
    if d.chance(0.35):
        d.put("br:j", target=over)
        d.place(other)
        pure(d)
    else:
        d.place(other)
    d.place(over)


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


def statement(d: Draft, budget: int) -> None:
    """Write anything that a loop may hold; `budget` is in instructions executed."""
    ways = {"simple": 62, "choose": 9, "index": 8, "step": 2, "leave": 4, "rare": 4, "call": 5,
            "switch": 4, "loop": 10}  # fmt: skip
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
    if not is_outer and d.chance(ROAMING_SHARE):
        roaming_loop(d, trips)
        return
    counter = COUNTERS[level * 2 + rng.randrange(2)]
    counter_type = rng.choices(list(COUNTER_TYPES), weights=list(COUNTER_TYPES.values()))[0]
    made = Loop(counter, counter_type, [], d.label(), d.label())
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


def nest(d: Draft, budget: int) -> None:
    """Write a loop around a tight one, as those over the rows of a matrix are.

    Its pointers go on where a row ended, begin anew, beside where they began before, or move with
    the outer loop alone; nearly always evenly.
    """
    rng = d.rng
    turns = rng.choice([1, 3, 5, 17, 40])
    rounds = max(min(budget // (turns * 6), 30), 4)
    outer, inner = at(COUNTERS[4]), at(COUNTERS[5])
    made = Loop(COUNTERS[5], "sq", [], d.label(), d.label())
    moves = [_row_pointer(d, made, turns * rounds) for _ in range(rng.choice([1, 2, 2, 3]))]
    first = rng.choice([0, 0, 1, -3])
    d.put("mov", imm(0), outer)
    d.put("mov", imm(first), inner)
    has_prefix = d.chance(0.9)
    top = d.here() if has_prefix else -1
    d.loops.append(made)
    if has_prefix:
        _row_ends(d, [before for before, _, _ in moves])
        d.put("mov", imm(first), inner)
    again = d.here()
    if d.chance(0.3):
        side_by_side(d)
    for _ in range(rng.choice([0, 1, 1, 2])):
        straight(d, d.loops[-1].pointers)
    for _, within, _ in moves:
        within()
    d.put("add", inner, imm(1), inner)
    d.put("br:l", inner, imm(first + turns), target=again)
    d.place(made.onward)
    _row_ends(d, [behind for _, _, behind in moves])
    if not has_prefix:
        d.put("mov", imm(first), inner)
    d.put("add", outer, imm(1), outer)
    d.put("br:l", outer, imm(rounds), target=top if has_prefix else again)
    d.loops.pop()
    d.place(made.end)


def _row_ends(d: Draft, moves: list[Callable[[], None]]) -> None:
    """Write what stands before or behind the inner loop."""
    for move in moves:
        move()
        if d.chance(0.25):
            straight(d, d.loops[-1].pointers)


def _row_pointer(d: Draft, made: Loop, trips: int) -> tuple[Callable[[], None], ...]:
    """Set a pointer of a nest; return what is written before, in and behind the inner loop."""
    rng = d.rng
    pointer, beside = d.next_pointer(), at(LIMITS[len(made.pointers)])
    made.pointers.append(pointer)
    stride = rng.choice([8, 8, 8, 8, 4, 1, 16, 0, -8])
    kind = rng.choice(["goes on", "goes on", "anew", "anew", "beside", "outside"])
    start = imm(d.pointee(stride, trips))
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


def _pointer(d: Draft, made: Loop, trips: int) -> Callable[[], None]:
    """Set a pointer of the loop; return what writes its step."""
    pointer = d.next_pointer()
    stride = d.rng.choice(STRIDES)
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
