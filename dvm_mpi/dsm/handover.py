"""What moves between homes when blocks of pages move: pages, and stores that were staged too early.

The coordinator says where bytes lie that were staged at a page's old home (`passing`); an old home
passes them on, and a new one waits for all of them (`Handover`).

Source: docs/design/0021-migration.md.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm import byte_copy, ranges
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import RUN, BetweenHomes, BlocksMoved, PagesHanded, StoresPassed
from dvm_mpi.dsm.ranges import distinct
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]
#: Runs, and the bytes that they point into.
Part = tuple[NDArray[Any], Bytes]
#: A write set: its worker and serial.
Key = tuple[int, int]
#: To which home something is said, and what.
Told = tuple[int, BetweenHomes]

#: `data_first` of a piece whose bytes are elsewhere.
_NOWHERE: Final = -1


def passing(
    geometry: Geometry, tokens: NDArray[Any], runs: NDArray[Any], epoch: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Put a token behind each staged one some of whose pages have moved since it was staged.

    Parameters
    ----------
    tokens, runs
        messages.TOKEN rows in commit order, and the RUN rows that they name.
    epoch
        Into which they are committed.

    Returns
    -------
    Both again: new tokens have the negative epoch as of which their bytes were staged, and runs of
    their own, without bytes, for just the pieces that another home has by now.
    """
    asks = np.flatnonzero((tokens["staged"] > 0) & (tokens["staged"] < geometry.moves.newest))
    added, positions, pieces_added = [], [], [runs]
    run_count = runs.size
    for position in asks.tolist():
        token = tokens[position]
        first, count = int(token["run_first"]), int(token["run_count"])
        pieces, _, before = geometry.cut(runs[first : first + count], int(token["staged"]))
        has_moved = geometry.home_of(pieces["start"] >> PAGE_SHIFT, epoch) != before
        moved = pieces[has_moved]
        if moved.size == 0:
            continue
        moved["data_first"] = _NOWHERE
        token = tokens[position : position + 1].copy()
        token["staged"] *= -1
        token["run_first"], token["run_count"] = run_count, moved.size
        run_count += moved.size
        added.append(token)
        positions.append(position + 1)
        pieces_added.append(moved)
    if not added:
        return tokens, runs
    return np.insert(tokens, positions, np.concatenate(added)), np.concatenate(pieces_added)


class Handover:
    """What one home has got from others, or owes them.

    Parameters
    ----------
    index
        Of the home.
    geometry
        Where pages live, as far as this home has heard.
    """

    def __init__(self, index: int, geometry: Geometry) -> None:
        self._index = index
        self._geometry = geometry
        #: Pages that have come, by epoch and old home.
        self._pages: dict[tuple[int, int], PagesHanded] = {}
        #: Stores that others have passed on, and were not applied yet.
        self._passed: dict[Key, list[Part]] = {}
        #: Write sets of which parts are to be passed on when they are here, with their epochs.
        self._owed: dict[Key, int] = {}

    # --- pages ---------------------------------------------------------------------------------
    def leaving(self, event: BlocksMoved) -> list[tuple[int, Ints]]:
        """Return the pages that a move takes from here, by new home: those that may exist."""
        left = event.moved[self._before(event) == self._index]
        pages = (left[:, np.newaxis] * self._geometry.block_pages) + np.arange(
            self._geometry.block_pages
        )
        pages = pages.reshape(-1)
        return [
            (home, pages[rows]) for home, rows in self._geometry.group_pages(pages, event.epoch)
        ]

    def take_pages(self, event: PagesHanded) -> None:
        """Keep pages until it is their epoch's turn."""
        key = (event.epoch, event.home)
        assert key not in self._pages, "pages were handed over twice"
        assert event.content.size == event.pages.size * PAGE_BYTES
        self._pages[key] = event

    def lacks(self, event: BlocksMoved) -> list[int]:
        """Return the homes whose pages have not come."""
        return [home for home in self._sources(event) if (event.epoch, home) not in self._pages]

    def page_count(self, event: BlocksMoved) -> int:
        """Return how many pages come here by a move; all have come."""
        return sum(self._pages[event.epoch, home].pages.size for home in self._sources(event))

    def adopt(self, event: BlocksMoved) -> list[PagesHanded]:
        """Return, once, what has come by a move."""
        return [self._pages.pop((event.epoch, home)) for home in self._sources(event)]

    def _before(self, event: BlocksMoved) -> Ints:
        """Return the old homes of the blocks of a move."""
        return self._geometry.home_of(event.moved * self._geometry.block_pages, event.epoch - 1)

    def _sources(self, event: BlocksMoved) -> list[int]:
        homes: list[int] = distinct(self._before(event)[event.homes == self._index]).tolist()
        return homes

    # --- stores --------------------------------------------------------------------------------
    def note_tokens(self, tokens: NDArray[Any], epoch: int) -> None:
        """Note which write sets of an epoch are to be looked through for pages that have moved."""
        newest = self._geometry.moves.newest
        if newest == 0:
            return
        older = tokens[(tokens["staged"] > 0) & (tokens["staged"] < newest)]
        self._owed.update(dict.fromkeys(older[["worker", "serial"]].tolist(), epoch))

    @property
    def owed(self) -> list[Key]:
        """The write sets that are to be looked through when they are here."""
        return list(self._owed)

    def pass_on(self, key: Key, parts: list[Part]) -> tuple[list[Part], list[Told]]:
        """Divide a write set that is here as a whole: what stays, and what others are to get."""
        epoch = self._owed.pop(key)
        kept: list[Part] = []
        gone: dict[int, list[Part]] = {}
        for runs, data in parts:
            pieces, _, homes = self._geometry.cut(runs, epoch)
            for home in distinct(homes).tolist():
                part = byte_copy.gather(pieces[homes == home], data)
                (kept if home == self._index else gone.setdefault(home, [])).append(part)
        told: list[Told] = []
        for home, moved in gone.items():
            runs, data = _joined(moved)
            told.append((home, StoresPassed(*key, runs, data)))
        return (kept, told) if told else (parts, [])

    def take_stores(self, event: StoresPassed) -> None:
        """Keep stores that another home passes on."""
        self._passed.setdefault((event.worker, event.serial), []).append((event.runs, event.data))

    def has_stores(self, tokens: NDArray[Any], runs: NDArray[Any]) -> bool:
        """Say whether all that an epoch's tokens expect of others is here."""
        is_passed = tokens["staged"] < 0
        for token in tokens[is_passed] if is_passed.any() else ():
            first, count = int(token["run_first"]), int(token["run_count"])
            wanted = ranges.total_bytes(runs[first : first + count])
            if self._bytes_of((int(token["worker"]), int(token["serial"]))) < wanted:
                return False
        return True

    def stores(self, key: Key) -> list[Part]:
        """Return, once, what others have passed on of a write set."""
        return self._passed.pop(key)

    @property
    def held_bytes(self) -> int:
        """Bytes of pages and stores that have come and were not applied yet."""
        pages = sum(handed.content.size for handed in self._pages.values())
        return pages + sum(self._bytes_of(key) for key in self._passed)

    def _bytes_of(self, key: Key) -> int:
        return sum(data.size for _, data in self._passed.get(key, ()))


def _joined(parts: list[Part]) -> Part:
    """Return parts, each packed from its byte 0 on, as one."""
    runs = np.concatenate([np.empty(0, RUN), *(runs for runs, _ in parts)])
    runs["data_first"] = ranges.firsts_of(runs["length"])
    return runs, np.concatenate([data for _, data in parts])
