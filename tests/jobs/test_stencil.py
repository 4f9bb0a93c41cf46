from __future__ import annotations

import numpy as np
import pytest

from jobs.stencil.check import generate, spread
from tests.engine.agreement import ENGINES
from tests.jobs.machine import run_job


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("rows", "columns", "parts", "steps"),
    [(12, 9, 5, 4), (12, 9, 5, 3), (3, 3, 1, 2), (6, 40, 6, 5)],
    ids=["even steps", "odd steps", "one inner cell", "a row for each part"],
)
def test_spreads_heat_as_numpy_does(
    engine: str, rows: int, columns: int, parts: int, steps: int
) -> None:
    parameters = {"ROWS": rows, "COLS": columns, "PARTS": parts, "ITERATIONS": steps}
    result = run_job("stencil", parameters, engine=engine)
    found = result.arrays["other" if steps % 2 else "plate"]
    assert found.tobytes() == spread(generate(rows, columns), steps).tobytes()
    assert result.console == f"{steps} steps\n"
    assert result.watchers_left == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_plate_from_outside_on_several_workers(seed: int) -> None:
    random = np.random.default_rng(seed)
    plate = random.standard_normal((40, 33))
    parameters = {"ROWS": 40, "COLS": 33, "PARTS": 7, "ITERATIONS": 6, "GENERATE": 0}
    result = run_job("stencil", parameters, inputs={"plate": plate}, workers=3, homes=2, seed=seed)
    assert result.arrays["plate"].tobytes() == spread(plate, 6).tobytes()


def test_heat_spreads_from_the_middle_and_the_rim_stays() -> None:
    """By hand, for the check itself."""
    plate = np.zeros((3, 4))
    plate[1, 1], plate[0] = 8.0, 1.0
    after = spread(plate, 1)
    assert after[1].tolist() == [0.0, 4.125, 1.125, 0.0]
    assert after[[0, 2]].tolist() == plate[[0, 2]].tolist()
