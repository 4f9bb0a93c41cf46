from __future__ import annotations

import numpy as np
import pytest

from jobs.matmul.check import generate, in_tiles, multiply, whole
from tests.engine.agreement import ENGINES
from tests.jobs.machine import run_job


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("tiles", "tile", "rounds"),
    [(3, 4, 1), (2, 5, 3), (1, 1, 2)],
    ids=["one round", "three rounds", "one number"],
)
def test_multiplies_as_numpy_does_in_the_same_order(
    engine: str, tiles: int, tile: int, rounds: int
) -> None:
    parameters = {"TILES": tiles, "TILE": tile, "ROUNDS": rounds}
    result = run_job("matmul", parameters, engine=engine)
    a, b = generate(tiles, tile)
    assert result.arrays["a"].tobytes() == a.tobytes()
    assert result.arrays["b"].tobytes() == b.tobytes()
    expected = multiply(a, b, rounds)
    assert result.arrays["c"].tobytes() == expected.tobytes()
    assert result.console == f"the last number is {expected[-1, -1, -1, -1]:.6f}\n"
    assert result.watchers_left == 0


@pytest.mark.parametrize("seed", range(3))
def test_matrices_from_outside_on_several_workers(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.standard_normal((2, 3, 3, 6, 6))
    parameters = {"TILES": 3, "TILE": 6, "GENERATE": 0}
    inputs = {"a": a, "b": b}
    result = run_job("matmul", parameters, inputs=inputs, workers=3, homes=2, seed=seed)
    assert result.arrays["c"].tobytes() == multiply(a, b, 1).tobytes()


def test_what_is_checked_is_the_product() -> None:
    """By hand, for the check itself: tiles and back, and whole numbers against `@`."""
    left, right = np.arange(36.0).reshape(6, 6), np.arange(36.0)[::-1].reshape(6, 6)
    a, b = in_tiles(left, 2), in_tiles(right, 2)
    assert whole(a).tolist() == left.tolist()
    assert a[1, 2].tolist() == left[2:4, 4:6].tolist()
    assert whole(multiply(a, b, 2)).tolist() == (2 * (left @ right)).tolist()
