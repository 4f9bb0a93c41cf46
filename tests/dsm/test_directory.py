"""The directory beside one dictionary of versions per page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi.dsm.directory import Directory
from dvm_mpi.dsm.messages import NO_FRAME
from dvm_mpi.errors import LimitError

FRAMES = 4_000


class NaiveDirectory:
    """Every version that was not collected, with the epoch that superseded it."""

    def __init__(self):
        self.versions = {}  # page -> [(epoch, frame)], ascending
        self.superseded = {}  # frame -> epoch

    def insert(self, epoch, pages, frames):
        for page, frame in zip(pages, frames, strict=True):
            chain = self.versions.setdefault(page, [])
            if chain:
                self.superseded[chain[-1][1]] = epoch
            chain.append((epoch, frame))
            self.superseded.pop(frame, None)

    def lookup(self, page, snapshot):
        chain = self.versions.get(page, [])
        held = [version for version in chain if version[0] <= snapshot]
        if held:
            epoch, frame = held[-1]
            return frame, epoch, self.superseded.get(frame, 0)
        return NO_FRAME, 0, chain[0][0] if chain else 0

    def collect(self, visible, pins):
        gone = []
        for page, chain in self.versions.items():
            kept = []
            for epoch, frame in chain:
                end = self.superseded.get(frame)
                if (
                    end is not None
                    and end <= visible
                    and not any(epoch <= pin < end for pin in pins)
                ):
                    gone.append(frame)
                else:
                    kept.append((epoch, frame))
            self.versions[page] = kept
        return gone


@pytest.mark.parametrize("seed", range(8))
def test_agrees_with_naive_versions(seed):
    """Epochs become visible with a lag; pins come at what is visible and go at random."""
    random = np.random.default_rng(seed)
    real, naive = Directory(FRAMES), NaiveDirectory()
    free = set(range(FRAMES))
    epoch, visible, pins = 1, 1, []
    for _ in range(250):
        epoch += 1
        pages = random.choice(12, int(random.integers(0, 6)), replace=False) * 1_000
        frames = np.array(sorted(free)[: pages.size], np.int64)
        free -= set(frames.tolist())
        real.insert(epoch, pages, frames)
        naive.insert(epoch, pages.tolist(), frames.tolist())
        visible = int(random.integers(visible, epoch + 1))
        pins += [visible] * int(random.integers(0, 3))
        pins = [pin for pin in pins if random.integers(8)]
        if random.integers(2):
            gone = real.collect(visible, np.unique(np.array(pins, np.int64)))
            assert sorted(gone.tolist()) == sorted(naive.collect(visible, pins))
            free |= set(gone.tolist())
        real.check_invariants()
        asked = np.arange(14) * 1_000
        for snapshot in {visible, *pins}:
            frames, versions, superseding = real.lookup(asked, snapshot)
            for row, page in enumerate(asked.tolist()):
                frame, version, next_epoch = naive.lookup(page, snapshot)
                assert (frames[row], versions[row]) == (frame, version)
                assert superseding[row] == next_epoch or (
                    frame == NO_FRAME and superseding[row] > snapshot
                )


def insert(directory, epoch, page, frame):
    directory.insert(epoch, np.array([page]), np.array([frame]))


# fmt: off
GARBAGE = [
    # a version of epoch 3, superseded at 6       visible  pins       freed
    ("nobody reads it",                           6,       [],        True),
    ("not yet visible that it is superseded",     5,       [],        False),
    ("a pin at its epoch",                        9,       [3],       False),
    ("a pin before the superseding epoch",        9,       [5],       False),
    ("a pin at the superseding epoch",            9,       [6],       True),
    ("pins on both sides, none within",           9,       [2, 6, 8], True),
    ("one pin within among others",               9,       [2, 4, 8], False),
]
# fmt: on


@pytest.mark.parametrize(
    ("visible", "pins", "freed"), [g[1:] for g in GARBAGE], ids=[g[0] for g in GARBAGE]
)
def test_what_is_garbage(visible, pins, freed):
    directory = Directory(4)
    insert(directory, 3, 50, 0)
    insert(directory, 6, 50, 1)
    assert directory.collect(visible, np.array(pins, np.int64)).tolist() == ([0] if freed else [])
    directory.check_invariants()


def test_what_a_pin_held_is_freed_when_it_goes_and_not_looked_at_before(
    monkeypatch: pytest.MonkeyPatch,
):
    """One old runner holds every page for 200 epochs; its frames are examined at its end."""
    directory = Directory(10_000)
    pages = np.arange(1_000)
    directory.insert(2, pages, pages)
    directory.insert(3, pages, pages + 1_000)
    assert directory.collect(3, np.array([2])).size == 0
    examined: list[int] = []
    judge = directory._is_garbage

    def count_and_judge(epochs: NDArray[np.int64], *rest: Any) -> Any:
        examined.append(epochs.size)
        return judge(epochs, *rest)

    monkeypatch.setattr(directory, "_is_garbage", count_and_judge)
    for epoch in range(4, 204):
        insert(directory, epoch, 5_000, 9_000 + epoch % 2)
        directory.collect(epoch, np.array([2, epoch]))
        directory.check_invariants()
    assert sum(examined) <= 200
    assert sorted(directory.collect(204, np.array([203])).tolist()) == pages.tolist()
    directory.check_invariants()


def test_the_superseding_epoch_is_known_after_that_version_is_gone():
    """A page changed at 5 and 9; the version of 5 was collected; the one of 3 still ends at 5."""
    directory = Directory(3)
    for frame, epoch in enumerate((3, 5, 9)):
        insert(directory, epoch, 7, frame)
    assert directory.collect(9, np.array([4])).tolist() == [1]
    frames, versions, superseding = directory.lookup(np.array([7]), 4)
    assert (frames[0], versions[0], superseding[0]) == (0, 3, 5)


def test_inserting_an_old_epoch_is_our_fault():
    directory = Directory(4)
    insert(directory, 3, 50, 0)
    with pytest.raises(AssertionError, match="not newer"):
        insert(directory, 3, 50, 1)


def test_a_directory_beyond_the_memory_is_a_limit():
    with pytest.raises(LimitError, match="no room for the directory of"):
        Directory(1 << 58)
