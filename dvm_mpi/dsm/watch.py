"""Which watchers a commit wakes: watched ranges, and the search for those that were stored into.

Templates are numbers here; whether one is armed, and since when, is the scheduler's matter.

Source: docs/memory-model.md, "Watchers".
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import RUNNERS_MAX
from dvm_mpi.dsm import watch_tree
from dvm_mpi.dsm.hashing import IntMap
from dvm_mpi.dsm.ranges import begins_of
from dvm_mpi.dsm.rows import reserved, words_of
from dvm_mpi.dsm.watch_tree import (
    BELOW_ALL,
    END,
    FIELDS,
    LEFT,
    NEXT,
    NO_NODE,
    PATH_NODES_MAX,
    PRIORITY,
    REACH,
    RIGHT,
    START,
    TEMPLATE,
)

Ints = NDArray[np.int64]

NODES_AT_START: Final = 64
PAIRS_AT_START: Final = 256
#: What the map of templates says of one that is not there.
NOT_WATCHING: Final = -1


class WatchIndex:
    """The watched ranges of all templates; about 100 bytes for each range."""

    #: The tree that `watch_tree` describes.
    _nodes: Ints
    #: First node of each template, along NEXT; NO_NODE if it watches no byte.
    _first: IntMap
    #: First free node, along NEXT.
    _free: int
    #: Nodes in use.
    _count: int
    #: Ranges ever added, from which priorities are mixed.
    _serial: int

    def __init__(self) -> None:
        #: Room for nodes; what was never used takes no memory.
        self._reserved = np.zeros((1, FIELDS), np.int64)
        self._nodes = self._reserved
        self._nodes[NO_NODE, REACH] = BELOW_ALL
        self._first = IntMap()
        self._free = NO_NODE
        self._count = 0
        self._serial = 0
        self._path = np.empty(PATH_NODES_MAX, np.int64)
        self._grow(NODES_AT_START)

    def __len__(self) -> int:
        """Return the number of templates."""
        return len(self._first)

    @property
    def range_count(self) -> int:
        """Number of watched ranges, empty ones left out."""
        return self._count

    def add(self, template: int, watched: NDArray[Any]) -> None:
        """Watch the bytes of `watched` (layout.RANGE) for a template that is new."""
        self.add_many(np.array([template]), np.array([watched.size]), watched)

    def add_many(self, templates: Ints, counts: Ints, watched: NDArray[Any]) -> None:
        """Watch for many templates, all of them new.

        `watched` holds the layout.RANGE rows of one template after the other, `counts` of each;
        ranges may overlap and may be empty.
        """
        assert np.all(self._first.get(templates, NOT_WATCHING) == NOT_WATCHING), "watches already"
        assert int(counts.sum()) == watched.size
        needed = self._count + watched.size + 1
        if needed > self._nodes.shape[0]:
            self._grow(max(2 * self._nodes.shape[0], needed))
        firsts = np.empty(templates.size, np.int64)
        self._free = watch_tree.add_each(
            self._nodes,
            np.ascontiguousarray(templates, np.int64),
            np.ascontiguousarray(counts, np.int64),
            np.ascontiguousarray(watched["start"]),
            np.ascontiguousarray(watched["length"]),
            self._free,
            self._serial,
            self._path,
            firsts,
        )
        self._first.put(templates, firsts)
        self._count += int((watched["length"] > 0).sum())
        self._serial += watched.size

    def remove(self, template: int) -> None:
        """Stop watching for a template."""
        self.remove_many(np.array([template]))

    def remove_many(self, templates: Ints) -> None:
        """Stop watching for many templates, each named once."""
        firsts = self._first.get(templates, NOT_WATCHING)
        assert np.all(firsts != NOT_WATCHING), "a template does not watch"
        erased = np.zeros(1, np.int64)
        self._free = watch_tree.remove_each(self._nodes, firsts, self._free, self._path, erased)
        self._count -= int(erased[0])
        self._first.remove(templates)

    def match(self, offsets: Ints, runs: NDArray[Any]) -> tuple[Ints, Ints]:
        """Find the templates that watch a stored byte.

        Parameters
        ----------
        offsets
            (n + 1,) record i stored the rows `runs[offsets[i] : offsets[i + 1]]`.
        runs
            Rows with `start` and `length`; any order, empty ones count for nothing.

        Returns
        -------
        Records (their positions) and templates, pair by pair: each pair once, sorted by record and
        then by template.
        """
        offsets = np.ascontiguousarray(offsets, np.int64)
        words = words_of(runs)
        found, pairs = PAIRS_AT_START, np.empty((2, 0), np.int64)
        while found > pairs.shape[1]:
            # A search that found more than there was room for is done again, with enough of it.
            pairs = np.empty((2, found), np.int64)
            found = watch_tree.match(self._nodes, offsets, words, self._path, pairs)
        records, templates = pairs[:, :found]
        if found <= 1:
            return records, templates
        order = np.lexsort((templates, records))
        records, templates = records[order], templates[order]
        kept = begins_of((records[1:] != records[:-1]) | (templates[1:] != templates[:-1]))
        if len(kept) == found:
            return records, templates
        return records[kept], templates[kept]

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        nodes = self._nodes
        assert nodes[NO_NODE, REACH] == BELOW_ALL
        seen: list[int] = []
        before: list[int] = []
        here = int(nodes[NO_NODE, LEFT])
        while here != NO_NODE or before:
            while here != NO_NODE:
                before.append(here)
                here = int(nodes[here, LEFT])
            seen.append(before.pop())
            here = int(nodes[seen[-1], RIGHT])
        for node in seen:
            left, right = int(nodes[node, LEFT]), int(nodes[node, RIGHT])
            reach = max(nodes[node, END], nodes[left, REACH], nodes[right, REACH])
            assert nodes[node, REACH] == reach
            for child in (left, right):
                assert child == NO_NODE or nodes[child, PRIORITY] <= nodes[node, PRIORITY]
        keys = [(int(nodes[node, START]), node) for node in seen]
        assert keys == sorted(keys)
        templates, firsts = self._first.items()
        chains = [self._chain(int(first)) for first in firsts]
        for template, chain in zip(templates, chains, strict=True):
            assert np.all(nodes[chain, TEMPLATE] == template)
        used = np.concatenate([np.empty(0, np.int64), *chains])
        assert sorted(seen) == sorted(used.tolist())
        assert len(seen) == self._count
        free = self._chain(self._free)
        assert sorted([*seen, *free.tolist()]) == list(range(1, nodes.shape[0]))

    def _chain(self, first: int) -> Ints:
        """Return the nodes from `first` on along NEXT."""
        chain = []
        while first != NO_NODE:
            chain.append(first)
            first = int(self._nodes[first, NEXT])
        return np.array(chain, np.int64)

    def _grow(self, capacity: int) -> None:
        """Have `capacity` rows; the new ones head the list of free nodes, lowest first."""
        old = self._nodes.shape[0]
        if capacity > self._reserved.shape[0]:
            room = reserved(np.int64, max(capacity, RUNNERS_MAX) * FIELDS).reshape(-1, FIELDS)
            room[:old] = self._nodes
            self._reserved = room
        nodes = self._reserved[:capacity]
        nodes[old:, NEXT] = np.arange(old + 1, capacity + 1)
        nodes[-1, NEXT] = self._free
        self._free = old
        self._nodes = nodes
