"""Functions are compiled once, not once for every constant that they are called with."""

from __future__ import annotations

from enum import IntEnum

from dvm_mpi.engine.compiled import compiled


class Shade(IntEnum):
    LIGHT = 3


@compiled
def add(a, b):
    return a + b


@compiled
def add_often(a):
    return add(a, 1) + add(2, a) + add(a, Shade.LIGHT)


def test_constants_make_no_versions() -> None:
    assert add_often(5) == 6 + 7 + 8
    assert len(add.signatures) == 1  # type: ignore[attr-defined]
