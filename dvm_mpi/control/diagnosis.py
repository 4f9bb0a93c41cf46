"""Texts about a program's end: traps, watchers left, accesses that were only tolerated.

Everything is told in the program's own terms: source lines, labels, instruction texts. Addresses
stand beside them, for images without symbols.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np

from dvm_mpi.config import CONTENTION_SITES_SHOWN, GIB
from dvm_mpi.control.contention import ContendedSite
from dvm_mpi.control.coordinator_state import ArmedWatcher, Failure
from dvm_mpi.control.lifecycle import RunnersLimitError
from dvm_mpi.disa.disassembler import format_instruction
from dvm_mpi.disa.encoding import DecodeError, decode
from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import TrapKind
from dvm_mpi.io.report import ContendedLine, counted
from dvm_mpi.layout import TEXT_START

#: What a trap means, and what to do about it.
TRAPS: Final[dict[TrapKind, tuple[str, str]]] = {
    TrapKind.DIVISION_BY_ZERO: (
        "division by zero",
        "test the divisor with br:z before dividing; floats divide by zero without a trap",
    ),
    TrapKind.UNMAPPED: (
        "access outside private and shared memory",
        "a '$' is missing before a constant, or a pointer cell is zero or overwritten",
    ),
    TrapKind.UNDECLARED: (
        "access to shared memory that the runner did not declare",
        "add the range to the runner's heap or watched ranges, or run with --undeclared allow",
    ),
    TrapKind.UNDECLARED_STORE: (
        "store to a byte that the runner did not declare, found at its commit",
        "extend a declared range to hold the byte, or run with --undeclared allow",
    ),
    TrapKind.TEXT_STORE: (
        "store to the text, which is never writable",
        "put what changes into .data or .bss",
    ),
    TrapKind.BAD_OPCODE: (
        "these bytes are no instruction",
        "control ran into data, or the image is damaged; end every path with exit or br",
    ),
    TrapKind.BAD_JUMP: (
        "control reached an address where no instruction begins",
        "end every path with exit or br; check what is stored into the link or target cell",
    ),
    TrapKind.STACK_OVERFLOW: (
        "access to the guard page below an automatic stack",
        "use a larger --stack, or recurse less deeply",
    ),
    TrapKind.FUEL_EXHAUSTED: (
        "the runner's fuel is used up",
        "raise --fuel, or look for a loop that does not end",
    ),
    TrapKind.BAD_DESCRIPTOR: (
        "newr was given a bad descriptor",
        "ranges have sizes >= 0, lie in shared memory, and do not touch the automatic stacks",
    ),
    TrapKind.BAD_SYSTEM_CALL: (
        "no such system call, or a bad argument to one",
        "int 0x80 with 1 malloc, 2 usleep, 6 malloc with option or 7 gettime in 0x100000420",
    ),
    TrapKind.MEMORY_EXHAUSTED: (
        "the runner touches more shared memory than one runner may",
        "raise --runner-memory, or divide the work among more runners",
    ),
    TrapKind.NO_TIME: (
        "gettime has no time to give under --deterministic",
        "a run that looks at a clock is not the same every time; run without --deterministic",
    ),
}
assert TRAPS.keys() == set(TrapKind)


def hexadecimal(address: int) -> str:
    """Return an address as text; in a row's signed field high ones are negative."""
    return f"{address & (1 << 64) - 1:#x}"


#: A label farther below an address than this says nothing about it.
_LABEL_REACH_BYTES: Final = GIB


class Narrator:
    """Tells addresses of one program as lines, labels and instruction texts."""

    def __init__(self, image: Image) -> None:
        self._image = image
        #: Text labels sorted by address, for the nearest one at or below a pc.
        named = sorted((address, name) for name, address in image.symbols.items())
        self._label_addresses = np.array([address for address, _ in named], dtype=np.int64)
        self._label_names = [name for _, name in named]

    def place(self, pc: int) -> str:
        """Return `file:line` of an instruction, or its address where no line is known."""
        lines = self._image.lines
        if lines is not None:
            at = int(np.searchsorted(lines.addresses, pc))
            if at < len(lines.addresses) and int(lines.addresses[at]) == pc:
                return f"{lines.files[int(lines.file_indices[at])]}:{int(lines.lines[at])}"
        return f"{self._image.source_name or 'program'}: {hexadecimal(pc)}"

    @contextmanager
    def places(self) -> Iterator[None]:
        """Name the line in what is raised about a program that creates too many runners."""
        try:
            yield
        except RunnersLimitError as error:
            if error.pc < 0:
                raise
            raise error.at(self.place(error.pc)) from None

    def label(self, address: int) -> str:
        """Return `label`, `label+offset` or the plain address."""
        name = self.name(address)
        return f"{name} ({address:#x})" if name else hexadecimal(address)

    def name(self, address: int) -> str:
        """Return `label` or `label+offset`; empty if no label is near."""
        at = int(np.searchsorted(self._label_addresses, address, side="right")) - 1
        offset = address - int(self._label_addresses[at]) if at >= 0 else _LABEL_REACH_BYTES
        if offset >= _LABEL_REACH_BYTES:
            return ""
        name = self._label_names[at]
        return f"{name}+{offset:#x}" if offset else name

    def names_between(self, start: int, end: int, most: int = 3) -> str:
        """Return the labels of [start, end): the nearest one at its start, and those inside."""
        first = int(np.searchsorted(self._label_addresses, start, side="right"))
        behind = int(np.searchsorted(self._label_addresses, end, side="left"))
        inside = self._label_names[first:behind]
        names = [name for name in (self.name(start), *inside) if name]
        more = [f"and {len(names) - most} more"] if len(names) > most else []
        return ", ".join(names[:most] + more)

    def instruction(self, pc: int) -> str:
        """Return the text of the instruction at `pc`."""
        offset = pc - TEXT_START
        if not 0 <= offset < len(self._image.text):
            return "(outside the program's text)"
        try:
            return format_instruction(decode(self._image.text, offset, pc))
        except DecodeError as error:
            return f"({error})"

    def trap(self, failure: Failure) -> str:
        """Return the message of a trap; several lines, no final newline."""
        what, remedy = TRAPS[TrapKind(failure.trap)]
        created = f", created at {self.place(failure.newr_pc)}" if failure.newr_pc else ""
        executed = counted(failure.instructions, "instruction")
        lines = [
            f"{self.place(failure.pc)}: trap: {what}",
            f"    {self.instruction(failure.pc)}",
            *(f"      {operand}" for operand in failure.operands),
            f"  runner {failure.runner_id:#x}, which began at {self.label(failure.runner_entry)}"
            f"{created}; {executed} into attempt {failure.attempt}",
        ]
        if failure.address != -1:
            lines.append(f"  address {self.label(failure.address)}")
        if failure.nearest is not None:
            start, length = failure.nearest
            lines.append(
                f"  nearest range that it may touch: {self.label(start)}, {length:,} bytes, "
                f"to below {start + length:#x}"
            )
        lines.append("  nothing of this runner was committed")
        lines.append(f"  remedy: {remedy}")
        return "\n".join(lines)

    def watchers(self, left: tuple[ArmedWatcher, ...], shown_max: int) -> str:
        """Return the list of watchers that were still armed at the end."""
        verb = "was" if len(left) == 1 else "were"
        lines = [f"{counted(len(left), 'watcher')} {verb} still armed at the end:"]
        for watcher in left[:shown_max]:
            ranges = ", ".join(
                f"{self.label(int(r['start']))} for {int(r['length']):,} bytes"
                for r in watcher.watched
            )
            lines.append(
                f"  {self.place(watcher.newr_pc)}: watcher {watcher.id:#x}, which starts at "
                f"{self.label(watcher.entry)}, watches {ranges or 'nothing'}"
            )
        if len(left) > shown_max:
            lines.append(f"  and {len(left) - shown_max:,} more")
        return "\n".join(lines)

    def contended(self, sites: tuple[ContendedSite, ...]) -> tuple[ContendedLine, ...]:
        """Return where attempts lost, in the program's terms, for the report."""
        return tuple(
            ContendedLine(
                line=self.place(site.pc),
                label=self.name(site.pc),
                entry=self.name(site.entry) or hexadecimal(site.entry),
                losses=site.losses,
                most=site.most,
                address=site.address,
                name=self.name(site.address),
            )
            for site in sites
        )

    def contention(self, sites: tuple[ContendedSite, ...]) -> str:
        """Return where most attempts lost, one line each, and what to do about it."""
        lines = []
        for told in self.contended(sites[:CONTENTION_SITES_SHOWN]):
            times = "once" if told.most == 1 else f"{told.most:,} times"
            lines.append(
                f"{told.line} (in {told.entry}): {counted(told.losses, 'attempt')} lost and ran "
                f"again, one runner {times}; others had stored to "
                f"{told.name or 'memory'} ({told.address:#x})"
            )
        if len(sites) > CONTENTION_SITES_SHOWN:
            lines.append(f"and at {counted(len(sites) - CONTENTION_SITES_SHOWN, 'more place')}")
        lines.append("remedy: let each runner store to bytes of its own, and join them afterwards")
        return "\n".join(lines)

    def undeclared(self, accesses: list[tuple[int, int]]) -> str:
        """Return one line for each instruction that touched what its runner had not declared."""
        return "\n".join(
            f"{self.place(pc)}: warning: undeclared access to {self.label(address)}; "
            "declare the range (--undeclared allow admitted it)"
            for pc, address in accesses
        )
