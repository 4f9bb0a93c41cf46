"""How long the next attempts will be, and the batches that follow from it."""

from __future__ import annotations

import math
from itertools import chain, repeat

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvm_mpi.config import BATCH_FUEL, BATCH_RUNNERS_MAX, RUNNER_FUEL
from dvm_mpi.control.prediction import Autoregression, LengthEstimate
from tests.properties import tried

A, B = 0x100, 0x200


def observe(lengths: LengthEstimate, entry: int, *instructions: int) -> None:
    lengths.observe(np.full(len(instructions), entry), np.array(instructions, dtype=np.int64))


def ends(lengths: LengthEstimate, entries: NDArray[np.int64]) -> list[int]:
    """Return where batches of one portion end."""
    batches = lengths.cut(entries, np.array([len(entries)]), BATCH_FUEL, lengths.batch_runners)
    assert (batches.portions == 0).all()
    return batches.counts.cumsum().tolist()  # type: ignore[no-any-return]


@given(groups=st.lists(st.lists(st.integers(1, 10 * BATCH_FUEL), max_size=6), max_size=12))
@tried(100)
def test_the_estimate_is_a_running_mean_whatever_the_groups(groups: list[list[int]]) -> None:
    """A group counts as its mean, observed once for each of its runners; the first weigh more."""
    lengths, mean = LengthEstimate(), float(BATCH_FUEL)
    weights = chain([0.5] * 8, repeat(0.2))
    for group in groups:
        observe(lengths, A, *group)
        for _ in group:
            mean += next(weights) * (sum(group) / len(group) - mean)
        assert math.isclose(lengths.all.mean, mean, rel_tol=1e-9)
        assert 1 <= lengths.batch_runners <= BATCH_RUNNERS_MAX
        fitting = int(BATCH_FUEL / (lengths.all.mean + RUNNER_FUEL))
        assert lengths.batch_runners in {1, BATCH_RUNNERS_MAX, fitting}


def test_batches_have_about_the_same_fuel() -> None:
    lengths = LengthEstimate()
    assert lengths.batch_runners == 1
    observe(lengths, A)
    assert lengths.all.mean == BATCH_FUEL
    for _ in range(60):
        observe(lengths, A, *[BATCH_FUEL // 100 - RUNNER_FUEL] * 10)
    assert 90 <= lengths.batch_runners <= 110
    for _ in range(60):
        observe(lengths, A, *[1] * 10)
    assert lengths.batch_runners == BATCH_RUNNERS_MAX
    for _ in range(60):
        observe(lengths, A, *[10 * BATCH_FUEL] * 10)
    assert lengths.batch_runners == 1


def test_each_entry_has_its_own_length() -> None:
    lengths = LengthEstimate()
    for _ in range(20):
        observe(lengths, A, 100, 100)
        observe(lengths, B, BATCH_FUEL)
    assert lengths.predicted(A) == pytest.approx(100)
    assert lengths.predicted(B) == pytest.approx(BATCH_FUEL)
    assert lengths.predicted(0x300) == lengths.all.mean
    assert ends(lengths, np.full(5, A)) == [2, 4, 5], "not more than whoever they are"
    lengths.all.mean = 1.0
    whole = int(BATCH_FUEL / (lengths.predicted(A) + RUNNER_FUEL))
    assert ends(lengths, np.full(2 * whole + 5, A)) == [whole, 2 * whole, 2 * whole + 5]
    assert ends(lengths, np.full(3, B)) == [1, 2, 3]
    mixed = np.array([A, A, A, B, A, B, B, A])
    assert ends(lengths, mixed) == [3, 4, 5, 6, 7, 8]
    assert ends(lengths, mixed[:0]) == []


def test_a_few_short_ends_make_large_batches() -> None:
    """Single runners cost a message each, there and back."""
    lengths, sizes = LengthEstimate(), []
    for _ in range(8):
        observe(lengths, A, 10)
        sizes.append(lengths.batch_runners)
    assert sizes == [1, 3, 7, 15, 31, 63, 124, 240]


def test_what_nobody_has_measured_is_not_known_to_be_short() -> None:
    lengths = LengthEstimate()
    observe(lengths, A, 10, 10)
    assert lengths.known_fuel(np.array([A, A])) == 2 * (10 + RUNNER_FUEL)
    assert lengths.known_fuel(np.array([A, B])) == math.inf
    observe(lengths, B, 5_000)
    assert lengths.known_fuel(np.array([A, B])) == 5_010 + 2 * RUNNER_FUEL


def test_ends_of_several_entries_in_one_message_are_told_apart() -> None:
    lengths = LengthEstimate()
    lengths.observe(np.array([A, B, A]), np.array([10, 5000, 30]))
    assert (lengths.predicted(A), lengths.predicted(B)) == (20, 5000)


def test_of_very_many_entries_the_first_are_remembered() -> None:
    lengths = LengthEstimate(entries_kept=1)
    observe(lengths, A, 10)
    observe(lengths, B, 5000)
    assert lengths.predicted(A) == 10
    assert lengths.predicted(B) == lengths.all.mean


def test_where_lengths_drift_the_next_is_nearer_to_the_last_than_the_mean_is() -> None:
    """A slow wave, as along the rows of an uneven problem; the mean alone lags behind it."""
    series = [10_000 + 8_000 * math.sin(step / 3) for step in range(200)]
    found = Autoregression(series[0])
    errors, of_the_mean = [], []
    mean = series[0]
    for value in series[1:]:
        errors.append(abs(found.next - value))
        of_the_mean.append(abs(mean - value))
        found.observe(value, 1)
        mean += 0.2 * (value - mean)
    assert 0.5 < found.kept <= 0.9
    assert np.mean(errors[50:]) < 0.6 * np.mean(of_the_mean[50:])


def test_where_lengths_are_chance_the_mean_is_as_good() -> None:
    values = np.random.default_rng(3)
    found = Autoregression(100.0)
    for value in values.uniform(50, 150, 400).tolist():
        found.observe(value, 1)
    assert abs(found.kept) < 0.5
    assert 50 < found.next < 150


@given(
    entries=st.lists(st.sampled_from([A, B, 0x300]), max_size=40),
    lengths=st.lists(st.integers(0, 3 * BATCH_FUEL) | st.integers(0, 99), min_size=2, max_size=2),
)
@tried(100)
def test_batches_hold_everybody_once_and_are_no_longer_than_they_must(
    entries: list[int], lengths: list[int]
) -> None:
    estimate = LengthEstimate()
    for entry, length in zip((A, B), lengths, strict=True):
        observe(estimate, entry, length)
    found = ends(estimate, np.array(entries, np.int64))
    assert found == sorted(set(found))
    assert found[-1:] == [len(entries)][: len(entries)]
    for first, end in zip([0, *found], found, strict=False):
        fuel = sum(estimate.predicted(entry) + RUNNER_FUEL for entry in entries[first:end])
        assert end - first == 1 or fuel <= BATCH_FUEL + len(entries)
        assert end - first <= BATCH_RUNNERS_MAX
