"""The directory beside one dictionary of versions per page."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.typing import NDArray

from dvm_mpi.dsm import page_loops
from dvm_mpi.dsm.directory import Directory
from dvm_mpi.dsm.messages import NO_FRAME
from dvm_mpi.errors import LimitError
from tests.properties import tried

FRAMES = 60
PAGES = 1_000 * np.arange(8)


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


class DirectoryBesideVersions(RuleBasedStateMachine):
    """Epochs become visible with a lag; pins come at what is visible, and go in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.real, self.naive = Directory(FRAMES), NaiveDirectory()
        self.free = list(range(FRAMES))
        self.epoch, self.visible, self.pins = 1, 1, []

    @rule(rows=st.sets(st.integers(0, len(PAGES) - 2), min_size=1, max_size=5))
    def apply(self, rows: set[int]) -> None:
        """Enter an epoch, after a look for garbage, as a home does."""
        self.collect()
        self.epoch += 1
        pages = PAGES[sorted(rows)][: len(self.free)]
        frames, self.free = self.free[: pages.size], self.free[pages.size :]
        self.real.insert(self.epoch, pages, np.array(frames, np.int64))
        self.naive.insert(self.epoch, pages.tolist(), frames)

    @rule(lag=st.integers(0, 2), pins=st.integers(0, 2))
    def publish(self, lag: int, pins: int) -> None:
        self.visible = max(self.visible, self.epoch - lag)
        self.pins += [self.visible] * pins

    @precondition(lambda self: self.pins)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        self.pins.remove(data.draw(st.sampled_from(self.pins)))

    def collect(self) -> None:
        gone = self.real.collect(self.visible, np.unique(np.array(self.pins, np.int64))).tolist()
        assert sorted(gone) == sorted(self.naive.collect(self.visible, self.pins))
        self.free += gone

    @invariant()
    def agree(self) -> None:
        self.real.check_invariants()
        assert self.real.version_count == FRAMES - len(self.free)
        for snapshot in {self.visible, *self.pins}:
            found = zip(*(part.tolist() for part in self.real.lookup(PAGES, snapshot)), strict=True)
            for page, (frame, version, superseding) in zip(PAGES.tolist(), found, strict=True):
                expected = self.naive.lookup(page, snapshot)
                assert (frame, version) == expected[:2]
                # Of a page without a version then, any later epoch may be told.
                assert superseding == expected[2] or (frame == NO_FRAME and superseding > snapshot)


TestDirectoryBesideVersions = DirectoryBesideVersions.TestCase
TestDirectoryBesideVersions.settings = tried(60, steps=20)


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

    def count_and_sift(frames: NDArray[np.int64], *rest: Any) -> Any:
        examined.append(frames.size)
        return page_loops.sift(frames, *rest)

    monkeypatch.setattr("dvm_mpi.dsm.directory.sift", count_and_sift)
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
