"""Flat images made by hand from the byte layouts run unchanged, on both engines.

What the first runner of such an image may touch, descriptors and arguments, watchers, computed
jumps, doubles, byte strings, system calls, status pages.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.driver import LocalMachine, MachineSettings, Silent
from dvm_mpi.disa.image_file import load_flat
from dvm_mpi.engine.interface import EngineSettings, TrapKind
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT
from tests.engine.agreement import ENGINES
from tests.flat.packer import (
    ABORT,
    ADD,
    COMMIT_DELETE,
    DIV,
    FD,
    LE,
    MUL,
    NE,
    NZ,
    SB,
    SL,
    START,
    SUB,
    UB,
    E,
    Flat,
    L,
    Z,
    at,
    imm,
    off,
    via,
)

DATA = 0x4_4000_0000
FAR = 0x2FF_FFFF_FFF8  # the last word before the automatic stacks
CONSOLE = at(0x1_0000_0208)
CLOCK_NS = 1_700_000_000_123_456_789

STACK_BASE, STACK_SIZE, OWN_ID = 0x1_0000_0100, 0x1_0000_0108, 0x1_0000_0120
CHILD_STACK, CHILD_STACK_SIZE, CHILD_ID = 0x1_0000_0400, 0x1_0000_0408, 0x1_0000_0410
CALL_NUMBER, ARGUMENTS = 0x1_0000_0420, 0x1_0000_1000
R1, R2, R3, R4 = 0x2_0000_0010, 0x2_0000_0018, 0x2_0000_0020, 0x2_0000_0028
#: Descriptors in private memory: nothing, and one that each test fills.
NOTHING, RANGES, ENTRY = 0x1_0000_8000, 0x1_0000_8100, 0x1_0000_8200


@dataclass(slots=True)
class Ran(Silent):
    """A finished run: what was printed, how it failed, and its memory."""

    console: bytes = b""
    trap: TrapKind | None = None
    watchers_left: int = 0
    machine: LocalMachine | None = None

    def printed(self, data: NDArray[np.uint8]) -> None:
        self.console += data.tobytes()

    def word(self, address: int) -> int:
        """Return a 64-bit integer of shared memory as the last commit left it."""
        assert self.machine is not None
        offset = address % PAGE_BYTES
        content = self.machine.read(address >> PAGE_SHIFT, 1).reshape(-1)
        return int.from_bytes(content[offset : offset + 8].tobytes(), "little", signed=True)

    def double(self, address: int) -> float:
        """Return a double of shared memory."""
        (value,) = struct.unpack("<d", struct.pack("<q", self.word(address)))
        assert isinstance(value, float)
        return value


Run = Callable[[bytes], Ran]


@pytest.fixture(params=sorted(ENGINES))
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Return what runs a flat image to its end with each engine in turn."""

    def run_image(image: bytes) -> Ran:
        path = tmp_path / "image.bin"
        path.write_bytes(image)
        settings = MachineSettings(workers=2, homes=2, memory_bytes=16 * config.MIB, check=True)
        engine_settings = EngineSettings(
            stack_bytes=settings.stack_bytes,
            fuel_max=10_000,
            allow_undeclared=False,
            cache_bytes=config.MIB,
            clock=lambda: CLOCK_NS,
        )
        ran = Ran()
        machine = LocalMachine(
            load_flat(path), settings, lambda: ENGINES[request.param](engine_settings), observer=ran
        )
        with closing(machine):
            ending = machine.run()
        ran.machine = machine
        ran.watchers_left = len(ending.watchers)
        ran.trap = None if ending.failure is None else TrapKind(ending.failure.trap)
        return ran

    return run_image


def one_range(f: Flat, descriptor: int, base: int, size: int) -> None:
    """Store the descriptor of one range, word by word."""
    f.mov(imm(1), at(descriptor))
    f.mov(imm(base), at(descriptor + 8))
    f.mov(imm(size), at(descriptor + 16))


def create(f: Flat, entry: str, *, heap: int = NOTHING, watched: int = NOTHING) -> None:
    """Create a runner with an automatic stack; the descriptor of its start is written here."""
    f.mov(imm(entry), at(ENTRY))
    f.newr(imm(NOTHING), imm(heap), imm(watched), imm(ENTRY))


# --- bytes, written out ------------------------------------------------------------------------
def test_an_image_in_plain_hexadecimal(run: Run) -> None:
    """mov $'A':ub, 0x100000208:ub; mov $10, 0x440000000; exit:c."""
    image = bytes.fromhex(
        "0b 66 04  41  08 02 00 00 01 00 00 00"
        "0b 00 04  0a 00 00 00 00 00 00 00  00 00 00 40 04 00 00 00"
        "06 00"
    )
    ran = run(image)
    assert (ran.trap, ran.console, ran.word(DATA)) == (None, b"A", 10)


def test_the_papers_line_in_plain_hexadecimal(run: Run) -> None:
    """add (0x100001000), 8(0x100001000), 0x100000000020 is `01 0990`, then the operands.

    The cell gets an address first: both summands lie there. The flat image's first runner may not
    touch the target, which lies above the stacks.
    """
    f = Flat()
    f.mov(imm(DATA), at(0x1_0000_1000))
    f.mov(imm(30), at(DATA))
    f.mov(imm(12), at(DATA + 8))
    line = "01 0990  0010000001000000  08000000 0010000001000000  "
    f.raw(bytes.fromhex(line + "2000000005000000"))
    f.exit()
    assert run(f.finish()).word(0x5_0000_0020) == 42
    assert run(f.finish().replace(b"\x20\0\0\0\x05\0\0\0", b"\x20\0\0\0\0\x10\0\0")).trap is (
        TrapKind.UNDECLARED
    )


# --- what the first runner may touch -----------------------------------------------------------
def test_everything_up_to_the_stacks_is_its_own(run: Run) -> None:
    f = Flat()
    f.mov(imm(7), at(DATA))
    f.mov(imm(-8), at(FAR))
    f.arith(ADD, at(DATA), at(FAR), at(0x100_0000_0000))
    f.exit()
    ran = run(f.finish())
    assert (ran.trap, ran.word(0x100_0000_0000), ran.word(FAR)) == (None, -1, -8)


def test_the_byte_after_it_is_not(run: Run) -> None:
    f = Flat()
    f.mov(imm(1), at(FAR + 8))
    f.exit()
    assert run(f.finish()).trap is TrapKind.STACK_OVERFLOW


# --- runners -----------------------------------------------------------------------------------
def test_child_with_arguments_on_its_stack(run: Run) -> None:
    """The parent stores them after newr; the child finds them at its stack's base.

    Descriptors are named by constants, by a cell, through a pointer, and with a displacement.
    """
    f = Flat()
    one_range(f, RANGES, DATA, 24)
    f.mov(imm("child"), at(ENTRY))
    f.mov(imm(RANGES), at(R1))
    f.mov(imm(R2), at(R3))
    f.mov(imm(NOTHING), at(R2))
    f.mov(imm(R1), at(R4))
    # R1 holds the address of the heap's descriptor; (R3) and 8(R4) both are the cell R2.
    f.mov(imm(ENTRY), at(R1 + 0x100))
    f.newr(via(R3), at(R1), off(8, R4), at(R1 + 0x100))
    f.mov(imm(1000), via(CHILD_STACK))
    f.mov(imm(-1), off(8, CHILD_STACK))
    f.exit()
    f.mark("child")
    f.arith(SUB, via(STACK_BASE), off(8, STACK_BASE), at(DATA))
    f.mov(at(STACK_SIZE), at(DATA + 8))
    f.mov(at(OWN_ID), at(DATA + 16))
    f.exit()
    ran = run(f.finish())
    assert (ran.trap, ran.word(DATA), ran.word(DATA + 8)) == (None, 1001, 8192)
    assert ran.word(DATA + 16) % PAGE_BYTES == 0


def test_parent_learns_about_its_child(run: Run) -> None:
    """Stack base, stack size and id of the new runner are in the parent's private cells."""
    f = Flat()
    one_range(f, RANGES, DATA + 0x100, 16)
    create(f, "child", heap=RANGES)
    f.mov(at(CHILD_STACK), at(DATA))
    f.mov(at(CHILD_STACK_SIZE), at(DATA + 8))
    f.mov(at(CHILD_ID), at(DATA + 16))
    f.exit()
    f.mark("child")
    f.mov(at(STACK_BASE), at(DATA + 0x100))
    f.mov(at(OWN_ID), at(DATA + 0x108))
    f.exit()
    ran = run(f.finish())
    assert ran.word(DATA) == ran.word(DATA + 0x100) != 0
    assert ran.word(DATA + 8) == 8192
    assert ran.word(DATA + 16) == ran.word(DATA + 0x108) != 0


def test_explicit_stack_is_ordinary_memory(run: Run) -> None:
    """The parent may store there without declaring it, and the bytes stay after the end."""
    f = Flat()
    f.mov(imm(DATA + 0x8000), at(RANGES))
    f.mov(imm(0x1000), at(RANGES + 8))
    f.mov(imm("child"), at(ENTRY))
    f.newr(imm(RANGES), imm(NOTHING), imm(NOTHING), imm(ENTRY))
    f.mov(imm(5), off(8, CHILD_STACK))
    f.exit()
    f.mark("child")
    f.arith(MUL, off(8, STACK_BASE), imm(9), off(16, STACK_BASE))
    f.exit()
    ran = run(f.finish())
    assert (ran.word(DATA + 0x8008), ran.word(DATA + 0x8010)) == (5, 45)


def test_children_of_an_aborted_parent_never_were(run: Run) -> None:
    f = Flat()
    one_range(f, RANGES, DATA, 8)
    create(f, "child", heap=RANGES)
    f.mov(imm(ord("x")), CONSOLE, "ub ub")
    f.exit(ABORT)
    f.mark("child")
    f.mov(imm(1), at(DATA))
    f.exit()
    ran = run(f.finish())
    assert (ran.trap, ran.console, ran.word(DATA)) == (None, b"", 0)


@pytest.mark.parametrize("delete", [True, False], ids=["deleted", "left armed"])
def test_watcher_adds_when_both_results_are_there(run: Run, delete: bool) -> None:
    """The papers' leaf of a tree: two results, each with a flag, and a watcher over both."""
    f = Flat()
    for child in (0, 1):
        one_range(f, RANGES, DATA + 16 * child, 16)
        create(f, "child", heap=RANGES)
        f.mov(imm(DATA + 16 * child), via(CHILD_STACK))
        f.mov(imm(20 + child), off(8, CHILD_STACK))
    one_range(f, RANGES, DATA, 32)
    one_range(f, RANGES + 0x40, DATA + 0x100, 8)
    create(f, "watcher", heap=RANGES + 0x40, watched=RANGES)
    f.exit()

    f.mark("child")
    f.mov(via(STACK_BASE), at(R1))
    f.mov(off(8, STACK_BASE), via(R1))
    f.mov(imm(1), off(8, R1))
    f.exit()

    f.mark("watcher")
    f.branch_zero(Z, at(DATA + 8), "wait")
    f.branch_zero(NZ, at(DATA + 24), "add")
    f.mark("wait")
    f.exit(ABORT)
    f.mark("add")
    f.arith(ADD, at(DATA), at(DATA + 16), at(DATA + 0x100))
    f.mov(imm(ord("+")), CONSOLE, "ub ub")
    f.exit(COMMIT_DELETE if delete else 0)
    ran = run(f.finish())
    assert (ran.trap, ran.console, ran.word(DATA + 0x100)) == (None, b"+", 41)
    assert ran.watchers_left == (0 if delete else 1)


# --- control -----------------------------------------------------------------------------------
def test_computed_jumps_and_links(run: Run) -> None:
    f = Flat()
    f.mov(imm("table"), at(R1))
    f.jump_to(off(8, R1))
    f.mark("table")
    f.quad("wrong")
    f.quad("right")
    f.mark("wrong")
    f.exit(ABORT)
    f.mark("right")
    f.link(imm("function"), at(R2))
    f.mov(imm("function"), at(R3))
    f.link(at(R3), at(R2))
    f.jump("end", relative=True)
    f.mark("function")
    f.arith(ADD, at(DATA), imm(3), at(DATA))
    f.jump_to(at(R2))
    f.mark("end")
    f.exit()
    ran = run(f.finish())
    assert (ran.trap, ran.word(DATA)) == (None, 6)


def test_relative_branches_backwards(run: Run) -> None:
    f = Flat()
    f.mark("loop")
    f.arith(ADD, at(DATA), imm(1), at(DATA))
    f.branch(L, at(DATA), imm(10), "loop", relative=True)
    f.exit()
    assert run(f.finish()).word(DATA) == 10


def test_any_byte_of_the_text_may_begin_an_instruction(run: Run) -> None:
    """The constant of a mov holds `mov $'!':ub, console:ub; exit:c`, and is jumped into."""
    hidden = bytes.fromhex("0b 66 04 21 08 02 00 00 01 00 00 00 06 00".replace(" ", ""))
    f = Flat()
    f.jump("inside")
    f.raw(b"\x0b\x00\x04")
    f.mark("inside")
    f.raw(hidden)
    assert run(f.finish()).console == b"!"


def test_running_off_the_end_traps(run: Run) -> None:
    f = Flat()
    f.raw(b"\x00")
    assert run(f.finish()).trap in {TrapKind.BAD_JUMP, TrapKind.BAD_OPCODE}


# --- data --------------------------------------------------------------------------------------
def bits(value: float) -> int:
    (word,) = struct.unpack("<q", struct.pack("<d", value))
    assert isinstance(word, int)
    return word


def test_doubles(run: Run) -> None:
    """2.0 / 3 with 3 from an integer; NaN is neither equal nor less; truncation saturates."""
    f = Flat()
    f.mov(imm(3), at(R1), "sq fd")
    f.arith(DIV, imm(bits(2.0)), at(R1), at(DATA), FD)
    f.arith(DIV, imm(bits(0.0)), imm(bits(0.0)), at(R2), FD)
    f.branch(E, at(R2), at(R2), "bad", FD)
    f.branch(LE, at(R2), at(R1), "bad", FD)
    f.branch(NE, at(R2), at(R2), "good", FD)
    f.mark("bad")
    f.exit(ABORT)
    f.mark("good")
    f.mov(imm(bits(-2.9)), at(DATA + 8), "fd sq")
    f.mov(imm(bits(1e300)), at(DATA + 16), "fd sq")
    f.mov(at(R2), at(DATA + 24), "fd sq")
    f.mov(imm(bits(0.1)), at(DATA + 32), "fd fs")
    f.exit()
    ran = run(f.finish())
    assert ran.double(DATA) == 2.0 / 3
    assert [ran.word(DATA + offset) for offset in (8, 16, 24)] == [-2, 2**63 - 1, 0]
    assert ran.word(DATA + 32) == int.from_bytes(struct.pack("<f", 0.1), "little")


def test_narrow_types(run: Run) -> None:
    """Immediates are as wide as their type: one byte here; loads extend by the source's type."""
    f = Flat()
    f.arith(ADD, imm(0x7F), imm(1), at(DATA), SB)
    f.arith(DIV, imm(200), imm(3), at(DATA + 8), UB)
    f.mov(at(DATA), at(DATA + 16), "sb sq")
    f.mov(at(DATA), at(DATA + 24), "ub uq")
    f.mov(imm(0xBEEF), at(DATA + 32), "uw sd")
    f.mov(imm(0xBEEF), at(DATA + 40), "sw sq")
    f.exit()
    ran = run(f.finish())
    words = [ran.word(DATA + offset) for offset in range(0, 48, 8)]
    assert words == [0x80, 66, -128, 128, 0xBEEF, 0xBEEF - 0x10000]


def test_byte_strings(run: Run) -> None:
    """A prefix is smaller; bytes are unsigned; both strings lie in the text."""
    f = Flat()
    f.jump("start")
    f.mark("abc")
    f.raw(b"abc")
    f.mark("abcd")
    f.raw(b"abcd")
    f.mark("high")
    f.raw(b"ab\xff")
    f.mark("quads")
    f.raw(b"\x01\x02\x03\x04\x05\x06\x07\x08" + b"\x01\x02\x03\x04\x05\x06\x07\x09")
    f.mark("start")
    f.mov(imm("abc"), at(R1))
    f.mov(imm("high"), at(R2))
    f.strcmp(imm("abc"), imm(3), imm("abcd"), imm(4), at(DATA))
    f.strcmp(at(R2), imm(3), at(R1), imm(3), at(DATA + 8))
    f.strcmp(imm("abcd"), imm(3), at(R1), imm(3), at(DATA + 16))
    f.mov(imm("quads"), at(R3))
    f.arith(ADD, at(R3), imm(8), at(R4))
    f.branch(SL, at(R3), at(R4), "less")
    f.exit(ABORT)
    f.mark("less")
    f.branch(SL, at(R4), at(R3), "wrong")
    f.exit()
    f.mark("wrong")
    f.exit(ABORT)
    ran = run(f.finish())
    assert [ran.word(DATA + offset) for offset in (0, 8, 16)] == [-1, 1, 0]


# --- system calls ------------------------------------------------------------------------------
def test_malloc_gettime_usleep(run: Run) -> None:
    f = Flat()
    f.mov(imm(1), at(CALL_NUMBER))
    f.mov(imm(5000), at(ARGUMENTS))
    f.call()
    f.mov(at(ARGUMENTS), at(DATA))
    f.mov(imm(77), off(4992, ARGUMENTS))
    f.mov(imm(6), at(CALL_NUMBER))
    f.mov(imm(16), at(ARGUMENTS))
    f.mov(imm(12345), at(ARGUMENTS + 8))
    f.call()
    f.mov(at(ARGUMENTS), at(DATA + 8))
    f.mov(imm(7), at(CALL_NUMBER))
    f.call()
    for word in range(3):
        f.mov(at(ARGUMENTS + 8 * word), at(DATA + 16 + 8 * word))
    f.mov(imm(2), at(CALL_NUMBER))
    f.mov(imm(10), at(ARGUMENTS))
    f.call()
    f.exit()
    ran = run(f.finish())
    first, second = ran.word(DATA), ran.word(DATA + 8)
    assert first % PAGE_BYTES == second % PAGE_BYTES == 0
    assert 0x2000_0000_0000 <= min(first, second)
    assert abs(first - second) >= PAGE_BYTES
    assert ran.word(first + 4992) == 77
    seconds, nanoseconds = divmod(CLOCK_NS, 10**9)
    assert [ran.word(DATA + offset) for offset in (16, 24, 32)] == [0, seconds, nanoseconds]


# --- status pages ------------------------------------------------------------------------------
def test_status_page_survives_an_abort(run: Run) -> None:
    """The child stores into its status page and into data, and aborts; a watcher reads the page.

    Only the status page's bytes are published, they wake the watcher, and stay.
    """
    f = Flat()
    one_range(f, RANGES, DATA, 8)
    create(f, "child", heap=RANGES)
    f.mov(at(CHILD_ID), at(DATA + 0x100))
    f.mov(imm(1), at(RANGES + 0x40))
    f.arith(ADD, at(CHILD_ID), imm(40), at(RANGES + 0x48))
    f.mov(imm(8), at(RANGES + 0x50))
    one_range(f, RANGES + 0x80, DATA + 0x200, 8)
    f.mov(at(CHILD_ID), at(R1))
    create(f, "watcher", heap=RANGES + 0x80, watched=RANGES + 0x40)
    f.mov(at(R1), via(CHILD_STACK))
    f.exit()

    f.mark("child")
    f.mov(imm(99), at(DATA))
    f.mov(imm(ord("x")), CONSOLE, "ub ub")
    f.mov(imm(55), off(40, OWN_ID))
    f.exit(ABORT)

    f.mark("watcher")
    f.mov(via(STACK_BASE), at(R1))
    f.mov(off(40, R1), at(DATA + 0x200))
    f.exit(COMMIT_DELETE)
    ran = run(f.finish())
    assert (ran.trap, ran.console) == (None, b"")
    assert (ran.word(DATA), ran.word(DATA + 0x200)) == (0, 55)
    assert ran.word(ran.word(DATA + 0x100) + 40) == 55


def test_start_is_the_first_byte(run: Run) -> None:
    f = Flat()
    assert f.here == START == 0x4_0000_0000
    f.exit()
    assert run(f.finish()).trap is None
