"""The compiled engine against the reference, on random legal programs."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from tests.engine.agreement import RAISED, disagreements
from tests.engine.random_programs import random_scene

#: Seeds of one run; the environment may ask for more.
SEEDS = int(os.environ.get("DVM_TEST_SEEDS", "400"))
SEEDS_PER_TEST = 100


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_random_programs_have_one_meaning(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        found, _ = disagreements(random_scene(seed))
        assert not found, "\n".join([f"seed {seed}", *found])


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_counted_programs_have_the_same_meaning_and_counts(first: int) -> None:
    """Every executed instruction is one of some place, the trapping one included."""
    for seed in range(first, first + SEEDS_PER_TEST):
        scene = random_scene(seed)
        counting = replace(scene, changes=scene.changes | {"counts_instructions": True})
        found, seen = disagreements(counting)
        assert not found, "\n".join([f"seed {seed}", *found])
        if RAISED not in seen:
            executed = sum(ended.row["instructions"] for ended in seen["ended"])
            assert sum(seen["counts"]) == executed, f"seed {seed}"
