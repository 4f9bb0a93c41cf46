"""Orders of events: what is kept, what is free, and that a seed gives one of them."""

from __future__ import annotations

import random

import pytest

from dvm_mpi.control.delivery import Delivery, InOrder, Part, Shuffled
from dvm_mpi.control.messages import LeaseRequested

PARTS: tuple[Part, ...] = (("coordinator", 0), ("worker", 0), ("worker", 1), ("home", 0))


def test_lengths_are_kept_where_they_decide_something() -> None:
    """They are the usual ones, or drawn from a seed, or a message comes after the slice."""
    long, told = InOrder(1_000), []
    told.append(long.may_lengthen)
    long.post(PARTS[0], PARTS[1], message(0))
    told.append(long.may_lengthen)
    long.next([0])
    told.append(long.may_lengthen)
    assert told == [True, False, True]
    assert not InOrder().may_lengthen
    assert not Shuffled(1, 1_000).may_lengthen


def message(number: int) -> LeaseRequested:
    return LeaseRequested(number, 0, 0)


def trace(delivery: Delivery, seed: int) -> list[tuple[Part, Part, int] | int]:
    """Post and take 300 times as `seed` says; tell what came out, with its source."""
    chance = random.Random(seed)
    sources: dict[int, tuple[Part, Part]] = {}
    told: list[tuple[Part, Part, int] | int] = []
    for number in range(300):
        source, target = chance.sample(PARTS, 2)
        sources[number] = (source, target)
        delivery.post(source, target, message(number))
        taken = (delivery.next([0, 1]) for _ in range(chance.randrange(3)))
        told += [seen(event, sources) for event in taken]
    while (event := delivery.next([])) is not None:
        told.append(seen(event, sources))
    return told


def seen(
    taken: tuple[Part, object] | int | None, sources: dict[int, tuple[Part, Part]]
) -> tuple[Part, Part, int] | int:
    if isinstance(taken, int):
        return taken
    assert taken is not None
    target, got = taken
    assert isinstance(got, LeaseRequested)
    source, meant = sources[got.worker]
    assert meant == target
    return source, target, got.worker


@pytest.mark.parametrize("seed", range(5))
def test_messages_of_a_pair_keep_their_order_and_none_is_lost(seed: int) -> None:
    for delivery in (InOrder(), Shuffled(seed, 1000)):
        told = [entry for entry in trace(delivery, seed) if not isinstance(entry, int)]
        assert sorted(number for _, _, number in told) == list(range(300))
        for pair in {(source, target) for source, target, _ in told}:
            numbers = [n for source, target, n in told if (source, target) == pair]
            assert numbers == sorted(numbers)


def test_one_seed_is_one_order() -> None:
    assert trace(Shuffled(3, 1000), 1) == trace(Shuffled(3, 1000), 1)
    assert trace(Shuffled(3, 1000), 1) != trace(Shuffled(4, 1000), 1)


def test_shuffling_mixes_pairs_and_slices() -> None:
    """Between messages of other pairs, and between slices, everything must be possible."""
    told = trace(Shuffled(0, 1000), 1)
    numbers = [entry[2] for entry in told if not isinstance(entry, int)]
    assert numbers != sorted(numbers)
    assert {entry for entry in told if isinstance(entry, int)} == {0, 1}


def test_in_order_delivers_first_and_then_runs_in_turn() -> None:
    delivery = InOrder()
    delivery.post(PARTS[1], PARTS[0], message(7))
    delivery.post(PARTS[2], PARTS[0], message(8))
    taken = [delivery.next([0, 2]) for _ in range(5)]
    assert taken[:2] == [(PARTS[0], message(7)), (PARTS[0], message(8))]
    assert taken[2:] == [0, 2, 0]
    assert delivery.next([1]) == 1
    assert delivery.next([]) is None
    assert delivery.slice_fuel is None


def test_slices_are_short_and_long() -> None:
    delivery = Shuffled(1, 1000)
    drawn = []
    for _ in range(300):
        fuel = delivery.slice_fuel
        assert fuel is not None
        drawn.append(fuel)
    assert min(drawn) <= 3
    assert 500 <= max(drawn) <= 1001
