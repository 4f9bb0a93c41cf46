"""Compiled loops that divide write sets among homes, or among receivers that lead several homes.

Write sets come as words of messages.TOKEN in commit order and of messages.RUN, of which each token
names its own. They are cut where a block of addresses ends; blocks go round the homes in turn, and
some have moved (`moves`). What each receiver gets is laid out back to back, one after the other, in
three arrays: tokens, runs and bytes. Where a write set is staged its bytes are at the homes
already: a home gets its token alone. Who leads several homes gets its pieces too, without bytes,
and so can divide all again.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.kernels import entry_kernel
from dvm_mpi.dsm.messages import RUN, TOKEN
from dvm_mpi.dsm.moves import home_at
from dvm_mpi.dsm.rows import words_of

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


def _column(names: tuple[str, ...] | None, name: str) -> int:
    assert names is not None
    return names.index(name)


STAGED: Final = _column(TOKEN.names, "staged")
RUN_FIRST: Final = _column(TOKEN.names, "run_first")
RUN_COUNT: Final = _column(TOKEN.names, "run_count")
TOKEN_WORDS: Final = TOKEN.itemsize // 8
START: Final = _column(RUN.names, "start")
LENGTH: Final = _column(RUN.names, "length")
DATA_FIRST: Final = _column(RUN.names, "data_first")

#: Columns of what a home gets.
TOKENS: Final = 0
RUNS: Final = 1
BYTES: Final = 2
PARTS: Final = 3
#: Of a receiver that nothing was found for yet.
NOBODY: Final = -1
#: `data_first` of a piece whose bytes are at its home.
NOWHERE: Final = -1

#: A receiver, and its tokens, runs and bytes; indices count from its own arrays.
Share = tuple[int, NDArray[Any], NDArray[Any], NDArray[np.uint8]]


@entry_kernel(
    "int64(int64[:, ::1], int64[:, ::1], int64, int64[:, ::1], int64, int64, int64[::1], "
    "boolean[::1], boolean[::1], int64[::1], int64[:, ::1])"
)
def count(
    tokens: Ints,
    runs: Ints,
    block_bytes: int,
    moved: Ints,
    epoch: int,
    data_bytes: int,
    receivers: Ints,
    leads: Flags,
    touched: Flags,
    latest: Ints,
    totals: Ints,
) -> int:
    """Count what each receiver gets: `totals` (home_count, PARTS), zeros before.

    `moved`, `epoch`: a table of moves, and as of which epoch homes are asked for; staged write sets
    name their own. `receivers`, `leads`: (home_count,) who gets what is for a home, and who gets
    pieces of staged write sets. `touched`: (home_count,) homes that something is for, set.
    `latest`: (home_count,) NOBODY before. Returns how many runs lie beyond the data.
    """
    beyond = 0
    home_count = totals.shape[0]
    for owner in range(tokens.shape[0]):
        staged = tokens[owner, STAGED]
        is_staged, is_passed = staged != 0, staged < 0
        as_of = staged if staged > 0 else epoch
        first = tokens[owner, RUN_FIRST]
        for run in range(first, first + tokens[owner, RUN_COUNT]):
            at, length = runs[run, DATA_FIRST], runs[run, LENGTH]
            if length > 0 and not is_staged and (at < 0 or at + length > data_bytes):
                beyond += 1
            start = runs[run, START]
            end = start + length
            while start < end:
                block = start // block_bytes
                home = home_at(moved, block, as_of, home_count)
                touched[home] = True
                receiver = receivers[home]
                behind = min(end, (block + 1) * block_bytes)
                if latest[receiver] != owner:
                    latest[receiver] = owner
                    totals[receiver, TOKENS] += 1
                if not is_staged:
                    totals[receiver, BYTES] += behind - start
                if not is_staged or is_passed or leads[receiver]:
                    totals[receiver, RUNS] += 1
                start = behind
    return beyond


@entry_kernel(
    "void(int64[:, ::1], int64[:, ::1], int64, int64[:, ::1], int64, uint8[::1], int64[::1], "
    "boolean[::1], int64[::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], "
    "uint8[::1])"
)
def fill(
    tokens: Ints,
    runs: Ints,
    block_bytes: int,
    moved: Ints,
    epoch: int,
    data: NDArray[np.uint8],
    receivers: Ints,
    leads: Flags,
    latest: Ints,
    firsts: Ints,
    places: Ints,
    held: Ints,
    packed_runs: Ints,
    packed: NDArray[np.uint8],
) -> None:
    """Lay out what each receiver gets, in `held`, `packed_runs` and `packed`.

    `firsts` and `places`: (home_count, PARTS), where the parts of each receiver begin; `places`
    moves on. `moved`, `epoch`, `receivers` and `leads` as for `count`; `latest` is NOBODY before.
    Indices count within the parts of a receiver.
    """
    home_count = firsts.shape[0]
    for owner in range(tokens.shape[0]):
        staged = tokens[owner, STAGED]
        is_staged, is_passed = staged != 0, staged < 0
        as_of = staged if staged > 0 else epoch
        first = tokens[owner, RUN_FIRST]
        for run in range(first, first + tokens[owner, RUN_COUNT]):
            start = runs[run, START]
            end = start + runs[run, LENGTH]
            source = runs[run, DATA_FIRST]
            while start < end:
                block = start // block_bytes
                receiver = receivers[home_at(moved, block, as_of, home_count)]
                length = min(end, (block + 1) * block_bytes) - start
                if latest[receiver] != owner:
                    latest[receiver] = owner
                    place = places[receiver, TOKENS]
                    places[receiver, TOKENS] += 1
                    for word in range(TOKEN_WORDS):
                        held[place, word] = tokens[owner, word]
                    held[place, RUN_FIRST] = places[receiver, RUNS] - firsts[receiver, RUNS]
                    held[place, RUN_COUNT] = 0
                if not is_staged or is_passed or leads[receiver]:
                    held[places[receiver, TOKENS] - 1, RUN_COUNT] += 1
                    place = places[receiver, RUNS]
                    places[receiver, RUNS] += 1
                    packed_runs[place, START] = start
                    packed_runs[place, LENGTH] = length
                    packed_runs[place, DATA_FIRST] = NOWHERE
                if not is_staged:
                    target = places[receiver, BYTES]
                    places[receiver, BYTES] += length
                    packed_runs[place, DATA_FIRST] = target - firsts[receiver, BYTES]
                    taken = data[source : source + length]
                    room = packed[target : target + length]
                    for k in range(room.size):
                        room[k] = taken[k]
                start += length
                source += length


@entry_kernel("void(int64[:, ::1], int64[:, ::1], int64, int64)")
def shift(tokens: Ints, runs: Ints, run_first: int, data_first: int) -> None:
    """Let a receiver's tokens and runs count from behind so many runs and bytes before them."""
    for token in range(tokens.shape[0]):
        tokens[token, RUN_FIRST] += run_first
    for run in range(runs.shape[0]):
        if runs[run, DATA_FIRST] != NOWHERE:
            runs[run, DATA_FIRST] += data_first


def divide(
    tokens: NDArray[Any],
    runs: NDArray[Any],
    data: NDArray[np.uint8],
    block_bytes: int,
    moved: Ints,
    epoch: int,
    receivers: Ints,
    leads: Flags,
) -> tuple[list[Share], Flags]:
    """Return who gets what of write sets, ascending, and which homes something is for.

    Parameters
    ----------
    tokens, runs, data
        TOKEN rows in commit order, the RUN rows that they name, and bytes; copied.
    block_bytes
        After so many addresses comes the next home.
    moved, epoch
        `Moves.table`, and as of which epoch homes are asked for; staged write sets name their own.
    receivers, leads
        (home_count,) who gets what is for a home, and who gets the pieces of staged write sets too.
    """
    token_words, run_words = words_of(tokens), words_of(runs)
    home_count = receivers.size
    touched = np.zeros(home_count, dtype=bool)
    totals = np.zeros((home_count, PARTS), np.int64)
    latest = np.full(home_count, NOBODY)
    beyond = count(
        *(token_words, run_words, block_bytes, moved, epoch, data.size, receivers, leads),
        *(touched, latest, totals),
    )
    assert beyond == 0, "a run beyond its data"
    ends = totals.cumsum(axis=0)
    firsts = ends - totals
    held_count, run_count, byte_count = ends[-1].tolist()
    if held_count == 0:
        return [], touched
    held, packed_runs = np.empty(held_count, TOKEN), np.empty(run_count, RUN)
    packed = np.empty(byte_count, np.uint8)
    latest.fill(NOBODY)
    fill(
        *(token_words, run_words, block_bytes, moved, epoch, data, receivers, leads),
        *(latest, firsts, firsts.copy(), words_of(held), words_of(packed_runs), packed),
    )
    told = totals[:, TOKENS].nonzero()[0]
    shares = []
    for receiver, begin, end in zip(
        told.tolist(), firsts[told].tolist(), ends[told].tolist(), strict=True
    ):
        own, own_runs, own_bytes = (
            part[first:behind]
            for part, first, behind in zip((held, packed_runs, packed), begin, end, strict=True)
        )
        shares.append((receiver, own, own_runs, own_bytes))
    return shares, touched
