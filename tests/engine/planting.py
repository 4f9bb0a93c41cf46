"""Faults by name, and what plants them: for the modules that hold some."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Patch = pytest.MonkeyPatch
Plant = Callable[[Patch], None]


def noting(faults: dict[str, Plant]) -> Callable[[str], Callable[[Plant], Plant]]:
    """Return what takes the name of a fault and notes what plants it."""

    def fault(name: str) -> Callable[[Plant], Plant]:
        def note(plant: Plant) -> Plant:
            faults[name] = plant
            return plant

        return note

    return fault
