"""The machine's address map and the few types that every layer shares.

Addresses are bytes in one flat 64-bit space. All ranges are half-open: `end` is exclusive.
This module knows no instruction, no epoch and no rank; it imports nothing of the package.

Source: docs/memory-model.md, "Address map".
"""

from __future__ import annotations

from typing import Final

import numpy as np

PAGE_SHIFT: Final = 12
PAGE_BYTES: Final = 1 << PAGE_SHIFT
WORD_BYTES: Final = 8

# --- the private region ----------------------------------------------------------------------
PR_START: Final = 0x1_0000_0000
PR_END: Final = 0x4_0000_0000

CELL_STACK_BASE: Final = 0x1_0000_0100
CELL_STACK_SIZE: Final = 0x1_0000_0108
CELL_ID: Final = 0x1_0000_0120
CELL_STDIN: Final = 0x1_0000_0200
CELL_CONSOLE: Final = 0x1_0000_0208
CELL_CHILD_STACK_BASE: Final = 0x1_0000_0400
CELL_CHILD_STACK_SIZE: Final = 0x1_0000_0408
CELL_CHILD_ID: Final = 0x1_0000_0410
CELL_SYSCALL_NUMBER: Final = 0x1_0000_0420
CELL_SYSCALL_ARGS: Final = 0x1_0000_1000
CELL_SYSCALL_ARGS_END: Final = 0x1_0000_2000
CELL_REGISTERS: Final = 0x2_0000_0000
#: Register cells by the names that programs use, in address order, eight bytes each.
REGISTER_NAMES: Final = ("fp", "sp", "r1", "r2", "r3", "r4", "r5", "r6")

# --- the shared region -----------------------------------------------------------------------
SR_START: Final = 0x4_0000_0000
SR_END: Final = 0x4000_0000_0000
TEXT_START: Final = 0x4_0000_0000
TEXT_END: Final = 0x4_4000_0000
DATA_START: Final = 0x4_4000_0000
STACKS_START: Final = 0x300_0000_0000
STACKS_END: Final = 0x3D0_0000_0000
#: Status pages: a runner's id is the address of its own. First area, then the second.
STATUS_AREAS: Final = ((0x3D0_0000_0000, 0x400_0000_0000), (0x3000_0000_0000, 0x4000_0000_0000))
MALLOC_START: Final = 0x2000_0000_0000
MALLOC_END: Final = 0x3000_0000_0000
#: What a program may place with `.org`: SR without text and without the reserved areas.
PROGRAM_AREAS: Final = ((DATA_START, STACKS_START), (0x400_0000_0000, MALLOC_START))

#: A guard page lies below every automatic stack, so slots are one page longer than stacks.
GUARD_BYTES: Final = PAGE_BYTES


def whole_pages(length: int) -> int:
    """Return the bytes of the pages that `length` bytes from a page's start need."""
    return -(-length // PAGE_BYTES) * PAGE_BYTES


def stack_slot_bytes(stack_bytes: int) -> int:
    """Return the bytes from one automatic stack to the next: a guard page, then the stack."""
    return GUARD_BYTES + whole_pages(stack_bytes)


assert PR_END == SR_START
assert STACKS_END == STATUS_AREAS[0][0]
assert MALLOC_END == STATUS_AREAS[1][0]

#: Half-open byte range; `length` may be zero only where a docstring says so.
RANGE: Final = np.dtype([("start", "<i8"), ("length", "<i8")])
