"""Each planted fault is noticed, by what it is, within a few seeds; the sound machine is clean."""

from __future__ import annotations

import pytest

from tests.sim.bugs import BUGS
from tests.sim.machine import program, simulate


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_fault_is_noticed(name: str) -> None:
    """By the replay or an invariant, with the right words; never by a crash or a hang."""
    bug = BUGS[name]
    for seed in range(bug.seeds_max):
        run = simulate(program(bug.program), seed, parts=bug.parts)
        if run.differences:
            print(f"{name}: noticed at seed {seed}, the {seed + 1}. of at most {bug.seeds_max}")
            assert any(bug.told in line for line in run.differences), run.differences
            return
    pytest.fail(f"{name} was not noticed within {bug.seeds_max} seeds")


@pytest.mark.parametrize("name", BUGS)
def test_without_the_fault_the_same_seeds_are_clean(name: str) -> None:
    bug = BUGS[name]
    for seed in range(bug.seeds_max):
        assert simulate(program(bug.program), seed).differences == []
