from __future__ import annotations

from dvm_mpi.config import HOT_SAMPLES, PLACE_BYTES, SAMPLE_FUEL, SAMPLE_FUEL_MAX
from dvm_mpi.engine.tiers import Tiers
from dvm_mpi.layout import TEXT_START


def test_samples_go_on_from_batch_to_batch() -> None:
    tiers = Tiers()
    for _ in range(SAMPLE_FUEL // 100):
        tiers.ran(100)
        assert not tiers.is_due
    tiers.ran(100)
    assert tiers.is_due
    tiers.sample(TEXT_START)
    assert not tiers.is_due


def test_a_place_is_hot_after_enough_samples() -> None:
    """Anywhere in it; what is elsewhere does not count."""
    tiers = Tiers()
    inside, elsewhere = TEXT_START, TEXT_START + PLACE_BYTES
    asked = [
        (index, pc)
        for index in range(HOT_SAMPLES)
        for pc in (inside + index % PLACE_BYTES, elsewhere + 7)
        if tiers.sample(pc)
    ]
    assert asked == [
        (HOT_SAMPLES - 1, inside + (HOT_SAMPLES - 1) % PLACE_BYTES),
        (HOT_SAMPLES - 1, elsewhere + 7),
    ]


def test_a_loop_that_lies_in_many_places_is_hot_soon() -> None:
    """That of k-means with 100 centroids lies in 56: each of them is hot far later."""
    tiers = Tiers()
    addresses = range(TEXT_START, TEXT_START + 56 * PLACE_BYTES, PLACE_BYTES)
    samples = [pc for _ in range(HOT_SAMPLES) for pc in addresses]
    first = next(count for count, pc in enumerate(samples, 1) if tiers.sample(pc))
    assert first <= 4 * HOT_SAMPLES
    assert first > HOT_SAMPLES


def test_what_stays_hot_is_asked_for_again_ever_more_rarely() -> None:
    """Of several loops in a place, the one that a sample hits is asked for."""
    tiers = Tiers()
    asked = [n for n in range(1, 20 * HOT_SAMPLES) if tiers.sample(TEXT_START)]
    assert asked == [HOT_SAMPLES * times for times in (1, 2, 4, 8, 16)]


def test_translated_code_is_interrupted_less_and_less() -> None:
    tiers = Tiers()
    tiers.cover([TEXT_START])
    intervals = []
    for _ in range(20):
        assert not tiers.sample(TEXT_START)
        intervals.append(tiers.left)
    assert intervals[:3] == [2 * SAMPLE_FUEL, 4 * SAMPLE_FUEL, 8 * SAMPLE_FUEL]
    assert intervals[-1] == SAMPLE_FUEL_MAX
    tiers.sample(TEXT_START + 1)
    assert tiers.left == SAMPLE_FUEL
