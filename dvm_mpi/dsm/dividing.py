"""Compiled loops that divide write sets among homes.

Write sets come as words of messages.TOKEN, their pieces as words of messages.RUN in commit order,
each with its home and the position of its token. What each home gets is laid out back to back, home
after home, in three arrays: tokens, runs and bytes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.kernels import entry_kernel
from dvm_mpi.dsm.messages import RUN, TOKEN

Ints = NDArray[np.int64]


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
#: Of a home that nothing was found for yet.
NOBODY: Final = -1


@entry_kernel(
    "int64(int64[::1], int64[::1], int64[:, ::1], int64[:, ::1], int64, int64[::1], int64[:, ::1])"
)
def count(
    homes: Ints,
    owners: Ints,
    tokens: Ints,
    pieces: Ints,
    data_bytes: int,
    latest: Ints,
    totals: Ints,
) -> int:
    """Count what each home gets: `totals` (home_count, PARTS), zeros before.

    `latest`: (home_count,) NOBODY before. Returns how many pieces lie beyond the data.
    """
    beyond = 0
    for piece in range(homes.size):
        home = homes[piece]
        owner = owners[piece]
        if latest[home] != owner:
            latest[home] = owner
            totals[home, TOKENS] += 1
        if tokens[owner, STAGED] == 0:
            first = pieces[piece, DATA_FIRST]
            if first < 0 or first + pieces[piece, LENGTH] > data_bytes:
                beyond += 1
            totals[home, RUNS] += 1
            totals[home, BYTES] += pieces[piece, LENGTH]
    return beyond


@entry_kernel(
    "void(int64[::1], int64[::1], int64[:, ::1], int64[:, ::1], uint8[::1], int64[::1], "
    "int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], uint8[::1])"
)
def fill(
    homes: Ints,
    owners: Ints,
    tokens: Ints,
    pieces: Ints,
    data: NDArray[np.uint8],
    latest: Ints,
    firsts: Ints,
    places: Ints,
    held: Ints,
    runs: Ints,
    packed: NDArray[np.uint8],
) -> None:
    """Lay out what each home gets, in `held`, `runs` and `packed`.

    `firsts` and `places`: (home_count, PARTS), where each home's parts begin; `places` moves on.
    `latest` is NOBODY before. Indices count within the parts of a home.
    """
    for piece in range(homes.size):
        home = homes[piece]
        owner = owners[piece]
        if latest[home] != owner:
            latest[home] = owner
            place = places[home, TOKENS]
            places[home, TOKENS] += 1
            for word in range(TOKEN_WORDS):
                held[place, word] = tokens[owner, word]
            held[place, RUN_FIRST] = places[home, RUNS] - firsts[home, RUNS]
            held[place, RUN_COUNT] = 0
        if tokens[owner, STAGED] != 0:
            continue
        held[places[home, TOKENS] - 1, RUN_COUNT] += 1
        place = places[home, RUNS]
        places[home, RUNS] += 1
        length = pieces[piece, LENGTH]
        target = places[home, BYTES]
        places[home, BYTES] += length
        runs[place, START] = pieces[piece, START]
        runs[place, LENGTH] = length
        runs[place, DATA_FIRST] = target - firsts[home, BYTES]
        source = pieces[piece, DATA_FIRST]
        taken = data[source : source + length]
        room = packed[target : target + length]
        for k in range(room.size):
            room[k] = taken[k]
