"""Each fault that is planted in the translator is noticed by some random program."""

from __future__ import annotations

import pytest

from tests.engine.translation_faults import FAULTS, SEEDS_MAX, noticed


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_noticed(name: str) -> None:
    found = noticed(name, range(SEEDS_MAX))
    assert found.how, f"not noticed by {SEEDS_MAX} programs"
