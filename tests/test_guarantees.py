"""Programs that show what docs/memory-model.md promises, end to end, on every engine.

The rules of ordering, watchers and snapshots have tests of their own, event by event; here is
what a program sees of them. Each text is as short as the promise allows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control import leases
from dvm_mpi.control.delivery import Delivery, InOrder, Shuffled
from dvm_mpi.control.driver import LocalMachine, MachineSettings, Silent
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.engine.interface import TrapKind
from dvm_mpi.job.parts import make_engine_factory
from dvm_mpi.layout import STACKS_START, stack_slot_bytes
from dvm_mpi.options import parse_run
from tests.jobs.machine import read_array

SEEDS = range(8)


@dataclass(frozen=True, slots=True)
class Result:
    """What a run leaves; `trap` and the `address` at fault where it trapped."""

    console: str
    out: list[int]
    trap: TrapKind | None
    address: int


class Listener(Silent):
    def __init__(self) -> None:
        self.heard = bytearray()

    def printed(self, data: NDArray[np.uint8]) -> None:
        self.heard += data.tobytes()


Runner = Callable[..., Result]


def runner_on(engine: str) -> Runner:
    """Return what runs a text on an engine; `out` is the program's array of that name."""

    def run_text(
        text: str, *options: str, seed: int | None = None, workers: int = 2, stdin: bytes = b""
    ) -> Result:
        given = parse_run(["test.dasm", "--engine", engine, *options])
        image = assemble_text(text, "test.dasm", {})
        listener = Listener()
        delivery: Delivery = InOrder() if seed is None else Shuffled(seed, config.SLICE_FUEL)
        machine = LocalMachine(
            image,
            MachineSettings(workers=workers, homes=2, memory_bytes=64 * config.MIB, check=True),
            make_engine_factory(given),
            stdin=stdin,
            delivery=delivery,
            observer=listener,
        )
        with closing(machine):
            failure = machine.run().failure
            out = image.arrays.get("out")
            words = [] if out is None else read_array(machine, out).view(np.int64).ravel().tolist()
        return Result(
            listener.heard.decode(),
            words,
            None if failure is None else TrapKind(failure.trap),
            -1 if failure is None else failure.address,
        )

    return run_text


@pytest.fixture(params=["reference", "interp"])
def run(request: pytest.FixtureRequest) -> Runner:
    return runner_on(request.param)


# --- memory ----------------------------------------------------------------------------------
def test_memory_is_sparse_and_zero_where_nobody_stored(run: Runner) -> None:
    """G1: stores at both ends of the program's upper area, and zeros beside them."""
    result = run("""
        .array  out, sq, 4
        .bss
        .org    0x40000000000
low:    .space  16
        .org    0x1FFFFFFFFFF0
high:   .space  16
        .text
main:   mov     $11, low
        mov     $22, high + 8
        .runner look, heap=[out, ($low, $16), ($high, $16)]
        exit:c
look:   mov     low, out
        mov     low + 8, out + 8
        mov     high, out + 16
        mov     high + 8, out + 24
        exit:c
""")
    assert result.out == [11, 0, 0, 22]


def test_private_memory_is_zero_at_the_start_of_every_attempt(run: Runner) -> None:
    """G2: neither the parent's cells nor those of a lost attempt are there."""
    text = """
        .array  out, sq, 2
        .private mine
        .text
main:   mov     $7, r1
        mov     $7, mine
        .runner count, heap=out
        .runner count, heap=out
        .runner count, heap=out
        exit:c
count:  add     mine, r1, mine
        add     out + 8, mine, out + 8  ; 0, whatever went before
        add     mine, $1, mine
        add     out, mine, out
        exit:c
"""
    assert all(run(text, seed=seed).out == [3, 0] for seed in SEEDS)


UNDECLARED = """
        .array  out, sq, 1024
        .text
main:   mov     $5, out + 8
        .runner child, heap=[($out, $8)]
        exit:c
child:  {}
        exit:c
"""


def test_undeclared_access_traps(run: Runner) -> None:
    """G3, G4: at once on a page of which nothing is declared, at the commit on another."""
    base = 0x4_4000_0000
    far = run(UNDECLARED.format("mov out + 4096, r1"))
    assert (far.trap, far.address) == (TrapKind.UNDECLARED, base + 4096)
    near = run(UNDECLARED.format("mov $6, out + 12"))
    assert (near.trap, near.address) == (TrapKind.UNDECLARED_STORE, base + 12)
    assert near.out[:2] == [0, 5], "nothing of a trapped attempt is committed"


def test_undeclared_bytes_of_a_declared_page_may_be_loaded(run: Runner) -> None:
    """G4: they are those of the snapshot."""
    assert run(UNDECLARED.format("mov out + 8, out")).out[:2] == [5, 5]


def test_undeclared_access_can_be_allowed_but_not_to_the_text(run: Runner) -> None:
    """G4: stores that `--undeclared allow` admits commit like others."""
    allowed = run(UNDECLARED.format("mov $6, out + 4096"), "--undeclared", "allow")
    assert (allowed.trap, allowed.out[512]) == (None, 6)
    text = run(UNDECLARED.format("mov $6, main"), "--undeclared", "allow")
    assert text.trap is TrapKind.TEXT_STORE


def test_every_attempt_finds_its_stack_as_the_creator_left_it(run: Runner) -> None:
    """G5: a lost attempt has changed its argument, and the next one sees it unchanged."""
    text = """
        .array  out, sq, 1
        .text
main:   mov     $8, r1
again:  .runner add_up, args=(r1), heap=out
        sub     r1, $1, r1
        br:nz   r1, again
        exit:c
add_up: add     out, (stack_base), out
        mov     $1000, (stack_base)
        mov     $1000, 4096(stack_base)
        exit:c
"""
    assert all(run(text, seed=seed).out == [36] for seed in SEEDS)


def test_an_automatic_stack_has_a_guard_page(run: Runner) -> None:
    """G5: running down over its end is a trap of its own."""
    result = run("        .text\nmain:   mov $1, -8(stack_base)\n        exit:c\n")
    assert result.trap is TrapKind.STACK_OVERFLOW


def test_malloc_returns_fresh_memory_that_children_may_be_given(run: Runner) -> None:
    """G7: zero, at a page's start, no two alike, and shared after the commit."""
    result = run("""
        .array  out, sq, 4
        .private first, second
        .text
main:   mov     $1, syscall_number
        mov     $5000, syscall_args
        int     0x80
        mov     syscall_args, first
        mov     $5000, syscall_args
        int     0x80
        mov     syscall_args, second
        mov     $9, (first)
        .runner child, args=(first, second), heap=[out, (first, $5000), (second, $5000)]
        exit:c
child:  .arguments first, second
        mov     (first), out
        mov     4992(first), out + 8
        sub     second, first, r1
        br:ge   r1, $5000, apart
        sub     first, second, r1
        br:l    r1, $5000, done
apart:  mov     $1, out + 16
        and     first, $4095, out + 24
done:   exit:c
""")
    assert result.out == [9, 0, 1, 0]


# --- commits ---------------------------------------------------------------------------------
SKEW = """
        .array  out, sq, 3
        .text
main:   .runner left, heap=out
        .runner right, heap=out
        exit:c
left:   br:nz   out + 8, done
        mov     $1, out
        {common}
        exit:c
right:  br:nz   out, done
        mov     $1, out + 8
        {common}
done:   exit:c
"""


def test_loads_do_not_conflict(run: Runner) -> None:
    """G14: two that look at each other's cell may both commit."""
    assert run(SKEW.format(common="nop")).out == [1, 1, 0]


def test_a_common_byte_lets_only_one_of_two_commit_unseen(run: Runner) -> None:
    """G12, G13, G14: the second runs again, and sees what the first did."""
    outs = {tuple(run(SKEW.format(common="mov $1, out + 16"), seed=seed).out) for seed in SEEDS}
    assert outs <= {(1, 0, 1), (0, 1, 1)}


def test_an_aborting_parent_has_no_children(run: Runner) -> None:
    """G15, G16: what it stored and printed is gone as well."""
    result = run("""
        .array  out, sq, 1
        .text
main:   .runner parent, heap=out
        exit:c
parent: .runner child, heap=out
        mov     $1, out
        mov     $'x', console
        exit:a
child:  mov     $2, out
        exit:c
""")
    assert (result.out, result.console) == ([0], "")


def test_stacks_of_children_that_never_were_are_leased_again(
    run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is room for eight stacks; sixty parents, one after the other, abort with a child."""
    monkeypatch.setattr(leases, "STACK_LEASE_COUNT", 1)
    room = 8 * stack_slot_bytes(config.STACK_BYTES_DEFAULT)
    monkeypatch.setattr(leases, "STACKS_END", STACKS_START + room)
    result = run("""
        .private n
main:   .runner next, args=($0)
        exit:c
next:   .arguments n
        .runner parent
        add     n, $1, n
        br:e    n, $60, .last
        .runner next, args=(n)
.last:  mov     $'.', console
        exit:c
parent: .runner child
        exit:a
child:  exit:c
""")
    assert result.console == "." * 60


# --- input and arithmetic --------------------------------------------------------------------
def test_every_runner_reads_the_same_input(run: Runner) -> None:
    """G22: from its first byte; at the end there is -1."""
    result = run(
        """
        .array  out, sq, 2
        .text
main:   .runner child, args=($0), heap=[($out, $8)]
        .runner child, args=($8), heap=[($out + 8, $8)]
        mov     stdin, r1               ; ours is another stream than theirs
        exit:c
child:  .arguments r1
        add     r1, $out, r1
next:   mov     stdin, r2
        br:l    r2, $0, done
        mul     (r1), $1000, (r1)
        add     (r1), r2, (r1)
        br:j    next
done:   exit:c
""",
        stdin=b"AB",
    )
    assert result.out == [65066, 65066]


def test_arithmetic_has_one_result(run: Runner) -> None:
    """G25: the corners in which hosts differ."""
    result = run("""
        .array  out, sq, 10
        .text
main:   div     $0x8000000000000000, $-1, out
        mod     $0x8000000000000000, $-1, out + 8
        shl:sd  $1, $33, r1
        mov     r1:sd, out + 16
        div:fd  $0.0, $0.0, out + 24
        mov     $1e300:fd, out + 32:sq
        mov     $-1e300:fd, r2:uq
        mov     r2, out + 40
        mov     $nan:fd, out + 48:sq
        min:fd  $0.0, $-0.0, out + 56
        div     $-7, $2, out + 64
        mov     $200:ub, out + 72:sq
        exit:c
""")
    low, high = -(1 << 63), (1 << 63) - 1
    assert result.out == [low, 0, 2, 0x7FF8 << 48, high, 0, 0, low, -3, 200]
