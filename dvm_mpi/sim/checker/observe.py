"""From a recorded history to what a judge is given: cells, what was loaded and stored, sessions.

Bytes become cells by cutting at every bound of a recorded load or store, and at pages, which is
where a torn commit would tear. Of the protocol's time only one thing is used: which commits the
machine says that a loser lost to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.disa.image import Image
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.sim.checker.observation import Cell, Observations, ObservedAttempt, Session
from dvm_mpi.sim.history import Content, EndedAttempt, History


def observe(
    history: History, image: Image, inputs: Sequence[tuple[int, bytes]] = ()
) -> tuple[Observations, list[int]]:
    """Return what a run's attempts saw and left, and the order of commits that it claims.

    The history tells the content of loads (`LoadTracking.CONTENT`). `inputs` are `(address, bytes)`
    of what was loaded beside the image.
    """
    order = [number for number, _ in history.orders]
    committed = set(order)
    # Others were given up on: nobody keeps a snapshot for them, and nothing of theirs counts.
    finished = committed | {number for number, _ in history.losses}
    cutter = _Cutter(history.ended.values())
    attempts = [
        ObservedAttempt(
            number,
            {
                cell: value
                for cell, value in cutter.cut(ended.loads if number in finished else ())
                if value is not None
            },
            dict(cutter.cut(ended.stores)),
            number in committed,
        )
        for number, ended in sorted(history.ended.items())
    ]
    loaded = _Memory()
    for section in image.sections:
        loaded.store(section.start, section.data)
    for address, data in inputs:
        loaded.store(address, data)
    left = _Memory(history.pages)
    is_whole = not history.ended_early and history.has_all_pages
    observations = Observations(
        attempts,
        [*_children(history), *_instances(history), *_retries(history)],
        {cell: loaded.read(cell) for cell in cutter.used},
        {cell: left.read(cell) for cell in cutter.used} if is_whole else {},
    )
    return observations, order


# --- cells --------------------------------------------------------------------------------------
class _Cutter:
    """Cuts runs of bytes at all places where one of the history begins or ends."""

    def __init__(self, ended: Iterable[EndedAttempt]) -> None:
        self.used: set[Cell] = set()
        bounds = {
            bound
            for attempt in ended
            for start, length, _ in (*attempt.loads, *attempt.stores)
            for bound in (start, start + length, *_page_bounds(start, start + length))
        }
        self._bounds: NDArray[np.int64] = np.array(sorted(bounds), dtype=np.int64)

    def cut(self, contents: Sequence[Content]) -> Iterator[tuple[Cell, bytes | None]]:
        """Yield the cells that runs are made of, with what they hold, None if that is unknown."""
        for start, length, data in contents:
            first, end = np.searchsorted(self._bounds, (start, start + length)).tolist()
            bounds = self._bounds[first : end + 1].tolist()
            for begins, ends in pairwise(bounds):
                cell = begins, ends - begins
                self.used.add(cell)
                yield cell, None if data is None else data[begins - start : ends - start]


def _page_bounds(start: int, end: int) -> range:
    """Return the bounds of pages within a run."""
    return range((start // PAGE_BYTES + 1) * PAGE_BYTES, end, PAGE_BYTES)


class _Memory:
    """Bytes by page; what nobody stored is zero."""

    def __init__(self, pages: dict[int, bytes] | None = None) -> None:
        self._pages: dict[int, bytes | bytearray] = dict(pages or {})

    def store(self, start: int, data: bytes) -> None:
        """Lay bytes over what is there."""
        for at in (0, *(bound - start for bound in _page_bounds(start, start + len(data)))):
            page, offset = divmod(start + at, PAGE_BYTES)
            piece = data[at : at + PAGE_BYTES - offset]
            held = bytearray(self._pages.get(page, bytes(PAGE_BYTES)))
            held[offset : offset + len(piece)] = piece
            self._pages[page] = held

    def read(self, cell: Cell) -> bytes:
        """Return the bytes of a cell, which lies within one page."""
        page, offset = divmod(cell[0], PAGE_BYTES)
        held = self._pages.get(page)
        return bytes(cell[1]) if held is None else bytes(held[offset : offset + cell[1]])


# --- sessions -----------------------------------------------------------------------------------
def _children(history: History) -> Iterator[Session]:
    parents = {
        child.fact("id"): number
        for number, _ in history.orders
        for child in history.ended[number].children
    }
    for number, given in history.given.items():
        if given.id in parents:
            yield Session(parents[given.id], number, "child after parent")


def _instances(history: History) -> Iterator[Session]:
    """Yield that instances, and their retries, come after what woke them."""
    following = _following_attempts(history)
    for writer, first in history.wakings:
        attempt: int | None = first
        while attempt is not None:
            yield Session(writer, attempt, "instance after what woke it")
            attempt = following.get(attempt)


def _retries(history: History) -> Iterator[Session]:
    """Yield that a retry comes after the commits that touched what the loser touched."""
    following = _following_attempts(history)
    winners: dict[int, list[int]] = {}
    for number, epoch in history.orders:
        winners.setdefault(epoch, []).append(number)
    for loser, epoch in history.losses:
        retry = following.get(loser)
        ended = history.ended[loser]
        for winner in winners.get(epoch, ()) if retry is not None else ():
            if _meet(history.ended[winner].stores, (*ended.stores, *ended.loads)):
                assert retry is not None
                yield Session(winner, retry, "retry after what it lost to")


def _following_attempts(history: History) -> dict[int, int]:
    """Return the next attempt of each runner whose attempt lost."""
    lost = {number for number, _ in history.losses}
    following: dict[int, int] = {}
    latest: dict[int, int] = {}
    for number, given in sorted(history.given.items()):
        before = latest.get(given.runner)
        if before in lost:
            following[before] = number
        latest[given.runner] = number
    return following


def _meet(left: Iterable[Content], right: Sequence[Content]) -> bool:
    return any(
        start < other + count and other < start + length
        for start, length, _ in left
        for other, count, _ in right
    )
