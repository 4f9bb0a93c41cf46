"""Case files: a program, the memory that it finds, and what must come of it, as text.

One file holds several cases. A case begins with `== name`; `--` lines head its parts:

    -- program          DISA text
    -- grants           `address length` lines; default: a megabyte of data
    -- memory           `address: hex bytes` lines: the snapshot; default zero
    -- stdin            a Python bytes literal's inside, e.g. abc\n
    -- set              `setting value` lines of EngineSettings
    -- expect           one line for each thing that must be seen, see `observations`

Addresses are numbers or labels of the program with `+offset`. What `expect` does not mention must
not be: bytes stored elsewhere, console output, children.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import End, TrapKind
from tests.engine.machine import Ended

CASES = Path(__file__).parent / "cases"


@dataclass
class Case:
    """One case; `parts` are lines by the part's name."""

    name: str
    file: str
    parts: dict[str, list[str]] = field(default_factory=dict)

    @property
    def image(self) -> Image:
        """The program."""
        return assemble_text("\n".join(self.parts["program"]), f"{self.file}:{self.name}", {})

    def lines(self, part: str) -> list[str]:
        """Return a part's lines without comments and blanks."""
        kept = (line.partition(";")[0].strip() for line in self.parts.get(part, []))
        return [line for line in kept if line]


def read_cases() -> list[Case]:
    """Return the cases of all files, by file and place."""
    cases = []
    for path in sorted(CASES.glob("*.case")):
        lines: list[str] = []
        for line in path.read_text().splitlines():
            if line.startswith("== "):
                cases.append(Case(line[3:].strip(), path.stem))
            elif line.startswith("-- "):
                lines = cases[-1].parts.setdefault(line[3:].strip(), [])
            elif cases:
                lines.append(line)
    return cases


def address_of(text: str, image: Image) -> int:
    """Return the value of `number`, `label` or `label+offset`."""
    label, _, offset = text.strip().partition("+")
    base = image.symbols[label] if label in image.symbols else int(label, 0)
    return base + (int(offset, 0) if offset else 0)


def memory_of(case: Case, image: Image) -> dict[int, int]:
    """Return the snapshot's bytes."""
    memory: dict[int, int] = {}
    for section in image.sections:
        memory |= enumerate(section.data, section.start)
    for line in case.lines("memory"):
        address, _, data = line.partition(":")
        memory |= enumerate(bytes.fromhex(data), address_of(address, image))
    return memory


def observations(ended: Ended, image: Image) -> list[str]:
    """Say what came of an attempt, in the words of `expect`, sorted.

    `end COMMIT`; `trap KIND line N [at ADDRESS]`; `stored ADDRESS: hex` for each run; `console
    TEXT`; `child automatic|BASE+BYTES heap N watched N`; `image OFFSET: hex` for what
    went to an automatic stack; `instructions N`.
    """
    row = ended.row
    seen = [f"instructions {row['instructions']}"]
    if row["end"] == End.TRAP:
        line = _line_of(row["trap_pc"], image)
        place = "" if row["trap_address"] == -1 else f" at {row['trap_address'] % (1 << 64):#x}"
        seen.append(f"trap {TrapKind(row['trap']).name} line {line}{place}")
    else:
        seen.append(f"end {End(row['end']).name}")
    for start, length in ended.runs:
        data = bytes(ended.stored[a] for a in range(start, start + length))
        seen.append(f"stored {start:#x}: {data.hex()}")
    if ended.console:
        seen.append(f"console {ended.console.decode()!r}")
    for child in ended.children:
        stack = "automatic" if child.row["stack_automatic"] else f"{child.row['stack_base']:#x}"
        seen.append(f"child {stack} heap {child.heap} watched {child.watched}")
        for address, value in sorted(child.image.items()):
            seen.append(f"image {address - child.row['stack_base']}: {value:02x}")
    return sorted(seen)


def expectations(case: Case, image: Image) -> list[str]:
    """Return the lines of `expect` with labels as addresses and without spaces in bytes."""
    wanted = []
    for line in case.lines("expect"):
        word, _, rest = line.partition(" ")
        if word == "stored":
            address, _, data = rest.partition(":")
            wanted.append(f"stored {address_of(address, image):#x}: {data.replace(' ', '')}")
        elif word == "trap" and " at " in rest:
            what, _, address = rest.partition(" at ")
            wanted.append(f"trap {what} at {address_of(address, image):#x}")
        elif word == "child" and not rest.startswith("automatic"):
            stack, _, more = rest.partition(" ")
            wanted.append(f"child {address_of(stack, image):#x} {more}")
        else:
            wanted.append(line)
    return sorted(wanted)


def _line_of(pc: int, image: Image) -> int | None:
    assert image.lines is not None, "case programs are assembled from text"
    found = (image.lines.addresses == pc).nonzero()[0]
    return int(image.lines.lines[found[0]]) if len(found) else None
