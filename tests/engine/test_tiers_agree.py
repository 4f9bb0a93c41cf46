"""The compiled engine against the reference, on random legal programs."""

from __future__ import annotations

import os
from typing import Any

import pytest

from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.engine.reference import ReferenceEngine
from tests.engine.machine import Ended, EngineMaker, Host, batch, settings
from tests.engine.random_programs import Scene, random_scene

#: Seeds of one run; the environment may ask for more.
SEEDS = int(os.environ.get("DVM_TEST_SEEDS", "400"))
SEEDS_PER_TEST = 100


def observed(maker: EngineMaker, scene: Scene, fuel: int) -> dict[str, Any]:
    engine = maker(settings(**scene.changes))
    try:
        engine.load(scene.image, scene.stdin)
        host = Host(engine, scene.memory, malloc_left=1 << 20)
        engine.begin(batch(scene.tasks))
        ended: list[Ended] = host.run(fuel)
        return {
            "ended": ended,
            "undeclared": engine.undeclared_accesses(),
            "misses": host.misses,
            "slept": host.slept_us,
        }
    finally:
        engine.close()


def differences(seed: int) -> list[str]:
    scene = random_scene(seed)
    fuel = 1_000 if seed % 3 else 7
    expected = observed(ReferenceEngine, scene, fuel)
    got = observed(InterpEngine, scene, fuel)
    return [
        f"seed {seed}, {key}:\n  reference {expected[key]}\n  interp    {got[key]}"
        for key in expected
        if expected[key] != got[key]
    ]


@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_PER_TEST))
def test_random_programs_have_one_meaning(first: int) -> None:
    for seed in range(first, first + SEEDS_PER_TEST):
        assert not differences(seed), "\n".join(differences(seed))
