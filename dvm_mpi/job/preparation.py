"""Compiled code for one rank: made by processes of their own, once on each node, while ranks serve.

Homes need the loops of shared memory, workers the interpreter. A rank can serve others as soon as
the first is there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from dvm_mpi import config
from dvm_mpi.control.kernels import LIBRARY as COORDINATOR
from dvm_mpi.dsm.kernels import LIBRARY as SHARED_MEMORY
from dvm_mpi.native.compilation import Compilation


class Preparation:
    """Brings compiled code into being; `step` is called until what is needed is there."""

    def __init__(self, engine: str, *, counts_instructions: bool = False) -> None:
        """Prepare for an engine, by its name in the options."""
        targets = [SHARED_MEMORY.target, COORDINATOR.target]
        self._interpreter = ""
        if engine != "reference":
            from dvm_mpi.engine import counting_entries, entries

            interpreter = counting_entries if counts_instructions else entries
            targets.append(interpreter.LIBRARY.target)
            self._interpreter = interpreter.LIBRARY.name
        #: At once where there are processors for that: the interpreter takes as long as all else.
        self._compilations = (
            [Compilation([target]) for target in targets]
            if len(os.sched_getaffinity(0)) > 1
            else [Compilation(targets)]
        )

    @property
    def is_home_ready(self) -> bool:
        """Whether the loops of a home, and of the coordinator, can be called without a wait."""
        return all(map(self._is_ready, (SHARED_MEMORY.name, COORDINATOR.name)))

    @property
    def is_engine_ready(self) -> bool:
        """Whether the engine can be loaded without a wait."""
        return self._is_ready(self._interpreter)

    def _is_ready(self, name: str) -> bool:
        return all(each.is_ready(name) for each in self._compilations)

    @property
    def waits_for(self) -> str:
        """What is waited for: a clause, empty if nothing is missing."""
        return ", and for ".join(filter(None, (each.waits_for for each in self._compilations)))

    def step(self) -> None:
        """Look what has happened, and start compilers if nobody else has; returns at once.

        Raises
        ------
        CompileError
            A compiler that this process started has failed.
        """
        for each in self._compilations:
            if not each.is_done:
                each.step()

    def close(self) -> None:
        """End the compilers that this process has started, if they are at work."""
        for each in self._compilations:
            each.close()


def wait_for_code(engine: str, tell: Callable[[str], None]) -> None:
    """Wait until all that runs in this process can be called, and tell of it if that takes long.

    For commands that do nothing else meanwhile.

    Raises
    ------
    CompileError
        A compiler has failed.
    """
    preparation = Preparation(engine)
    told_at_s = time.monotonic() + config.SILENT_WAIT_S
    try:
        while not (preparation.is_home_ready and preparation.is_engine_ready):
            preparation.step()
            if time.monotonic() >= told_at_s and preparation.waits_for:
                told_at_s = float("inf")
                tell(f"dvm: waiting for {preparation.waits_for}")
            time.sleep(config.NAP_S_MAX)
    finally:
        preparation.close()
