"""Shared memory alone: deciding conflicts, and applying epochs at a home, beside memcpy."""

from __future__ import annotations

import time

import numpy as np

from dvm_mpi.dsm.conflict import ConflictSet
from dvm_mpi.dsm.frames import FramePool, reserve_frames
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import Home
from dvm_mpi.dsm.messages import RUN, TOKEN, ApplyRequested
from dvm_mpi.layout import DATA_START, PAGE_BYTES, RANGE

#: Records of one batch, each with one run of eight bytes.
BATCH_RECORDS = 4_096
#: Batches of one sample.
BATCHES = 20
#: Bytes that one epoch stores at a home, in whole pages.
APPLY_BYTES = 32 << 20
#: Stores of eight bytes in one epoch, each into a page of its own.
SMALL_STORES = 8_192


class Conflicts:
    """A conflict set with a history of `range_count` ranges, none of which can be joined."""

    def __init__(self, range_count: int) -> None:
        self._random = np.random.default_rng(range_count)
        self._range_count = range_count
        self._set = ConflictSet(2 * range_count)
        self._epoch = 1
        for first in range(0, range_count, BATCH_RECORDS):
            self._resolve(np.arange(first, min(first + BATCH_RECORDS, range_count)))

    def _resolve(self, words: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        """Resolve a batch that stores words of the history; return its seconds."""
        runs = np.empty(len(words), RANGE)
        # Every other word: neighbours never touch, so the history never grows together.
        runs["start"], runs["length"] = DATA_START + 16 * words, 8
        snapshots = np.full(len(words), self._epoch)
        offsets = np.arange(len(words) + 1)
        enter = np.ones(len(words), bool)
        self._epoch += 1
        began = time.perf_counter()
        against = self._set.resolve(snapshots, offsets, runs, enter, self._epoch)
        seconds = time.perf_counter() - began
        assert not against.any(), "a record lost that should not"
        return seconds

    def records_per_second(self) -> float:
        """Return the rate at which records at random places are decided and entered."""
        seconds = 0.0
        count = min(BATCH_RECORDS, self._range_count // 2)
        for _ in range(BATCHES):
            words = self._random.choice(self._range_count, count, replace=False)
            seconds += self._resolve(words)
        assert self._set.range_count == self._range_count
        return BATCHES * count / seconds


class Applying:
    """One home, which epochs rewrite."""

    def __init__(self) -> None:
        pages = APPLY_BYTES // PAGE_BYTES
        self._data = np.resize(np.arange(251, dtype=np.uint8), APPLY_BYTES)
        pool = FramePool(reserve_frames(3 * max(pages, SMALL_STORES)))
        self._home = Home(0, Geometry(1, 16), pool, np.zeros((1, PAGE_BYTES), np.uint8))
        self._epoch = 0
        self._target = np.zeros(APPLY_BYTES, np.uint8)
        # The first epochs touch fresh memory, which is the system's time and not ours.
        for _ in range(3):
            self.whole_pages_gb_per_second()

    def _apply(self, stride: int, length: int, count: int) -> float:
        runs = np.empty(count, RUN)
        runs["start"] = DATA_START + stride * np.arange(count)
        runs["length"] = length
        runs["data_first"] = length * np.arange(count)
        tokens = np.zeros(count, TOKEN)
        tokens["run_first"], tokens["run_count"] = np.arange(count), 1
        self._epoch += 1
        visible = self._epoch - 1
        pins = np.zeros(0, np.int64)
        request = ApplyRequested(self._epoch, visible, pins, tokens, runs, self._data)
        began = time.perf_counter()
        answers = self._home.handle(request)
        seconds = time.perf_counter() - began
        assert len(answers) == 1, "the epoch was not applied"
        return seconds

    def whole_pages_gb_per_second(self) -> float:
        """Return the rate of stores of 64 KiB each that cover all of their pages."""
        piece = 16 * PAGE_BYTES
        return APPLY_BYTES / 1e9 / self._apply(piece, piece, APPLY_BYTES // piece)

    def small_stores_per_second(self) -> float:
        """Return the rate of stores of eight bytes, each of which copies a page."""
        return SMALL_STORES / self._apply(PAGE_BYTES, 8, SMALL_STORES)

    def memcpy_gb_per_second(self) -> float:
        """Return the rate of one plain copy of as many bytes into memory in use."""
        began = time.perf_counter()
        np.copyto(self._target, self._data)
        return APPLY_BYTES / 1e9 / (time.perf_counter() - began)
