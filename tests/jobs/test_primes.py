from __future__ import annotations

import pytest

from jobs.primes.check import count_primes
from tests.engine.agreement import ENGINES
from tests.jobs.machine import run_job


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("limit", "parts", "block"),
    [(2000, 5, 50), (1009, 3, 7), (1010, 64, 500), (3, 2, 500), (2, 2, 500), (100, 1, 1)],
)
def test_counts_what_a_sieve_counts(engine: str, limit: int, parts: int, block: int) -> None:
    parameters = {"LIMIT": limit, "PARTS": parts, "BLOCK": block}
    result = run_job("primes", parameters, engine=engine)
    assert result.console == f"{count_primes(limit)}\n"
    assert result.watchers_left == 0


def test_counts_once_in_any_order_of_commits() -> None:
    for seed in range(10):
        result = run_job("primes", {"LIMIT": 500, "BLOCK": 10}, workers=8, homes=3, seed=seed)
        assert result.console == f"{count_primes(500)}\n", seed


def test_the_sieve_knows_the_count_that_the_papers_program_prints() -> None:
    assert count_primes(2_000_000) == 148_933


@pytest.mark.slow
def test_counts_the_primes_below_two_million() -> None:
    assert run_job("primes").console == "148933\n"
