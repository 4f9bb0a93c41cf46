"""Steps of an attempt as text: source line, operands with their values, and what came of it.

    squares.dasm:13  mul i, i, (cell)            i = 3, i = 3 -> squares[3] = 9

A line that became several instructions stands alone, and they follow below it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np

from dvm_mpi.config import TRACE_STEPS_SHOWN
from dvm_mpi.control.diagnosis import TRAPS, Narrator, hexadecimal
from dvm_mpi.disa.disassembler import REGISTER_NAMES, Names, format_instruction
from dvm_mpi.disa.image import ArrayDeclaration, Image
from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.symbols import MACHINE_CELLS
from dvm_mpi.disa.types import BY_NAME, DEFAULT, Kind, Type
from dvm_mpi.engine.interface import End
from dvm_mpi.engine.reference_trace import Access, Step
from dvm_mpi.engine.trap_text import value_text
from dvm_mpi.layout import PAGE_BYTES, PR_START, SR_START, TEXT_START, WORD_BYTES
from dvm_mpi.values import dataclass, field

#: What stands before a comment: anything but a semicolon outside of quotes.
_CODE: Final = re.compile(r"""(?:[^;"']|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|["'])*""")
#: System calls by number, as the manual calls them.
_CALLS: Final = {1: "malloc", 2: "usleep", 6: "malloc", 7: "gettime"}
_EXITS: Final = {End.COMMIT: "exit:c", End.ABORT: "exit:a", End.COMMIT_DELETE: "exit:cd",
                 End.ABORT_DELETE: "exit:ad"}  # fmt: skip
_PLACE_COLUMNS: Final = 20
_TEXT_COLUMNS: Final = 34


@dataclass(frozen=True, slots=True)
class Shown:
    """Which steps of a trace are shown.

    `lines`: half-open range of numbers of source lines, or None for all. `steps`: so many of the
    first of these, or, if it is negative, of the last.
    """

    lines: tuple[int, int] | None = None
    steps: int = -TRACE_STEPS_SHOWN


class Namer:
    """Names of addresses of one program."""

    def __init__(self, image: Image) -> None:
        named = {address: name for name, address in MACHINE_CELLS.items()}
        named |= REGISTER_NAMES.cells
        named |= {address: name for name, address in image.symbols.items()}
        self._exact = named
        self._arrays = sorted(image.arrays.values(), key=lambda array: array.address)
        self._sorted = sorted(a for a in named if a >= SR_START)

    def name(self, address: int) -> str:
        """Return an array's element, a label with an offset within a page, or the address."""
        return self.known(address) or hexadecimal(address)

    def known(self, address: int) -> str:
        """Return the name of an address, empty if it has none. Private cells have no offsets."""
        for array in self._arrays:
            if array.address <= address < array.address + array.byte_count:
                return _element(array, address - array.address)
        if address in self._exact:
            return self._exact[address]
        at = int(np.searchsorted(self._sorted, address)) - 1
        if at >= 0 and address - self._sorted[at] < PAGE_BYTES:
            return f"{self._exact[self._sorted[at]]}+{address - self._sorted[at]}"
        return ""


def _element(array: ArrayDeclaration, offset: int) -> str:
    position, rest = divmod(offset, BY_NAME[array.type_name].width_bytes)
    index = ", ".join(map(str, np.unravel_index(position, array.shape)))
    return f"{array.name}[{index}]" + (f"+{rest}" if rest else "")


class TraceText:
    """Turns steps into lines.

    Parameters
    ----------
    image
        The program.
    sources
        Texts of its files by name, as far as they are at hand.
    """

    def __init__(self, image: Image, sources: Mapping[str, str]) -> None:
        self.narrator = Narrator(image)
        self.namer = Namer(image)
        self._texts = {name: text.splitlines() for name, text in sources.items()}
        self._code = Names(
            REGISTER_NAMES.cells
            | {a: n for n, a in (MACHINE_CELLS | image.symbols).items() if a >= PR_START},
            {a: n for n, a in image.symbols.items() if a >= TEXT_START},
        )
        self._places: dict[int, tuple[str, int]] = {}
        if image.lines is not None:
            files = image.lines.files
            self._places = {
                pc: (files[index], line)
                for pc, index, line in zip(
                    image.lines.addresses.tolist(),
                    image.lines.file_indices.tolist(),
                    image.lines.lines.tolist(),
                    strict=True,
                )
            }
        counts: dict[tuple[str, int], int] = {}
        for place in self._places.values():
            counts[place] = counts.get(place, 0) + 1
        #: Source lines that became more than one instruction.
        self._expanded = {place for place, count in counts.items() if count > 1}

    def line_of(self, pc: int) -> int:
        """Return the number of the source line of an instruction, 0 if it is not known."""
        return self._places.get(pc, ("", 0))[1]

    def steps(self, steps: list[Step]) -> Iterator[str]:
        """Yield the lines of steps that follow each other."""
        last = None
        for step in steps:
            place = self._places.get(step.pc)
            code = self._instruction(step)
            source = self._source(place)
            if place is not None and place in self._expanded and source:
                if place != last:
                    yield f"{self.narrator.place(step.pc):<{_PLACE_COLUMNS}} {source}"
                head, text = "", f"  {code}"
            else:
                head, text = self.narrator.place(step.pc), source or code
            last = place
            values = self._values(step)
            yield f"{head:<{_PLACE_COLUMNS}} {text:<{_TEXT_COLUMNS}} {values}".rstrip()

    def _source(self, place: tuple[str, int] | None) -> str:
        """Return a line of source without its comment, blanks joined; empty if it is not known."""
        if place is None or place[0] not in self._texts:
            return ""
        lines = self._texts[place[0]]
        text = lines[place[1] - 1] if place[1] <= len(lines) else ""
        match = _CODE.match(text)
        assert match is not None, "it may match nothing"
        return " ".join(match[0].split())

    def _instruction(self, step: Step) -> str:
        if step.instruction is None:
            return "(no instruction)"
        return format_instruction(step.instruction, self._code)

    # --- values ---------------------------------------------------------------------------------
    def _values(self, step: Step) -> str:
        instruction = step.instruction
        reads = "" if instruction is None else ", ".join(
            self._access(instruction, access) for access in step.reads
        )  # fmt: skip
        outcome = self._outcome(step)
        return f"{reads} -> {outcome}" if reads and outcome else reads or outcome

    def _access(self, instruction: Instruction, access: Access) -> str:
        is_typed = instruction.specs[access.index].width_bytes is None
        kind: Type = instruction.type_of(access.index) if is_typed else DEFAULT
        width = instruction.width_of(access.index)
        is_address = kind.kind is not Kind.FLOAT and width == WORD_BYTES
        name = self.namer.known(access.bits) if is_address else ""
        value = f"&{name}" if name else value_text(access.bits, kind, width)
        return value if access.address < 0 else f"{self.namer.name(access.address)} = {value}"

    def _outcome(self, step: Step) -> str:
        told = []
        instruction = step.instruction
        if step.trap is not None:
            where = "" if step.fault == -1 else f" at {self.namer.name(step.fault)}"
            told.append(f"trap{where}: {TRAPS[step.trap][0]}")
        elif step.end is not None:
            told.append(f"ends by {_EXITS[step.end]}")
        elif step.child is not None:
            child = step.child
            what = "watcher" if child.is_template else "runner"
            told.append(f"{what} {child.id:#x} at {self.namer.name(child.entry)}")
        elif step.call is not None:
            number, argument, result = step.call
            told.append(f"{_CALLS.get(number, number)}({argument}) = {hexadecimal(result)}")
        elif step.printed:
            told.append(f"prints {step.printed.decode('latin-1')!r}")
        elif step.write is not None and instruction is not None:
            told.append(self._access(instruction, step.write))
        if instruction is not None and instruction.branch is not None and step.trap is None:
            is_taken = step.next_pc != instruction.address + instruction.size_bytes
            told.append(f"to {self.namer.name(step.next_pc)}" if is_taken else "goes on")
        return ", ".join(told)


@dataclass(slots=True)
class StepKeeper:
    """Keeps the steps that are to be shown, and counts the others."""

    shown: Shown
    text: TraceText
    count: int = 0
    _first: list[Step] = field(default_factory=list)
    _last: deque[Step] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._last = deque(maxlen=max(-self.shown.steps, 0))

    def take(self, step: Step) -> None:
        """Look at the next step."""
        lines = self.shown.lines
        if lines is not None and not lines[0] <= self.text.line_of(step.pc) < lines[1]:
            return
        self.count += 1
        if self.shown.steps < 0:
            self._last.append(step)
        elif len(self._first) < self.shown.steps:
            self._first.append(step)

    def lines(self) -> Iterator[str]:
        """Yield the text of what was kept, and what was left out."""
        kept = [*self._first, *self._last]
        left = self.count - len(kept)
        of_lines = "" if self.shown.lines is None else " of these lines"
        note = f"    ({left:,} steps{of_lines} are not shown; --steps shows others)"
        if left and self.shown.steps < 0:
            yield note
        yield from self.text.steps(kept)
        if left and self.shown.steps >= 0:
            yield note
