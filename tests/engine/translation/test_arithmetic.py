"""Every operation of translated code, with odd operands, as the reference computes it."""

from __future__ import annotations

import pytest

from dvm_mpi.engine.reference import ReferenceEngine
from tests.engine.agreement import ALL_ENGINES
from tests.engine.grid import Row, results, taken
from tests.engine.operation_rows import at_edges, branching, computing, moving, odd_floats, programs

TRANSLATED = ["translate-hard"]


@pytest.mark.parametrize("engine", TRANSLATED)
@pytest.mark.parametrize(
    "rows", [computing(), at_edges(), odd_floats(), moving()], ids=["compute", "ends", "odd", "mov"]
)
def test_results_are_those_of_the_reference(rows: list[Row], engine: str) -> None:
    for part in programs(rows):
        expected = results(ReferenceEngine, part)
        found = zip(part, expected, results(ALL_ENGINES[engine], part), strict=True)
        assert not [f"{row}: {a:#x}, not {b:#x}" for row, b, a in found if a != b]


@pytest.mark.parametrize("engine", TRANSLATED)
def test_branches_go_where_the_reference_goes(engine: str) -> None:
    for part in programs(branching()):
        assert taken(ALL_ENGINES[engine], part) == taken(ReferenceEngine, part)
