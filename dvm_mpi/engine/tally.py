"""How often each instruction was executed: the rows of such counts, and a cheap way to count.

The reference counts every step. The fast engine counts arrivals only: how often a branch was taken,
and how often control came to an instruction by its address. The rest is arithmetic, done when
somebody asks: what goes into an instruction comes out of it below, unless it jumps or an attempt
ends there.
The invariant to remember: counts are those of completed instructions and of those that trapped; an
instruction that waits, for a page or for addresses, has not been executed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.disa.image import Image
from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.layout import TEXT_START

Ints = NDArray[np.int64]

#: What control never leaves downwards, whatever it does.
_ELSEWHERE: Final = frozenset({"bl", "exit"})

#: Where an attempt has stopped: at an instruction that it has not executed; or, if that is true,
#: having executed a branch there, whose jump has not been counted yet.
Halt = tuple[int, bool]


def addresses(image: Image) -> Ints:
    """Return where the instruction of each row begins, in order; one more row is for elsewhere.

    Where no instruction begins attempts trap, and that is counted too. In a flat image every byte
    of the text has a row.
    """
    end = TEXT_START + len(image.text)
    if image.lines is None:
        return np.arange(TEXT_START, end + 1, dtype=np.int64)
    return np.append(image.lines.addresses, end)


def by_row(image: Image, executed: Mapping[int, int]) -> Ints:
    """Return the rows of what was executed at each address."""
    known = addresses(image)
    counts = np.zeros(len(known), dtype=np.int64)
    elsewhere = len(known) - 1
    for pc, count in executed.items():
        row = int(np.searchsorted(known, pc)) if TEXT_START <= pc < int(known[-1]) else elsewhere
        counts[row if int(known[row]) == pc else elsewhere] += count
    return counts


def _falls_through(instruction: Instruction) -> bool:
    """Return whether what is executed here goes on below, unless it is a branch that is taken."""
    return instruction.mnemonic not in _ELSEWHERE and instruction.condition != "ji"


class Tally:
    """What one fast engine counts."""

    def __init__(self, text_bytes: int) -> None:
        #: By byte of the text, counted by the loop itself: how often control came to it by its
        #: address; and how often the branch there was taken, or the `strcmp` there came back to
        #: itself, which may take many steps, each an instruction.
        self.arrivals: Ints = np.zeros(text_bytes, dtype=np.int64)
        self.taken: Ints = np.zeros(text_bytes, dtype=np.int64)
        #: Attempts that ended at an instruction, having executed it; and those that ended where
        #: they had stopped before.
        self._ended_at: Counter[int] = Counter()
        self._ended_before: Counter[Halt] = Counter()

    def note_trap(self, pc: int) -> None:
        """Note that an attempt trapped at an instruction, which counts as executed."""
        self._ended_at[pc] += 1

    def note_end_before(self, halt: Halt) -> None:
        """Note that an attempt ended where it had stopped."""
        self._ended_before[halt] += 1

    def executed(
        self, decoded: Mapping[int, Instruction | None], under_way: Iterable[Halt]
    ) -> dict[int, int]:
        """Return how often the instruction at each address was executed.

        Parameters
        ----------
        decoded
            All that was decoded; None where these bytes are no instruction.
        under_way
            Where attempts are that have not ended.
        """
        halted = self._ended_before + Counter(under_way)
        arrived: Counter[int] = Counter()
        for pc, instruction in decoded.items():
            arrived[pc] += int(self.arrivals[pc - TEXT_START])
            target = pc if instruction is None or instruction.target is None else instruction.target
            arrived[target] += int(self.taken[pc - TEXT_START])
        found: dict[int, int] = {}
        for pc in sorted(decoded):
            count = found[pc] = arrived[pc] - halted[pc, False]
            instruction = decoded[pc]
            if instruction is not None and _falls_through(instruction):
                elsewhere = int(self.taken[pc - TEXT_START]) + halted[pc, True]
                arrived[pc + instruction.size_bytes] += count - elsewhere - self._ended_at[pc]
        # Nothing goes on from where no instruction begins.
        found |= {pc: count for pc, count in self._ended_at.items() if pc not in decoded}
        return found
