"""What stands in the loops of hot programs: single things, each written to a draft by one function.

Most of what is drawn is what compilers write; the rest is what a translator must refuse, or leave
to the interpreter in the middle of a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from dvm_mpi.disa.instruction import Operand
from dvm_mpi.disa.table import TABLE, TYPED2, TYPED3, Access
from dvm_mpi.disa.types import BY_NAME, NUMBERS, Kind, Mode
from dvm_mpi.layout import CELL_CONSOLE, CELL_STDIN
from tests.engine.hot_draft import (
    LINKS,
    SCRATCH,
    STACK_POINTER,
    SUMS,
    Draft,
    bits_of,
)
from tests.engine.machine import at, imm, via
from tests.engine.random_programs import (
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
    _else(d, over, other, simple if d.chance(0.4) else None)


def _else(d: Draft, over: int, other: int, way: Callable[[Draft], None] | None) -> None:
    """Write where a branch leads to, behind what it goes around: another way, if there is one."""
    if way is None:
        d.place(other)
    else:
        d.put("br:j", target=over)
        d.place(other)
        way(d)
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
        # By what is 0 or 3 behind the comparison above.
        "division": (1, lambda: d.put(d.rng.choice(["div", "mod"]), at(d.value("sq")),
                                      at(SCRATCH[0]), cell)),
        "exit": (0.1, lambda: d.put(f"exit:{d.rng.choice('ca')}")),
    }  # fmt: skip
    name = d.rng.choices(list(kinds), weights=[weight for weight, _ in kinds.values()])[0]
    kinds[name][1]()
    d.place(over)


def carry(d: Draft) -> None:
    """Write a number that is computed, then taken from memory, and stored at the next turn."""
    type_name = d.rng.choice(["fd", "fd", "fs"])
    cell = at(d.value(type_name))
    d.put("mov", cell, d.access(type_name), types=f"{type_name} {type_name}")
    d.put("add", cell, d.access(type_name), cell, types=type_name)
    d.put("mov", d.access(type_name), cell, types=f"{type_name} {type_name}")


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
            _leaf(d, may_call=number < 2 and not d.is_long and d.chance(0.5))
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
        if d.chance(0.4):
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
    """Write a function that calls itself as often as a cell says; it may end before it calls."""
    last = d.label()
    early = d.label() if d.chance(0.6) else None
    if early is not None:
        if d.chance(0.5):
            simple(d)
        d.put("br:le", at(SCRATCH[2]), imm(d.rng.choice([0, 1, 2])), target=early)
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
    if early is not None:
        d.place(early)
        simple(d)
        if d.chance(0.2):
            _change_link(d)
        else:
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
    _else(d, over, other, pure if d.chance(0.35) else None)
