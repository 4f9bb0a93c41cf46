"""The coordinator's epochs: what was committed, who still has to apply it, what is visible.

`append` is the commit point: a winning write set joins the open epoch. `close` turns the open epoch
into one message for each home that it touches, `applied` takes their acknowledgements, and
`visible` is the largest epoch such that it and all before it are applied everywhere. Who wins is
decided elsewhere (`conflict`), and when to close is the scheduler's matter.

Source: docs/memory-model.md, "Commit".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm import dividing, ranges
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.messages import RUN, TOKEN, ApplyRequested, DiscardRequested
from dvm_mpi.dsm.rows import joined, words_of

Ints = NDArray[np.int64]

#: Tokens, runs and data of one home that one call appended; indices count from its own arrays.
Share = tuple[NDArray[Any], NDArray[Any], NDArray[np.uint8]]


class CommitLog:
    """The open epoch, and those that are closed but not yet applied by all their homes."""

    #: Number of the open epoch: one more than the last that was closed.
    open_epoch: int
    #: The largest epoch that it and all before it are applied by every home that they touch.
    visible: int
    #: Write sets in the open epoch, those without bytes included.
    open_records: int
    #: Bytes in the open epoch that travel with it; staged ones lie at the homes already.
    open_bytes: int
    #: What the open epoch holds for each home, in commit order.
    _shares: dict[int, list[Share]]
    #: Closed epochs that some home has not applied, with those homes.
    _waiting: dict[int, set[int]]

    def __init__(self, geometry: Geometry, visible: int) -> None:
        self._geometry = geometry
        self.visible = visible
        self.open_epoch = visible + 1
        self._waiting = {}
        self._reopen()

    def append(self, tokens: NDArray[Any], runs: NDArray[Any], data: NDArray[np.uint8]) -> int:
        """Commit write sets into the open epoch, and return its number.

        Parameters
        ----------
        tokens
            messages.TOKEN rows in commit order, winners only. `run_first` and `run_count` name
            rows of `runs` for staged write sets too: they tell which homes hold parts.
        runs
            messages.RUN rows; may hold rows of others. Those of staged tokens need no data.
        data
            The bytes of the runs that are not staged; copied.
        """
        self.open_records += tokens.size
        for home, held, pieces, bytes_held in self._shares_of(tokens, runs, data):
            self._shares.setdefault(home, []).append((held, pieces, bytes_held))
            self.open_bytes += bytes_held.size
        return self.open_epoch

    def close(self, pins: Ints) -> tuple[tuple[int, ApplyRequested], ...]:
        """Close the open epoch and open the next.

        Returns one message for each home that the epoch touches, ascending. An epoch that touches
        none counts as applied at once. `pins`: sorted, unique epochs of the snapshots in use.
        """
        epoch = self.open_epoch
        messages = tuple(
            (home, self._apply_request(epoch, pins, self._shares[home]))
            for home in sorted(self._shares)
        )
        if messages:
            self._waiting[epoch] = {home for home, _ in messages}
        self.open_epoch += 1
        self._reopen()
        self._publish()
        return messages

    def applied(self, home: int, epoch: int) -> int:
        """Note that a home has applied an epoch, and return what is visible now."""
        homes = self._waiting.get(epoch, set())
        assert home in homes, f"home {home} acknowledged epoch {epoch} unasked or twice"
        homes.remove(home)
        if not homes:
            del self._waiting[epoch]
        self._publish()
        return self.visible

    def discard(
        self, tokens: NDArray[Any], runs: NDArray[Any]
    ) -> tuple[tuple[int, DiscardRequested], ...]:
        """Return what tells the homes to drop staged write sets that lost or were given up.

        `tokens` and `runs` as for `append`; tokens that are not staged need no message.
        """
        staged = tokens.take(np.flatnonzero(tokens["staged"]))
        if staged.size == 0:
            return ()
        shares = self._shares_of(staged, runs, np.empty(0, np.uint8))
        return tuple((home, DiscardRequested(held)) for home, held, _, _ in shares)

    @property
    def epochs_in_flight(self) -> int:
        """Closed epochs that are not visible yet."""
        return self.open_epoch - 1 - self.visible

    @property
    def is_open_empty(self) -> bool:
        """Whether nothing was appended since the last close."""
        return self.open_records == 0

    def homes_awaited(self) -> dict[int, tuple[int, ...]]:
        """Return the homes that have not applied yet, by epoch: what a long wait waits for."""
        return {epoch: tuple(sorted(homes)) for epoch, homes in self._waiting.items()}

    def check_invariants(self) -> None:
        """Assert what holds between any two calls."""
        assert 0 <= self.visible < self.open_epoch
        assert all(self.visible < epoch < self.open_epoch for epoch in self._waiting)
        assert all(self._waiting.values())
        assert self.visible + 1 == self.open_epoch or self.visible + 1 in self._waiting
        assert self.open_bytes == sum(
            share[2].size for shares in self._shares.values() for share in shares
        )

    def _reopen(self) -> None:
        self._shares = {}
        self.open_records = 0
        self.open_bytes = 0

    def _publish(self) -> None:
        while self.visible + 1 < self.open_epoch and self.visible + 1 not in self._waiting:
            self.visible += 1

    def _shares_of(
        self, tokens: NDArray[Any], runs: NDArray[Any], data: NDArray[np.uint8]
    ) -> list[tuple[int, NDArray[Any], NDArray[Any], NDArray[np.uint8]]]:
        """Divide write sets among homes: `(home, tokens, runs, data)`, ascending by home."""
        rows = ranges.expand(tokens["run_first"], tokens["run_count"])
        pieces, cut_from, homes = self._geometry.cut(runs.take(rows))
        if homes.size == 0:
            return []
        owners = np.arange(tokens.size).repeat(tokens["run_count"])[cut_from]
        token_words, piece_words = words_of(tokens), words_of(pieces)
        home_count = self._geometry.home_count
        totals = np.zeros((home_count, dividing.PARTS), np.int64)
        latest = np.full(home_count, dividing.NOBODY)
        beyond = dividing.count(homes, owners, token_words, piece_words, data.size, latest, totals)
        assert beyond == 0, "a run beyond its data"
        ends = totals.cumsum(axis=0)
        firsts = ends - totals
        held_count, run_count, byte_count = ends[-1].tolist()
        held, packed_runs = np.empty(held_count, TOKEN), np.empty(run_count, RUN)
        packed = np.empty(byte_count, np.uint8)
        latest.fill(dividing.NOBODY)
        dividing.fill(
            *(homes, owners, token_words, piece_words, data, latest, firsts, firsts.copy()),
            *(words_of(held), words_of(packed_runs), packed),
        )
        touched = np.flatnonzero(totals[:, dividing.TOKENS])
        shares = []
        for home, begin, end in zip(
            touched.tolist(), firsts[touched].tolist(), ends[touched].tolist(), strict=True
        ):
            own, own_runs, own_bytes = (
                part[first:behind]
                for part, first, behind in zip((held, packed_runs, packed), begin, end, strict=True)
            )
            shares.append((home, own, own_runs, own_bytes))
        return shares

    def _apply_request(self, epoch: int, pins: Ints, shares: list[Share]) -> ApplyRequested:
        """Join what several calls appended for one home."""
        run_first = data_first = 0
        for held, pieces, bytes_held in shares:
            held["run_first"] += run_first
            pieces["data_first"] += data_first
            run_first += pieces.size
            data_first += bytes_held.size
        tokens, runs, data = (joined(parts) for parts in zip(*shares, strict=True))
        assert tokens.dtype == TOKEN
        assert runs.dtype == RUN
        return ApplyRequested(epoch, self.visible, pins, tokens, runs, data)
