"""One decoded instruction as a value; `encoding` turns it into bytes and back."""

from __future__ import annotations

import functools

from dvm_mpi.disa.table import BY_CONDITION, BY_MNEMONIC, Condition, ExitMode, OperandSpec, Row
from dvm_mpi.disa.types import BY_NAME, Mode, Type
from dvm_mpi.values import dataclass


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand.

    `value` is unsigned: the constant's bits in the operand's width (IMMEDIATE), else the 8-byte
    address. `displacement` is signed 32-bit, and zero unless the mode is DISPLACED.
    """

    mode: Mode
    value: int
    displacement: int = 0


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction at one address.

    `types` holds one name for typed forms and branches, two for `mov`, none elsewhere.
    `target` is a branch's destination as an absolute address; `relative` says how it is encoded.
    `operands` leaves out targets and byte constants; `number` is the byte of `int`.
    """

    address: int
    size_bytes: int
    mnemonic: str
    types: tuple[str, ...] = ()
    operands: tuple[Operand, ...] = ()
    condition: str | None = None
    target: int | None = None
    relative: bool = False
    number: int | None = None
    exit_mode: ExitMode | None = None

    @property
    def row(self) -> Row:
        """The table's row."""
        return BY_MNEMONIC[self.mnemonic]

    @property
    def branch(self) -> Condition | None:
        """The condition's row, for `br`."""
        return None if self.condition is None else BY_CONDITION[self.condition]

    @property
    def specs(self) -> tuple[OperandSpec, ...]:
        """Specs of `operands`, same order and length (targets and bytes left out)."""
        return _specs_of(self.mnemonic, self.condition)

    def type_of(self, index: int) -> Type:
        """Return the type of operand `index`; `sq` where the instruction carries none."""
        if not self.types:
            return BY_NAME["sq"]
        return BY_NAME[self.types[min(index, len(self.types) - 1)]]

    def width_of(self, index: int) -> int:
        """Return the bytes that operand `index` reads or writes."""
        fixed = self.specs[index].width_bytes
        return fixed if fixed is not None else self.type_of(index).width_bytes


@functools.cache
def _specs_of(mnemonic: str, condition: str | None) -> tuple[OperandSpec, ...]:
    """Return the specs of one line of the table, which every decoding asks for some times."""
    by_condition = None if condition is None else BY_CONDITION[condition]
    listed = (by_condition or BY_MNEMONIC[mnemonic]).operands
    return tuple(s for s in listed if s.access.value in {"read", "write"})
