"""Traps for accesses beyond the machine's memory, set in the process that runs the programs.

Why a run under these guards shows that no program touches memory of its host:

- A program's address A is checked, and then is host address VIEW + A (dvm_mpi/engine/
  address_space.py), so an access that escapes the check goes to VIEW + A modulo 2**64. Scenes from
  `aimed` hold such A in their pointer cells for all that lies there: pages of this module's own,
  the machine's own tables, the gaps between them.
- The gaps before, between and behind the machine's four parts are reserved without any right, and
  so is the beginning of the view, where no program may be: an access there ends the process, which
  the parent reports with the seed. Nobody else's memory can come to lie there.
- The pages of this module's own, *canaries*, can be written. A store to them is found by looking
  at them after every program. A load from them, or any access to the machine's tables, is found by
  comparison: the reference engine holds memory in dictionaries and has no host addresses, so a
  program that reaches beyond gets something else there, or a trap.
"""

from __future__ import annotations

import ctypes
import mmap
import random
from dataclasses import replace
from itertools import pairwise
from typing import Final

import numpy as np

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine import address_space
from dvm_mpi.engine.address_space import EPOCHS, FLAGS, MASKS, VIEW, AddressSpace
from dvm_mpi.layout import PAGE_BYTES, PR_START, SR_END
from tests.engine.random_programs import POINTERS, Scene

CANARY_PAGES: Final = 16
PATTERN: Final = 0xC7
#: How far around the first and behind the last part nothing else may lie.
MARGIN_BYTES: Final = 1 << 32
MASK64: Final = (1 << 64) - 1
#: Of the pointers, those that lead where they did.
SPARED_SHARE: Final = 0.7

_PROT_NONE: Final = 0
_MAP_FLAGS: Final = 0x2 | 0x20 | 0x4000 | 0x100000  # private, anonymous, no reserve, no replacing


class Guards:
    """The guards of this process; `canary_address` is where the canaries lie."""

    def __init__(self) -> None:
        AddressSpace.shared()
        self._libc = address_space._open_libc()
        self._libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        parts = [(start, start + length) for start, length, _ in address_space._PARTS]
        margins = [(0, parts[0][0] - MARGIN_BYTES), *parts, (parts[-1][1] + MARGIN_BYTES, 0)]
        for (_, end), (start, _) in pairwise(margins):
            self._close(max(end, parts[0][0] - MARGIN_BYTES), start)
        # Programs may not be below the private region: of the view, that part is never touched.
        assert self._libc.mprotect(VIEW, PR_START, _PROT_NONE) == 0
        self._canaries = np.frombuffer(mmap.mmap(-1, CANARY_PAGES * PAGE_BYTES), np.uint8)
        self._canaries[:] = PATTERN
        self.canary_address = self._canaries.ctypes.data

    def _close(self, start: int, end: int) -> None:
        if start < end:
            got = self._libc.mmap(start, end - start, _PROT_NONE, _MAP_FLAGS, -1, 0)
            assert got == start, f"the gap at {start:#x} is taken"

    def check(self) -> None:
        """Assert that nobody has written to the canaries."""
        touched = np.flatnonzero(self._canaries != PATTERN)
        assert touched.size == 0, f"{touched.size} bytes outside the machine were written"

    def targets(self) -> tuple[int, ...]:
        """Return host addresses that no program may reach."""
        canaries = [self.canary_address + PAGE_BYTES * k for k in range(1, CANARY_PAGES - 1)]
        tables = [FLAGS, EPOCHS, MASKS, MASKS + PR_START // 8]
        return (*canaries, *tables, FLAGS - 8, VIEW - 8, VIEW, VIEW + SR_END)


def aimed(scene: Scene, seed: int, targets: tuple[int, ...]) -> Scene:
    """Return a scene such that some of the addresses in its pointer cells are of the host."""
    rng = random.Random(seed)

    def turned(instruction: Instruction) -> Instruction:
        is_address = instruction.mnemonic == "mov" and instruction.types == ("sq", "sq")
        if not is_address or rng.random() < SPARED_SHARE:
            return instruction
        source, target = instruction.operands
        if source.mode is not Mode.IMMEDIATE or target.value not in POINTERS:
            return instruction
        host = rng.choice(targets) + rng.randrange(-8, 64)
        return replace(
            instruction, operands=(Operand(Mode.IMMEDIATE, host - VIEW & MASK64), target)
        )

    return replace(scene, listing=[turned(instruction) for instruction in scene.listing])
