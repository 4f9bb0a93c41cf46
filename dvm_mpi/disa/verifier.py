"""What can be told to be wrong with an image before it runs.

Always checked: every instruction decodes and ends before the next, branches and the entry lead to
the first byte of an instruction. On request also: cells that are named directly lie in memory, and
no store names the text. Those would trap when the program runs, and only if it comes by.

A flat image has no list of its instructions, and may hold data anywhere; only running it shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from dvm_mpi import layout
from dvm_mpi.config import ERRORS_SHOWN_MAX
from dvm_mpi.disa.encoding import DecodeError, decode
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.table import Access, Flag
from dvm_mpi.disa.types import Mode
from dvm_mpi.errors import SourceError
from dvm_mpi.values import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One error of an image; `place` is the source line, or the address where there is none."""

    address: int
    place: str
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: error: {self.what}; {self.remedy}"


class VerificationErrors(SourceError):
    """All findings of an image, by address."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        assert findings
        self.findings = findings
        rows = [str(f) for f in findings[:ERRORS_SHOWN_MAX]]
        left = len(findings) - len(rows)
        if left:
            rows.append(f"... and {left} more errors")
        super().__init__("\n".join(rows))


def verify(image: Image, *, operands: bool = False) -> None:
    """Raise `VerificationErrors` if anything is found; `operands`: look at direct cells, too."""
    findings = find_errors(image, operands=operands)
    if findings:
        raise VerificationErrors(findings)


def find_errors(image: Image, *, operands: bool) -> tuple[Finding, ...]:
    """Return all findings, by address."""
    return tuple(_Verifier(image).findings(operands=operands))


class _Verifier:
    """One image and the addresses at which its instructions begin."""

    def __init__(self, image: Image) -> None:
        self._image = image
        self._places: dict[int, str] = {}
        if image.lines is not None:
            table = image.lines
            self._places = {
                address: f"{table.files[index]}:{line}"
                for address, index, line in zip(
                    table.addresses.tolist(),
                    table.file_indices.tolist(),
                    table.lines.tolist(),
                    strict=True,
                )
            }
        self._starts = list(self._places)

    def findings(self, *, operands: bool) -> Iterator[Finding]:
        if self._image.is_flat:
            return
        yield from self._entry()
        text_end = layout.TEXT_START + len(self._image.text)
        for address, end in pairwise([*self._starts, text_end]):
            try:
                instruction = decode(self._image.text, address - layout.TEXT_START, address)
            except DecodeError as error:
                yield self._finding(address, error.why, "assemble the program again")
                continue
            if address + instruction.size_bytes > end:
                what = f"the instruction reaches over the next one at {end:#x}"
                yield self._finding(address, what, "assemble the program again")
            yield from self._jump(instruction)
            if operands:
                yield from self._operands(instruction)

    def _finding(self, address: int, what: str, remedy: str) -> Finding:
        place = self._places.get(address, f"{self._image.source_name} at {address:#x}")
        return Finding(address, place, what, remedy)

    def _entry(self) -> Iterator[Finding]:
        entry = self._image.entry
        if entry not in self._places:
            what = f"the entry {entry:#x} is {self._describe(entry)}"
            place = self._image.source_name
            remedy = "name an instruction's label with .entry"
            yield Finding(entry, place, what, remedy)

    def _jump(self, instruction: Instruction) -> Iterator[Finding]:
        target = instruction.target
        if target is None and Flag.JUMPS in instruction.row.flags:
            # The first operand of `bl` and `br:ji` is where they go; a cell's content is unknown.
            first = instruction.operands[0]
            target = first.value if first.mode is Mode.IMMEDIATE else None
        if target is not None and target not in self._places:
            what = f"the branch to {target:#x} leads {self._describe(target, into=True)}"
            yield self._finding(instruction.address, what, "branch to a label of an instruction")

    def _describe(self, address: int, *, into: bool = False) -> str:
        """Say what lies at an address that no instruction begins at."""
        if not layout.TEXT_START <= address < layout.TEXT_START + len(self._image.text):
            return "out of the text" if into else "outside the text"
        before = max((start for start in self._starts if start < address), default=None)
        if before is not None:
            offset = before - layout.TEXT_START
            try:
                size = decode(self._image.text, offset, before).size_bytes
            except DecodeError:
                size = 0
            if address < before + size:
                middle = f"the middle of the instruction at {self._places[before]}"
                return f"into {middle}" if into else f"in {middle}"
        return "to data in the text" if into else "data in the text"

    def _operands(self, instruction: Instruction) -> Iterator[Finding]:
        for index, operand in enumerate(instruction.operands):
            if operand.mode is Mode.IMMEDIATE:
                continue
            is_direct = operand.mode is Mode.DIRECT
            width = instruction.width_of(index) if is_direct else layout.WORD_BYTES
            start, end = operand.value, operand.value + width
            if start < layout.PR_START or end > layout.SR_END:
                what = f"the cell at {start:#x} lies outside the memory"
                remedy = (
                    f"use {layout.PR_START:#x} to below {layout.SR_END:#x}, or '$' for a constant"
                )
                yield self._finding(instruction.address, what, remedy)
                continue
            is_store = is_direct and instruction.specs[index].access is Access.WRITE
            if is_store and start < layout.TEXT_END and end > layout.TEXT_START:
                what = f"the store to {start:#x} goes to the text"
                remedy = "the text is never writable: use .data or .bss"
                yield self._finding(instruction.address, what, remedy)
