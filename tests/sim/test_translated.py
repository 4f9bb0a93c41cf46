"""Whole runs in simulated time whose runners execute translated code, judged as any others are."""

from __future__ import annotations

import pytest

from tests.engine.translated import TranslatedEngine
from tests.sim.sweep import conditions, sweep

NAMES = ("bank", "append", "children", "sleepers", "watchers", "write_skew", "aborts", "large")
#: Two that are serializable, and one under snapshots.
SEEDS = (3, 5, 6)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_runs_of_translated_runners_are_right(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    executed = []
    close = TranslatedEngine.close

    def told(engine: TranslatedEngine) -> None:
        executed.append(engine.native_instructions)
        close(engine)

    monkeypatch.setattr(TranslatedEngine, "close", told)
    swept = sweep(seed, "translate", NAMES)
    assert not swept.wrong, "\n".join(swept.wrong)
    assert sum(executed) > 0


def test_seeds_are_of_both_levels_of_isolation() -> None:
    assert {conditions(seed).isolation for seed in SEEDS} == {"snapshot", "serializable"}
