"""Random programs end by a trap, by `exit`, or at a limit; the machine never crashes or hangs."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.fuzz.generators import CHUNKS, random_image
from tests.fuzz.machine_runs import ENDLESS, EXIT, run


@pytest.mark.parametrize(("start", "count"), CHUNKS)
def test_random_programs_end(start: int, count: int) -> None:
    ends = Counter[str]()
    for seed in range(start, start + count):
        ends[run(random_image(seed), "interp").how] += 1
    assert ends[EXIT] > 0
    assert sum(ends.values()) == count
    # The generators are worth something only if programs live and die in many ways.
    assert len(ends) >= min(count // 40, 8)


@pytest.mark.parametrize(("start", "count"), CHUNKS)
def test_both_engines_end_alike(start: int, count: int) -> None:
    """One in ten also runs on the reference: same end, place, commits, instructions, output."""
    for tenth in range(start, start + count, 10):
        # Not only multiples of ten: all four kinds of programs have their turn.
        seed = tenth + tenth // 10 % 10
        image = random_image(seed)
        expected = run(image, "reference")
        if expected.how != ENDLESS:
            assert run(image, "interp") == expected, f"seed {seed}"
