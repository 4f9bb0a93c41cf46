"""Two hundred seeds of small racing programs, each run equal to its replay.

Every program has a truth of its own as well, which must hold in any order of events. The machine
has four homes and twelve workers, on the reference engine and on the compiled one, with messages
as objects and as bytes, with write sets that travel in records and that are staged, with pages
that are copied at once, that come with the answers, and that come late.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.engine.interp import InterpEngine
from tests.sim.machine import ENGINE, PROGRAMS, Run, program, simulate


# --- truths -------------------------------------------------------------------------------------
def counters(run: Run) -> None:
    assert run.words("counters", 3) == [6, 6, 6]
    assert sorted(run.history.console) == sorted(b"abc" * 6)


def bank(run: Run) -> None:
    accounts = run.words("accounts", 8)
    assert sum(accounts) == 800
    assert min(accounts) >= 0
    assert set(run.history.console) <= set(b"+")


def append(run: Run) -> None:
    assert run.word("length") == 12
    assert sorted(run.words("list", 12)) == list(range(1, 13))


def neighbours(run: Run) -> None:
    assert run.retries == 0
    assert run.words("bytes", 3) == [
        int.from_bytes(range(first, first + 8), "little") for first in (1, 9, 17)
    ]
    assert run.words("quads", 24) == [0x0101010101010101 * (i + 1) for i in range(24)]


def watchers(run: Run) -> None:
    assert run.words("noted", 6) == [1] * 6
    assert run.word("tries") == 6
    assert run.history.console == b"." * 6


def counting_watcher(run: Run) -> None:
    assert run.word("seen") == 8
    assert run.history.console.endswith(b"8")
    assert sorted(run.history.console) == list(run.history.console)


def chains(run: Run) -> None:
    def total(depth: int, number: int, passed: int) -> tuple[int, int]:
        """Return the sum that a link and its children add, and how many ends there are."""
        held = passed + number
        if depth == 0:
            return held, 1
        if number % 2 and number > 1:
            return 0, 0
        parts = [total(depth - 1, 2 * number + child, held) for child in (0, 1)]
        return sum(p[0] for p in parts), sum(p[1] for p in parts)

    expected, ends = total(4, 1, 1)
    assert run.word("total") == expected
    assert run.history.console == b"|" * ends


def stacks(run: Run) -> None:
    sums = [i + i + 100 for i in range(6)]
    assert run.word("done") == sum(sums)
    assert run.history.console == b"!" * 6
    told = [run.word("stacks", 32 * i + 18) for i in range(6)]
    assert told == [0 if i % 2 else sums[i] for i in range(6)], "odd children abort"


def large(run: Run) -> None:
    assert run.word("shared") == 6


def sleepers(run: Run) -> None:
    assert [run.word("cells", 512 * page) for page in range(3)] == [6] * 3
    seen = run.words("seen", 6)
    assert all(1 <= count <= 6 for count in seen), "no reader saw a torn state"
    assert sorted(run.history.console) == sorted(ord("0") + count for count in seen)


def trap(run: Run) -> None:
    assert run.history.failure is not None
    assert run.history.console == b"01234"
    assert run.word("counter") == 5


@dataclass(frozen=True, slots=True)
class Case:
    """One program with its truth, and how many seeds it gets."""

    name: str
    truth: Callable[[Run], None]
    seeds: int
    defines: dict[str, int] = field(default_factory=dict)


CASES = (
    Case("counters", counters, 20),
    Case("bank", bank, 15),
    Case("append", append, 20),
    Case("neighbours", neighbours, 15),
    Case("watchers", watchers, 20),
    Case("watchers", watchers, 20, {"ANEW": 1}),
    Case("counting_watcher", counting_watcher, 15),
    Case("chains", chains, 15),
    Case("stacks", stacks, 15),
    Case("sleepers", sleepers, 20),
    Case("large", large, 15),
    Case("trap", trap, 10),
)
assert sum(case.seeds for case in CASES) == 200

#: Seeds of one test, so that several processes share the work.
CHUNK = 5
CHUNKS = [
    pytest.param(case, first, id=f"{'-'.join([case.name, *case.defines])}-{first}")
    for case in CASES
    for first in range(0, case.seeds, CHUNK)
]


@pytest.mark.parametrize(("case", "first"), CHUNKS)
def test_a_run_equals_its_replay(case: Case, first: int) -> None:
    image = program(case.name, **case.defines)
    for seed in range(first, min(first + CHUNK, case.seeds)):
        settings = {
            "on_wire": seed % 2 == 0,
            "check": seed % 5 == 0,
            "plane": ("direct", "message", "late")[seed // 3 % 3],
            # Every third seed stages whatever it can, in parts of at most 256 bytes.
            "inline_bytes_max": 4 if seed % 3 == 0 else 4096,
            "arena_slice_bytes": 512 if seed % 3 == 0 else 16384,
        }
        if seed % 4 == 3:
            run = simulate(image, seed, settings=settings, make_engine=lambda: InterpEngine(ENGINE))
        else:
            run = simulate(image, seed, settings=settings)
        assert run.differences == [], f"seed {seed}"
        case.truth(run)


def test_addresses_are_given_out_again_as_they_were() -> None:
    """Blocks of some bytes, and refused ones: the program stores every address that it gets.

    Those of a `malloc` of no bytes are in no record; they are of no use, and not stored here.
    """
    text = """
        .bss
        .align  4096
got:    .space  64
        .private i, at
        .data
sizes:  .quad   100, 0, 1 << 50, 5000, 0, 8192
        .text
main:   mov     $sizes, r1
        mov     $got, at
next:   mov     $1, syscall_number
        mov     (r1), syscall_args
        int     0x80
        br:z    (r1), nothing
        mov     syscall_args, (at)
nothing: add    r1, $8, r1
        add     at, $8, at
        br:l    at, $got + 48, next
        exit:c
"""
    run = simulate(assemble_text(text, "test.dasm", {}), 1)
    assert run.word("got", 2) == 0
    assert [i for i in range(6) if run.word("got", i)] == [0, 3, 5]
    assert run.differences == []


def test_a_seed_is_one_run() -> None:
    """The same seed gives the same history, to the last attempt."""
    image = program("watchers")
    first, again, other = (simulate(image, seed).history for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_every_program_is_run() -> None:
    assert {path.stem for path in PROGRAMS.glob("*.dasm")} == {case.name for case in CASES}
