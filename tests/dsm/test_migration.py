"""When a block moves: by who stored how much into it, several times in a row."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import RUN, TOKEN
from dvm_mpi.dsm.migration import Limits, Migration
from dvm_mpi.layout import PAGE_BYTES

HOMES = 4
BLOCK = 2 * PAGE_BYTES
#: Block 5 is at home 1.
WATCHED = 5
LIMITS = Limits(bytes_min=64, epochs=3, horizon=8, share_percent=75)
NOBODY = np.zeros(0, np.int64)


class Watched:
    """A migration whose epochs are visible as soon as they are closed."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.geometry = Geometry(HOMES, 2)
        self.migration = Migration(self.geometry, limits)
        self.epoch = 10

    def store(self, *stores: tuple[int, int, int]) -> None:
        """Let workers store so many bytes into blocks: (worker, block, bytes)."""
        tokens = [(worker, 0, 0, row, 1) for row, (worker, _, _) in enumerate(stores)]
        runs = [(block * BLOCK + 8, size, 0) for _, block, size in stores]
        self.migration.note(np.array(tokens, TOKEN), np.array(runs, RUN))

    def close(self, *stores: tuple[int, int, int], **given: int) -> list[tuple[int, int]]:
        """Close an epoch with these stores; move, and return, what is to move: (block, home)."""
        if stores:
            self.store(*stores)
        self.epoch += 1
        visible = given.get("visible", self.epoch)
        blocks, homes = self.migration.decide(visible, given.get("oldest", visible), NOBODY)
        self.geometry.move(self.epoch + 1, blocks, homes)
        self.epoch += blocks.size > 0
        return list(zip(blocks.tolist(), homes.tolist(), strict=True))


def test_a_block_moves_to_who_stored_most_of_it_three_times_in_a_row() -> None:
    watched = Watched()
    stores = ((3, WATCHED, 4_000), (1, WATCHED, 500))
    assert watched.close(*stores) == watched.close(*stores) == []
    assert watched.close() == [], "an epoch without stores neither counts nor breaks the row"
    assert watched.close(*stores) == [(WATCHED, 3)]
    assert watched.geometry.home_of(np.array([2 * WATCHED])).tolist() == [3]
    assert [watched.close(*stores) for _ in range(20)] == [[]] * 20


# fmt: off
STAYS = {
    "stored to by its own home":         [[(1, WATCHED, 4_000)]] * 9,
    "shared by halves":                  [[(3, WATCHED, 4_000), (2, WATCHED, 3_000)]] * 9,
    "in turn":                           [[(2, WATCHED, 4_000)], [(3, WATCHED, 4_000)]] * 9,
    "twice, and then by another":        [[(3, WATCHED, 4_000)]] * 2 + [[(2, WATCHED, 4_000)]] * 2,
    "too little for what it costs":      [[(3, WATCHED, 900)]] * 9,
    "in small write sets":               [[(3, WATCHED, 60)] * 100] * 9,
}
# fmt: on


@pytest.mark.parametrize("epochs", STAYS.values(), ids=STAYS)
def test_a_block_stays(epochs: list[list[tuple[int, int, int]]]) -> None:
    watched = Watched()
    assert [watched.close(*stores) for stores in epochs] == [[]] * len(epochs)


def test_what_has_moved_moves_again_only_after_twice_as_long() -> None:
    watched = Watched()
    for _ in range(3):
        moved = watched.close((3, WATCHED, 4_000))
    assert moved == [(WATCHED, 3)]
    found = [watched.close((2, WATCHED, 4_000)) for _ in range(6)]
    assert found == [[]] * 5 + [[(WATCHED, 2)]]
    found = [watched.close((3, WATCHED, 4_000)) for _ in range(12)]
    assert found == [[]] * 11 + [[(WATCHED, 3)]]


def test_a_row_of_epochs_that_ends_makes_the_next_one_twice_as_long() -> None:
    watched = Watched()
    stores = [(3, WATCHED, 4_000)], [(2, WATCHED, 4_000)]
    found = [watched.close(*each) for each in (*stores[:1] * 2, *stores[1:] * 2)]
    # Two ended: four times as many are wanted now.
    found += [watched.close(*stores[0]) for _ in range(12)]
    assert found == [[]] * 15 + [[(WATCHED, 3)]]


def test_nothing_moves_before_the_last_move_is_visible_nor_under_an_older_snapshot() -> None:
    watched = Watched(replace(LIMITS, epochs=1, doublings_max=0))
    assert watched.close((3, WATCHED, 4_000)) == [(WATCHED, 3)]
    moved_at = watched.geometry.moves.newest
    assert watched.close((0, 6, 4_000), visible=moved_at - 1) == []
    assert watched.close((0, WATCHED, 4_000), oldest=moved_at - 1) == []
    # Another block has no past.
    assert watched.close((0, 6, 4_000), oldest=moved_at - 1) == [(6, 0)]
    assert watched.close((0, WATCHED, 4_000), oldest=moved_at) == [(WATCHED, 0)]


def test_a_home_takes_no_more_than_it_has_room_for() -> None:
    watched = Watched(replace(LIMITS, epochs=1, room_pages=4))
    stores = [(3, block, 4_000) for block in (4, 5, 6)]
    assert watched.close(*stores) == [(4, 3), (5, 3)]
    # What it gives away is room again.
    watched.close(*[(2, 7, 4_000)])
    assert watched.close((3, 6, 4_000)) == [(6, 3)]


def test_a_home_that_lacks_frames_takes_nothing() -> None:
    watched = Watched(replace(LIMITS, epochs=1))
    watched.store((3, WATCHED, 4_000))
    blocks, _ = watched.migration.decide(20, 20, np.array([3]))
    assert blocks.size == 0


def test_blocks_move_a_few_at_a_time_and_the_rest_when_they_are_stored_to_again() -> None:
    watched = Watched(replace(LIMITS, epochs=1, blocks_at_once=2))
    stores = [(3, block, 4_000) for block in (0, 1, 2, 4)]
    assert watched.close(*stores) == [(0, 3), (1, 3)]
    assert watched.close(*stores) == [(2, 3), (4, 3)]


def test_more_blocks_than_are_watched_begin_anew() -> None:
    watched = Watched(replace(LIMITS, blocks_max=8))
    for _ in range(2):
        watched.close((3, WATCHED, 4_000))
    for block in range(20, 30):
        watched.close((3, block, 4_000))
    assert watched.close((3, WATCHED, 4_000)) == []
