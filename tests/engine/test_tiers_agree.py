"""The compiled engine against the reference, on random legal programs."""

from __future__ import annotations

import os

import pytest

from tests.engine.agreement import disagreements
from tests.engine.random_programs import random_scene

#: Seeds of one run; the environment may ask for more.
SEEDS = int(os.environ.get("DVM_TEST_SEEDS", "400"))
SEEDS_PER_TEST = 100


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_random_programs_have_one_meaning(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        found, _ = disagreements(random_scene(seed))
        assert not found, "\n".join([f"seed {seed}", *found])
