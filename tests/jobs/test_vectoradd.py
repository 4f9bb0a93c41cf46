from __future__ import annotations

import numpy as np
import pytest

from jobs.vectoradd.check import generate
from tests.engine.agreement import ENGINES
from tests.jobs.machine import run_job


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("size", "parts"),
    [(1000, 7), (1, 1), (3, 8)],
    ids=["uneven parts", "one number", "more parts than numbers"],
)
def test_adds_the_vectors_that_it_makes(engine: str, size: int, parts: int) -> None:
    result = run_job("vectoradd", {"N": size, "PARTS": parts}, engine=engine)
    a, b = generate(size)
    assert result.arrays["a"].tobytes() == a.tobytes()
    assert result.arrays["b"].tobytes() == b.tobytes()
    assert result.arrays["c"].tobytes() == (a + b).tobytes()
    assert result.console == f"the last sum is {a[-1] + b[-1]:.6f}\n"


def test_adds_vectors_from_outside() -> None:
    random = np.random.default_rng(1)
    a, b = random.standard_normal(5000), random.standard_normal(5000)
    parameters = {"N": 5000, "PARTS": 16, "GENERATE": 0}
    result = run_job("vectoradd", parameters, inputs={"a": a, "b": b}, workers=3, homes=2)
    assert result.arrays["c"].tobytes() == (a + b).tobytes()
