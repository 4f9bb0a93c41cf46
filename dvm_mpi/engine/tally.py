"""How often each instruction was executed: the rows of such counts, and a cheap way to count.

The reference counts every step. The fast engine counts arrivals only: how often control came to an
instruction in another way than from the one above it. The rest is arithmetic, done when somebody
asks: what goes into an instruction comes out of it below, unless it jumps or an attempt ends there.
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

#: After these control goes elsewhere, or is counted when it goes on below: `strcmp` may take many
#: steps, each an instruction, before it does.
_ELSEWHERE: Final = frozenset({"br", "bl", "exit", "strcmp"})


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


def falls_through(instruction: Instruction) -> bool:
    """Return whether what is executed here goes on below, uncounted, as often."""
    return instruction.mnemonic not in _ELSEWHERE


class Tally:
    """What one fast engine counts; `arrivals` by byte of the text, counted by the loop itself."""

    def __init__(self, text_bytes: int) -> None:
        self.arrivals: Ints = np.zeros(text_bytes, dtype=np.int64)
        #: Attempts that ended at an instruction: having executed it, or before that.
        self._ended_at: Counter[int] = Counter()
        self._ended_before: Counter[int] = Counter()

    def note_trap(self, pc: int) -> None:
        """Note that an attempt trapped at an instruction, which counts as executed."""
        self._ended_at[pc] += 1

    def note_end_before(self, pc: int) -> None:
        """Note that an attempt ended where it had arrived, and did not execute what is there."""
        self._ended_before[pc] += 1

    def executed(
        self, decoded: Mapping[int, Instruction | None], waiting: Iterable[int]
    ) -> dict[int, int]:
        """Return how often the instruction at each address was executed.

        Parameters
        ----------
        decoded
            All that was decoded; None where these bytes are no instruction.
        waiting
            For each attempt under way, where it has arrived and not executed what is there.
        """
        not_executed = self._ended_before + Counter(waiting)
        found: dict[int, int] = {}
        from_above: Counter[int] = Counter()
        for pc in sorted(decoded):
            count = int(self.arrivals[pc - TEXT_START]) + from_above[pc] - not_executed[pc]
            found[pc] = count
            instruction = decoded[pc]
            if instruction is not None and falls_through(instruction):
                from_above[pc + instruction.size_bytes] += count - self._ended_at[pc]
        # Nothing goes on from where no instruction begins.
        found |= {pc: count for pc, count in self._ended_at.items() if pc not in decoded}
        return found
