"""Faults that are planted in the translator are noticed: a few here, `make translation-faults` all.

All of them take as long as the rest of the tests together.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.engine.fault_trials import noticed
from tests.engine.translation_faults import FAULTS

#: Noticed by the first programs that are tried.
SOON_NOTICED: Final = (
    "stores are not marked",
    "the last stored byte is not marked",
    "a window's stores are not marked",
    "there is one round too many",
)
PROGRAMS: Final = 30


@pytest.mark.slow
@pytest.mark.parametrize("name", SOON_NOTICED)
def test_a_planted_fault_is_noticed(name: str) -> None:
    assert name in FAULTS
    found = noticed(name, range(PROGRAMS))
    assert found.how, f"not noticed by {PROGRAMS} programs"
