"""Compiled code for one rank: it is made by a process of its own, once on each node."""

from __future__ import annotations

from dvm_mpi.options import RunOptions


class Preparation:
    """Brings compiled code into being while the rank does other things."""

    def __init__(self, options: RunOptions) -> None:
        self._is_needed = options.engine != "reference"

    @property
    def is_home_ready(self) -> bool:
        """Whether the loops of a home can be called."""
        return True

    @property
    def is_engine_ready(self) -> bool:
        """Whether the interpreter can be loaded."""
        return True

    @property
    def waits_for(self) -> str:
        """Tell what is waited for."""
        return ""

    def step(self) -> None:
        """Look what has happened; returns at once."""

    def close(self) -> None:
        """End what this process has started."""
