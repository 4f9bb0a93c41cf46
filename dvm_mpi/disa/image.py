"""A program ready to run: bytes, entry, symbols, arrays and the lines that they came from."""

from __future__ import annotations

from math import prod

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.disa.types import BY_NAME
from dvm_mpi.values import dataclass, field


@dataclass(frozen=True, slots=True)
class Section:
    """Initialised bytes at an address outside the text."""

    start: int
    data: bytes


@dataclass(frozen=True, slots=True)
class ArrayDeclaration:
    """One `.array`: a page-aligned, named, typed block, C order; `type_name` as in disa.types."""

    name: str
    address: int
    type_name: str
    shape: tuple[int, ...]

    @property
    def byte_count(self) -> int:
        """Bytes of all elements."""
        return prod(self.shape) * BY_NAME[self.type_name].width_bytes


@dataclass(frozen=True, slots=True)
class LineTable:
    """Source places of instructions, sorted by address; one row for each instruction."""

    files: tuple[str, ...]
    addresses: NDArray[np.int64]
    file_indices: NDArray[np.int32]
    lines: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Image:
    """One program.

    `text` lies at TEXT_START. `reserved` are the byte ranges (RANGE, sorted, disjoint) that the
    first runner may touch: data, bss, arrays and `.org` blocks. A flat image has no line table;
    any byte of its text may begin an instruction. In others only the addresses of `lines` may.
    """

    entry: int
    text: bytes
    sections: tuple[Section, ...]
    reserved: NDArray[np.void]
    symbols: dict[str, int] = field(default_factory=dict)
    arrays: dict[str, ArrayDeclaration] = field(default_factory=dict)
    lines: LineTable | None = None
    source_name: str = ""

    @property
    def is_flat(self) -> bool:
        """Whether the bytes came without symbols and lines (`.bin`)."""
        return self.lines is None
