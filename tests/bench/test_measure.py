from __future__ import annotations

import itertools

import pytest

from bench.measure import Measure, doubts, table, take_rounds


def test_measures_take_turns() -> None:
    """One after the other, round after round; what takes long is asked less often."""
    asked: list[str] = []

    def sampler(name: str, rounds_max: int) -> Measure:
        def sample() -> float:
            asked.append(name)
            return float(len(asked))

        return Measure(name, "s", sample, rounds_max=rounds_max)

    quick, slow = sampler("quick", 1_000), sampler("slow", 1)
    notes: list[str] = []
    take_rounds([quick, slow], 3, notes.append)
    assert asked == ["quick", "slow", "quick", "quick"]
    assert notes[0] == "round 1 of 3: quick"
    assert (quick.samples, slow.samples) == ([1.0, 3.0, 4.0], [2.0])


@pytest.mark.parametrize(
    ("samples", "median", "spread"),
    [([5.0], 5.0, 0.0), ([4.0, 1.0, 2.0], 2.0, 1.5), ([1.0, 3.0], 2.0, 1.0)],
)
def test_result_is_the_median(samples: list[float], median: float, spread: float) -> None:
    for order in itertools.permutations(samples):
        measure = Measure("x", "s", lambda: 0.0, samples=list(order))
        assert (measure.median, measure.spread) == (median, spread)


def test_best_of_a_rate_is_the_highest() -> None:
    assert Measure("x", "s", lambda: 0.0, samples=[2.0, 1.0, 3.0]).best == 1.0
    assert Measure("x", "runners/s", lambda: 0.0, samples=[2.0, 1.0, 3.0]).best == 3.0


def test_table_shows_three_digits() -> None:
    values = [0.012345, 2.3456, 99.96, 123.4, 1_234_567.0]
    measures = [Measure(f"m{i}", "u", lambda: 0.0, samples=[v]) for i, v in enumerate(values)]
    rows = [line.split("|")[2].strip() for line in table(measures).splitlines()[2:]]
    assert rows == ["0.0123", "2.35", "100", "123", "1,230,000"]
    assert len({len(line) for line in table(measures).splitlines()}) == 1


def test_doubts_are_told() -> None:
    quiet = Measure("quiet", "s", lambda: 0.0, samples=[1.0, 1.1])
    noisy = Measure("noisy", "s", lambda: 0.0, samples=[1.0, 1.5])
    assert doubts([quiet], load=0.5, processors=2) == []
    busy, wide = doubts([quiet, noisy], load=2.5, processors=2)
    assert "load average was 2.5 on 2 processors" in busy
    assert wide == "spread over 20%: noisy"
