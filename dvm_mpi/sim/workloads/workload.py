"""What a workload is: a program, its parameters, and what must be true when it has ended.

A truth is a statement about the memory, the console and the failure that a run leaves, whatever
the order in which its runners committed. It looks at nothing else, so it judges a run in one
process, one on ranks and a simulated one alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

from dvm_mpi.config import HOME_BLOCK_PAGES
from dvm_mpi.control.coordinator_state import Counters, Failure
from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.disa.image import Image
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT
from dvm_mpi.values import dataclass

PROGRAMS: Final = Path(__file__).parent / "programs"
WORD_BYTES: Final = 8
#: Cells that shall lie on different homes are this far apart in the programs (`STRIDE`).
STRIDE_WORDS: Final = HOME_BLOCK_PAGES * PAGE_BYTES // WORD_BYTES
_ZERO_PAGE: Final = bytes(PAGE_BYTES)
#: Elements of a list of words that a line about it shows.
_SHOWN_MAX: Final = 12


@dataclass(frozen=True, slots=True)
class RunEnd:
    """What a run has left behind."""

    image: Image
    #: Every parameter of the program with the value that it had.
    defines: Mapping[str, int]
    #: Contents of the shared pages that were ever stored to; others are zero.
    pages: Mapping[int, bytes]
    console: bytes
    #: The trap that ended the program, if one did.
    failure: Failure | None
    counters: Counters

    @property
    def retries(self) -> int:
        """Attempts that lost and were run again."""
        return self.counters.retries

    def word_at(self, address: int) -> int:
        """Return the eight bytes at an address as a signed integer."""
        return self._words_at(address, 1)[0]

    def word(self, label: str, index: int = 0) -> int:
        """Return the word number `index` from a label on."""
        return self.word_at(self.image.symbols[label] + WORD_BYTES * index)

    def words(self, label: str, count: int, *, first: int = 0) -> list[int]:
        """Return `count` consecutive words from the word number `first` of a label on."""
        return self._words_at(self.image.symbols[label] + WORD_BYTES * first, count)

    def _words_at(self, address: int, count: int) -> list[int]:
        end = address + WORD_BYTES * count
        pages = range(address >> PAGE_SHIFT, ((end - 1) >> PAGE_SHIFT) + 1)
        content = b"".join(self.pages.get(page, _ZERO_PAGE) for page in pages)
        content = content[address % PAGE_BYTES :]
        return [
            int.from_bytes(content[at : at + WORD_BYTES], "little", signed=True)
            for at in range(0, WORD_BYTES * count, WORD_BYTES)
        ]


@dataclass(frozen=True, slots=True)
class Workload:
    """A program that races with itself, and its truth."""

    name: str
    #: One line about what the runners do, for lists.
    summary: str
    #: The program's text.
    program: Path
    #: Its parameters (`-D`), small enough for a second or two under the reference engine.
    defaults: Mapping[str, int]
    #: Returns one line for each thing that is wrong. A line about one of `anomalies` begins with
    #: that anomaly's name and a colon.
    truth: Callable[[RunEnd], list[str]]
    #: Anomalies that the truth looks for although snapshot isolation allows them; under
    #: `serializable` they are as wrong as all else.
    anomalies: frozenset[str] = frozenset()

    def parameters(self, defines: Mapping[str, int] | None = None) -> dict[str, int]:
        """Return all parameters, those of `defines` in place of the defaults.

        Raises
        ------
        ValueError
            `defines` names a parameter that the program has not.
        """
        given = dict(defines or {})
        unknown = sorted(given.keys() - self.defaults.keys())
        if unknown:
            raise ValueError(
                f"workload {self.name} has no parameter {', '.join(unknown)}; "
                f"it has {', '.join(self.defaults) or 'none'}"
            )
        return {**self.defaults, **given}

    def image(self, defines: Mapping[str, int] | None = None) -> Image:
        """Return the program, assembled with these parameters; the same object for the same."""
        return _assembled(self.program, tuple(self.parameters(defines).items()))

    def wrong(
        self, end: RunEnd, *, isolation: str = "snapshot", conflict_unit: str = "byte"
    ) -> list[str]:
        """Return what is wrong with a run of a machine in these modes, one line each.

        That nobody runs again is promised where stored bytes alone make runners lose.
        """
        allowed = self.anomalies if isolation == "snapshot" else frozenset()
        if (isolation, conflict_unit) != ("snapshot", "byte"):
            allowed |= {"retries"}
        return [line for line in self.truth(end) if line.partition(":")[0] not in allowed]

    def anomalies_in(self, end: RunEnd) -> list[str]:
        """Return the lines about anomalies that snapshot isolation allows."""
        return [line for line in self.truth(end) if line.partition(":")[0] in self.anomalies]


@cache
def _assembled(program: Path, defines: tuple[tuple[str, int], ...]) -> Image:
    return assemble_file(program, {name: str(value) for name, value in defines})


# --- words of truths ----------------------------------------------------------------------------
def differs(what: str, actual: object, expected: object) -> list[str]:
    """Return a line unless two values are equal; long lists are told by their first difference."""
    if actual == expected:
        return []
    if (
        isinstance(actual, Sequence)
        and isinstance(expected, Sequence)
        and len(actual) == len(expected) > _SHOWN_MAX
    ):
        at = next(
            i for i, pair in enumerate(zip(actual, expected, strict=True)) if pair[0] != pair[1]
        )
        return [f"{what}: element {at} is {actual[at]!r}, not {expected[at]!r}"]
    return [f"{what}: {actual!r}, not {expected!r}"]


def unless(holds: bool, line: str) -> list[str]:
    """Return the line unless something holds."""
    return [] if holds else [line]
