"""The coordinator's epochs: what was committed, who still has to apply it, what is visible.

`append` is the commit point: a winning write set joins the open epoch. `close` turns the open epoch
into one message for each home that it touches, or for who leads several of them; `applied` takes
the homes' acknowledgements, and `visible` is the largest epoch such that it and all before it are
applied everywhere. Who wins is decided elsewhere (`conflict`), and when to close is the scheduler's
matter.

Source: docs/memory-model.md, "Commit".
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.dividing import Share, divide, shift
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.handover import passing
from dvm_mpi.dsm.messages import (
    RUN,
    TOKEN,
    AppliesRequested,
    ApplyRequested,
    BlocksMoved,
    DiscardRequested,
)
from dvm_mpi.dsm.rows import joined, words_of
from dvm_mpi.layout import SR_END

Ints = NDArray[np.int64]

#: Tokens, runs and data of one receiver that one call appended; indices count from its own arrays.
Part = tuple[NDArray[Any], NDArray[Any], NDArray[np.uint8]]


class CommitLog:
    """The open epoch, and those that are closed but not yet applied by all their homes.

    Parameters
    ----------
    geometry
        Where pages live.
    visible
        The newest epoch there is.
    receivers
        (home_count,) who is told what each home has to apply: the number of a home, itself or
        another one; None: each home itself.
    """

    #: Number of the open epoch: one more than the last that was closed.
    open_epoch: int
    #: The largest epoch that it and all before it are applied by every home that they touch.
    visible: int
    #: Write sets in the open epoch, those without bytes included.
    open_records: int
    #: Bytes in the open epoch that travel with it; staged ones lie at the homes already.
    open_bytes: int
    #: What the open epoch holds for each receiver, in commit order.
    _shares: dict[int, list[Part]]
    #: Whether the open epoch touches a home; (home_count,).
    _touched: NDArray[np.bool_]
    #: Closed epochs that some home has not applied, with those homes.
    _waiting: dict[int, set[int]]

    def __init__(self, geometry: Geometry, visible: int, receivers: Ints | None = None) -> None:
        self._geometry = geometry
        homes = np.arange(geometry.home_count, dtype=np.int64)
        self._receivers = homes if receivers is None else receivers
        #: Receivers that lead several homes; (home_count,).
        self._leads = np.bincount(self._receivers, minlength=geometry.home_count) > 1
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
        geometry, epoch = self._geometry, self.open_epoch
        if geometry.moves.newest:
            tokens, runs = passing(geometry, tokens, runs, epoch)
        places = (_block_bytes(geometry), geometry.moves.table, epoch)
        shares, touched = divide(tokens, runs, data, *places, self._receivers, self._leads)
        self._touched |= touched
        for receiver, *part in shares:
            self._shares.setdefault(receiver, []).append((part[0], part[1], part[2]))
            self.open_bytes += part[2].size
        return self.open_epoch

    def close(self, pins: Ints) -> tuple[tuple[int, ApplyRequested | AppliesRequested], ...]:
        """Close the open epoch and open the next.

        Returns one message for each receiver whose homes the epoch touches, ascending; of several
        homes for those that lead several. An epoch that touches none counts as applied at once.
        `pins`: sorted, unique epochs of the snapshots in use.
        """
        epoch = self.open_epoch
        messages = tuple(
            (receiver, self._request(receiver, epoch, pins)) for receiver in sorted(self._shares)
        )
        if messages:
            self._waiting[epoch] = set(np.flatnonzero(self._touched).tolist())
        self.open_epoch += 1
        self._reopen()
        self._publish()
        return messages

    def move(self, blocks: Ints, homes: Ints, pins: Ints) -> BlocksMoved:
        """Let blocks have other homes from an epoch of its own on; return what tells all ranks.

        The open epoch is empty. No snapshot in use is older than the last move of any of the
        blocks, and that is visible.
        """
        assert self.is_open_empty, "what was appended is divided already"
        epoch = self.open_epoch
        self._geometry.move(epoch, blocks, homes)
        self._waiting[epoch] = set(homes.tolist())
        self.open_epoch += 1
        return BlocksMoved(epoch, self.visible, pins, blocks, homes)

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
        # Staged ones say as of which epoch they are to be looked for.
        shares = _for_homes(self._geometry, staged, runs, np.empty(0, np.uint8), self.open_epoch)
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
            part[2].size for parts in self._shares.values() for part in parts
        )
        assert set(self._shares) == set(self._receivers[self._touched].tolist())

    def _reopen(self) -> None:
        self._shares = {}
        self._touched = np.zeros(self._geometry.home_count, dtype=bool)
        self.open_records = 0
        self.open_bytes = 0

    def _publish(self) -> None:
        while self.visible + 1 < self.open_epoch and self.visible + 1 not in self._waiting:
            self.visible += 1

    def _request(self, receiver: int, epoch: int, pins: Ints) -> ApplyRequested | AppliesRequested:
        """Join what several calls appended for one receiver."""
        run_first = data_first = 0
        parts = self._shares[receiver]
        for held, pieces, bytes_held in parts:
            if run_first or data_first:
                shift(words_of(held), words_of(pieces), run_first, data_first)
            run_first += pieces.size
            data_first += bytes_held.size
        tokens, runs, data = (joined(each) for each in zip(*parts, strict=True))
        assert tokens.dtype == TOKEN
        assert runs.dtype == RUN
        kind = AppliesRequested if self._leads[receiver] else ApplyRequested
        return kind(epoch, self.visible, pins, tokens, runs, data)


def for_homes(geometry: Geometry, request: AppliesRequested) -> list[tuple[int, ApplyRequested]]:
    """Return what each home has to apply of what its leader was told, ascending by home."""
    shares = _for_homes(geometry, request.tokens, request.runs, request.data, request.epoch)
    return [
        (home, ApplyRequested(request.epoch, request.visible, request.pins, held, runs, data))
        for home, held, runs, data in shares
    ]


def _for_homes(
    geometry: Geometry,
    tokens: NDArray[Any],
    runs: NDArray[Any],
    data: NDArray[np.uint8],
    epoch: int,
) -> list[Share]:
    """Divide write sets among homes as of an epoch."""
    homes = np.arange(geometry.home_count, dtype=np.int64)
    leads = np.zeros(geometry.home_count, dtype=bool)
    places = (_block_bytes(geometry), geometry.moves.table, epoch)
    return divide(tokens, runs, data, *places, homes, leads)[0]


def _block_bytes(geometry: Geometry) -> int:
    """Return after how many addresses comes the next home; one home has all of them."""
    return geometry.block_bytes if geometry.home_count > 1 else SR_END
