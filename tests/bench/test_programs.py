"""The programs of the benchmarks end, and leave as many samples as they were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from itertools import count

import numpy as np
import pytest

from bench.placed import assemble
from dvm_mpi.control.driver import LocalMachine, MachineSettings
from dvm_mpi.engine.interface import EngineSettings
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.layout import PAGE_SHIFT
from tests.sim.machine import ENGINE

COUNT_AT = 0x5_0001_0000


@pytest.mark.parametrize(
    ("name", "defines", "words"),
    [
        ("busy_home", {"SAMPLES": 3, "STEPS": 20, "PAUSE_US": 5}, 3),
        ("busy_home", {"SAMPLES": 3, "COMPUTES": 0}, 3),
        ("bandwidth", {"ROUNDS": 2, "BYTES": 8192}, 4),
    ],
)
def test_every_round_leaves_its_times(name: str, defines: Mapping[str, int], words: int) -> None:
    clock = count(1)
    settings = EngineSettings(
        ENGINE.stack_bytes, 0, False, ENGINE.cache_bytes, clock=lambda: next(clock) * 1_000_000_007
    )
    image = assemble(f"bench/programs/{name}.dasm", {"COUNT": COUNT_AT, **defines})
    machine = LocalMachine(image, MachineSettings(workers=3), lambda: ReferenceEngine(settings))
    with closing(machine):
        ending = machine.run()
        content = machine.read(COUNT_AT >> PAGE_SHIFT, 1).reshape(-1).view(np.int64)
    assert ending.failure is None
    assert ending.watchers == ()
    rounds = defines.get("SAMPLES", defines.get("ROUNDS"))
    assert content[0] == rounds
    assert (content[1 : 1 + words] > 0).all()
    assert not content[1 + words :].any()
