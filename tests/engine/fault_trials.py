"""Tries out whether planted faults of the translator are noticed: `make translation-faults`.

`python -m tests.engine.fault_trials` prints which program noticed which fault of
translation_faults.py, and how; names after the command choose. Each fault is tried in a process of
its own, since it may write where nothing may be written, or never come to an end: that counts as
noticed, too.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pytest

from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.layout import CELL_CONSOLE, CELL_STDIN
from tests.engine.agreement import differing, observed
from tests.engine.grid import results, taken
from tests.engine.hot_programs import hot_scene
from tests.engine.machine import EngineMaker, Task, at, imm, op, program, run_tasks
from tests.engine.operation_rows import at_edges, branching, computing, moving, odd_floats, programs
from tests.engine.random_programs import Scene
from tests.engine.row_products import ODD_PRODUCTS
from tests.engine.translated import TranslatedEngine
from tests.engine.translation_faults import FAULTS

#: Programs that are tried for one fault, and the processor's seconds after which one has no end.
SEEDS_MAX: Final = 300
CASE_SECONDS: Final = 10
#: A program that tells the first byte that it is told.
ECHO: Final = Scene(
    [op("mov", at(CELL_STDIN), at(CELL_CONSOLE), types="sb"), op("exit:c")], stdin=b"hello"
)
#: A private cell that nobody has stored to.
DIVISOR: Final = 0x2_0000_0010
#: Programs of which it is found out once for all faults what the reference does.
PREPARED: Final = 60
#: Programs after which single operations are tried, too.
OPERATIONS_AFTER: Final = 12


@contextmanager
def planted(name: str) -> Any:
    """Have a fault in the translator of this process; code from before is forgotten."""
    TranslatedEngine._kept.clear()
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[name](patch)
        yield
    TranslatedEngine._kept.clear()


@dataclass(frozen=True, slots=True)
class Noticed:
    """By which program, and how a fault was noticed; by none if `how` is empty."""

    seed: int
    how: str


def _operation_results(maker: EngineMaker) -> Iterator[Any]:
    """Yield what single operations do, and products of rows, which programs rarely meet."""
    for part in programs([*computing(), *at_edges(), *odd_floats(), *moving()]):
        yield results(maker, part)
    for part in programs(branching()):
        yield taken(maker, part)
    for mnemonic in ("div", "mod"):
        for types in ("sq", "uq", "sd", "ub"):
            division = op(mnemonic, imm(7), at(DIVISOR), at(DIVISOR), types=types)
            (ended,), _ = run_tasks(maker, program(division, op("exit:c")), [Task()])
            yield ended.row["trap"], ended.row["instructions"]
    yield observed(maker, ECHO)
    for scene in ODD_PRODUCTS:
        yield observed(maker, scene)


class _Reference:
    """What the reference does, found out once for all faults."""

    def __init__(self) -> None:
        self._programs: dict[int, dict[str, Any]] = {}
        self._operations: list[Any] = []

    def prepare(self, seeds: Sequence[int]) -> None:
        """Find out before processes part; the rest of the programs is for who needs them."""
        for seed in seeds[:PREPARED]:
            self._programs[seed] = self.program(seed)
        self._operations = self.operations()

    def program(self, seed: int) -> dict[str, Any]:
        """Return what is observed of a program."""
        known = self._programs.get(seed)
        return observed(ReferenceEngine, hot_scene(seed)) if known is None else known

    def operations(self) -> list[Any]:
        """Return what single operations do."""
        return self._operations or list(_operation_results(ReferenceEngine))


REFERENCE: Final = _Reference()
TRANSLATED: Final = partial(TranslatedEngine, level=0)


def _limit_case() -> None:
    """End this process if what follows takes too long, by its own time."""
    signal.setitimer(signal.ITIMER_PROF, CASE_SECONDS)


def _operations_differ() -> bool:
    _limit_case()
    expected = REFERENCE.operations()
    try:
        return any(a != b for a, b in zip(expected, _operation_results(TRANSLATED), strict=True))
    except (AssertionError, KeyError):
        # Something was stored elsewhere, or nowhere.
        return True


def _try(name: str, seeds: Iterable[int], tell: Callable[[str], None]) -> None:
    """Try programs until one notices the fault: the child's side."""
    with planted(name):
        for count, seed in enumerate(seeds):
            if count == OPERATIONS_AFTER and _operations_differ():
                tell("an operation at odd operands")
                return
            _limit_case()
            tell(f"program {seed}")
            expected = REFERENCE.program(seed)
            found = differing("reference", expected, hot_scene(seed), {"translate": TRANSLATED})
            if found:
                tell(found[0].partition("\n")[0].rstrip(":"))
                return


def noticed(name: str, seeds: Iterable[int]) -> Noticed:
    """Plant a fault in a process of its own, and say which program noticed it."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        status = 1
        try:
            with os.fdopen(write, "w", buffering=1) as file:
                _try(name, seeds, lambda text: print(text, file=file))
            status = 0
        finally:
            os._exit(status)
    os.close(write)
    with os.fdopen(read) as lines:
        told = lines.read().splitlines()
    _, status = os.waitpid(child, 0)
    programs = [line for line in told if line.startswith("program ")]
    how = told[-1] if told and told[-1] not in programs[-1:] else ""
    if os.WIFSIGNALED(status):
        how = signal.Signals(os.WTERMSIG(status)).name
    assert not os.WEXITSTATUS(status), f"{name}: the fault could not be planted, or tried"
    return Noticed(int(programs[-1].split()[1]) if programs else -1, how)


def main(names: list[str]) -> int:
    """Print the table; return how many faults were not noticed."""
    missed = 0
    REFERENCE.prepare(range(SEEDS_MAX))
    for name in names or FAULTS:
        began_s = time.process_time() + sum(os.times()[2:4])
        found = noticed(name, range(SEEDS_MAX))
        missed += not found.how
        how = f"by program {found.seed}: {found.how}" if found.how else f"not by {SEEDS_MAX}"
        taken_s = time.process_time() + sum(os.times()[2:4]) - began_s
        print(f"{name:66} {taken_s:5.1f} s  {how}", flush=True)
    count = len(names or FAULTS)
    print(f"{count - missed} of {count} faults were noticed")
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
