"""Operand types and addressing modes, with the codes that the encoding gives them.

One `Type` serves arithmetic (3-bit code) and `mov` (4-bit code); either code may be absent.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from dvm_mpi.values import dataclass


class Kind(IntEnum):
    """How the bits of a type are read."""

    SIGNED = 0
    UNSIGNED = 1
    FLOAT = 2


class Mode(IntEnum):
    """Addressing modes, by their code."""

    IMMEDIATE = 0
    DIRECT = 1
    INDIRECT = 2
    DISPLACED = 3


@dataclass(frozen=True, slots=True)
class Type:
    """One operand type: its text name, width and codes (`None`: not available there)."""

    name: str
    kind: Kind
    width_bytes: int
    arithmetic_code: int | None
    mov_code: int
    summary: str

    def __post_init__(self) -> None:
        assert self.width_bytes in {1, 2, 4, 8}, self.name
        assert self.arithmetic_code is None or 0 <= self.arithmetic_code < 8, self.name
        assert 0 <= self.mov_code < 16, self.name


# fmt: off
#    name  kind           width  arith  mov  summary
TYPES: Final = (
    Type("sq", Kind.SIGNED,   8,     0,   0, "signed 64-bit integer"),
    Type("uq", Kind.UNSIGNED, 8,     4,   4, "unsigned 64-bit integer"),
    Type("sd", Kind.SIGNED,   4,     3,   1, "signed 32-bit integer"),
    Type("ud", Kind.UNSIGNED, 4,     7,   5, "unsigned 32-bit integer"),
    Type("sw", Kind.SIGNED,   2,  None,   3, "signed 16-bit integer"),
    Type("uw", Kind.UNSIGNED, 2,  None,   7, "unsigned 16-bit integer"),
    Type("sb", Kind.SIGNED,   1,     5,   2, "signed 8-bit integer"),
    Type("ub", Kind.UNSIGNED, 1,     6,   6, "unsigned 8-bit integer"),
    Type("fd", Kind.FLOAT,    8,     1,   8, "IEEE 754 binary64"),
    Type("fs", Kind.FLOAT,    4,     2,   9, "IEEE 754 binary32"),
)
# fmt: on

BY_NAME: Final = {t.name: t for t in TYPES}
BY_ARITHMETIC_CODE: Final = {t.arithmetic_code: t for t in TYPES if t.arithmetic_code is not None}
BY_MOV_CODE: Final = {t.mov_code: t for t in TYPES}
assert len(BY_NAME) == len(TYPES)
assert len(BY_MOV_CODE) == len(TYPES)
assert len(BY_ARITHMETIC_CODE) == sum(t.arithmetic_code is not None for t in TYPES)

DEFAULT: Final = BY_NAME["sq"]
#: Type sets that instruction rows name.
FLOATS: Final = frozenset({"fd", "fs"})
INTS: Final = frozenset(t.name for t in TYPES if t.arithmetic_code is not None) - FLOATS
SIGNED_INTS: Final = frozenset(n for n in INTS if BY_NAME[n].kind is Kind.SIGNED)
NUMBERS: Final = INTS | FLOATS
MOVABLE: Final = frozenset(BY_NAME)
QUAD: Final = frozenset({"sq"})
NO_TYPES: Final[frozenset[str]] = frozenset()
