"""What the records of all instructions have in common that begin with the same bytes.

An instruction's first bytes say which operation it is, and how its operands are reached and how
wide they are (`disa.encoding.Header`); what follows are values. Programs have few different ones,
so what they say is found out once, and decoding is to put values into their places.
"""

from __future__ import annotations

import functools
from typing import Final

from dvm_mpi.disa.encoding import Header, read_header
from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.table import Access
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine import records as r
from dvm_mpi.engine.operations import CALLS, plan
from dvm_mpi.engine.records import Operation, Word
from dvm_mpi.layout import WORD_BYTES
from dvm_mpi.values import dataclass

#: Patterns that are kept; what is not kept is made again.
_KEPT_MAX: Final = 1 << 12
#: Where the operands of a plain record go: cell, offset, word, and how far to shift the shape.
_PLACES: Final = (
    (r.A, r.A_OFFSET, r.A_WORD, 0),
    (r.B, r.B_OFFSET, r.B_WORD, 1),
    (r.D, r.D_OFFSET, r.D_WORD, 2),
)
assert r.A_CHECKED << 2 == r.D_CHECKED
assert r.A_FAR << 2 == r.D_FAR
assert r.A_NARROW << 2 == r.D_NARROW


@dataclass(frozen=True, slots=True)
class OperandPattern:
    """One operand: where its value is among those of its instruction, and where it goes.

    `at` and `mask` are those of `disa.encoding.ValueLayout`. `cell`, `offset` and `word_at` are
    indexes of a plain record's words, `width_word` is what the last of them is set to, and `shift`
    how far the operand's bits are shifted in the record's SHAPE.
    """

    mode: Mode
    at: int
    mask: int
    word: Word
    width: int
    is_source: bool
    cell: int
    offset: int
    word_at: int
    width_word: int
    shift: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """What a record is made of beside the values; `header` says where these are.

    `constants` and `extra` are those of `operations.Plan`, for an instruction at the address 0.
    """

    header: Header
    operation: Operation
    #: Whether the operands lie in a table beside the record.
    is_call: bool
    constants: tuple[int, ...]
    extra: int
    operands: tuple[OperandPattern, ...]


@functools.lru_cache(_KEPT_MAX)
def pattern_of(head: bytes) -> Pattern:
    """Return the pattern of all instructions that begin with this header."""
    header = read_header(head)
    # One of them, such as it would stand at the address 0.
    instruction = Instruction(
        address=0,
        size_bytes=header.values.size,
        mnemonic=header.mnemonic,
        types=header.types,
        operands=tuple(Operand(layout.mode, 0) for layout in header.operands),
        condition=header.condition,
        number=header.number,
        exit_mode=header.exit_mode,
    )
    planned = plan(instruction)
    is_call = planned.operation in CALLS
    return Pattern(
        header=header,
        operation=planned.operation,
        is_call=is_call,
        constants=planned.constants,
        extra=planned.extra,
        operands=_operands(header, instruction, None if is_call else planned.words),
    )


def _operands(
    header: Header, instruction: Instruction, words: tuple[Word, ...] | None
) -> tuple[OperandPattern, ...]:
    """Return the operands' patterns; without `words` they are whole words, as a call's are."""
    found = []
    sources = 0
    for index, layout in enumerate(header.operands):
        word = Word.Q if words is None else words[index]
        is_source = instruction.specs[index].access is Access.READ
        # Calls have more sources than a record has places; theirs lie in a table.
        cell, offset, word_at, shift = _PLACES[min(sources, 1) if is_source else 2]
        sources += is_source
        width = WORD_BYTES if words is None else instruction.width_of(index)
        found.append(
            OperandPattern(
                mode=layout.mode,
                at=layout.at,
                mask=layout.mask,
                word=word,
                width=width,
                is_source=is_source,
                cell=cell // WORD_BYTES,
                offset=offset // WORD_BYTES,
                word_at=word_at // WORD_BYTES,
                width_word=word + width * r.WIDTH_UNIT,
                shift=shift,
            )
        )
    return tuple(found)
