"""Each planted fault is noticed, by what it is, within a few seeds; the sound machine is clean."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sim.bugs import BUGS


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_fault_is_noticed(name: str) -> None:
    """By the replay or a rule, with the right words; never by a crash or a hang."""
    bug = BUGS[name]
    for seed in range(bug.seeds_max):
        run = bug.run(seed)
        if run.differences:
            print(f"{name}: noticed at seed {seed}, the {seed + 1}. of at most {bug.seeds_max}")
            assert any(bug.told in line for line in run.differences), run.differences
            return
    pytest.fail(f"{name} was not noticed within {bug.seeds_max} seeds")


def sound_runs() -> list[Any]:
    """Return one bug of each set-up, and how many seeds its bugs have at most."""
    seeds: dict[str, tuple[str, int]] = {}
    for name, bug in BUGS.items():
        set_up = f"{bug.workload} {sorted(bug.defines.items())} {sorted(bug.settings.items())} "
        set_up += ",".join(sorted(bug.faults)) + (" leaders" if bug.leaders else "")
        first, most = seeds.get(set_up, (name, 0))
        seeds[set_up] = first, max(most, bug.seeds_max)
    return [pytest.param(*given, id=set_up) for set_up, given in seeds.items()]


@pytest.mark.parametrize(("name", "seeds"), sound_runs())
def test_without_the_fault_the_same_seeds_are_clean(name: str, seeds: int) -> None:
    for seed in range(seeds):
        run = BUGS[name].run_without(seed)
        assert run.differences == []
        assert BUGS[name].wrong(run) == []
        assert BUGS[name].verdict(run).anomaly is None
