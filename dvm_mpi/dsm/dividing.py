"""Compiled loops that divide write sets among homes, or among receivers that lead several homes.

Write sets come as words of messages.TOKEN, their pieces as words of messages.RUN in commit order,
each with its receiver and the position of its token. What each receiver gets is laid out back to
back, one after the other, in three arrays: tokens, runs and bytes. Where a write set is staged its
bytes are at the homes already: a home gets its token alone. Who leads several homes gets its pieces
too, without bytes, and so can divide all again.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.kernels import entry_kernel
from dvm_mpi.dsm.messages import RUN, TOKEN
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
#: A receiver, and its tokens, runs and bytes; indices count from its own arrays.
Share = tuple[int, NDArray[Any], NDArray[Any], NDArray[np.uint8]]

#: Of a receiver that nothing was found for yet.
NOBODY: Final = -1
#: `data_first` of a piece whose bytes are at its home.
NOWHERE: Final = -1


@entry_kernel(
    "int64(int64[::1], int64[::1], int64[:, ::1], int64[:, ::1], int64, boolean[::1], int64[::1], "
    "int64[:, ::1])"
)
def count(
    receivers: Ints,
    owners: Ints,
    tokens: Ints,
    pieces: Ints,
    data_bytes: int,
    leads: Flags,
    latest: Ints,
    totals: Ints,
) -> int:
    """Count what each receiver gets: `totals` (receivers, PARTS), zeros before.

    `leads`: (receivers,) who gets pieces of staged write sets. `latest`: (receivers,) NOBODY
    before. Returns how many pieces lie beyond the data.
    """
    beyond = 0
    for piece in range(receivers.size):
        receiver = receivers[piece]
        owner = owners[piece]
        if latest[receiver] != owner:
            latest[receiver] = owner
            totals[receiver, TOKENS] += 1
        if tokens[owner, STAGED] == 0:
            first = pieces[piece, DATA_FIRST]
            if first < 0 or first + pieces[piece, LENGTH] > data_bytes:
                beyond += 1
            totals[receiver, RUNS] += 1
            totals[receiver, BYTES] += pieces[piece, LENGTH]
        elif leads[receiver]:
            totals[receiver, RUNS] += 1
    return beyond


@entry_kernel(
    "void(int64[::1], int64[::1], int64[:, ::1], int64[:, ::1], uint8[::1], boolean[::1], "
    "int64[::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], uint8[::1])"
)
def fill(
    receivers: Ints,
    owners: Ints,
    tokens: Ints,
    pieces: Ints,
    data: NDArray[np.uint8],
    leads: Flags,
    latest: Ints,
    firsts: Ints,
    places: Ints,
    held: Ints,
    runs: Ints,
    packed: NDArray[np.uint8],
) -> None:
    """Lay out what each receiver gets, in `held`, `runs` and `packed`.

    `firsts` and `places`: (receivers, PARTS), where the parts of each begin; `places` moves on.
    `leads` as for `count`; `latest` is NOBODY before. Indices count within the parts of a receiver.
    """
    for piece in range(receivers.size):
        receiver = receivers[piece]
        owner = owners[piece]
        if latest[receiver] != owner:
            latest[receiver] = owner
            place = places[receiver, TOKENS]
            places[receiver, TOKENS] += 1
            for word in range(TOKEN_WORDS):
                held[place, word] = tokens[owner, word]
            held[place, RUN_FIRST] = places[receiver, RUNS] - firsts[receiver, RUNS]
            held[place, RUN_COUNT] = 0
        is_staged = tokens[owner, STAGED] != 0
        if is_staged and not leads[receiver]:
            continue
        held[places[receiver, TOKENS] - 1, RUN_COUNT] += 1
        place = places[receiver, RUNS]
        places[receiver, RUNS] += 1
        length = pieces[piece, LENGTH]
        runs[place, START] = pieces[piece, START]
        runs[place, LENGTH] = length
        runs[place, DATA_FIRST] = NOWHERE
        if is_staged:
            continue
        target = places[receiver, BYTES]
        places[receiver, BYTES] += length
        runs[place, DATA_FIRST] = target - firsts[receiver, BYTES]
        source = pieces[piece, DATA_FIRST]
        taken = data[source : source + length]
        room = packed[target : target + length]
        for k in range(room.size):
            room[k] = taken[k]


def divide(
    receivers: Ints,
    owners: Ints,
    tokens: NDArray[Any],
    pieces: NDArray[Any],
    data: NDArray[np.uint8],
    leads: Flags,
) -> list[Share]:
    """Return who gets what of write sets: `(receiver, TOKEN rows, RUN rows, bytes)`, ascending.

    Parameters
    ----------
    receivers, owners
        Of each piece: who gets it, and the position of its token.
    tokens, pieces, data
        TOKEN rows, RUN rows in commit order that do not cross homes, and bytes; copied.
    leads
        (receivers,) who gets the pieces of staged write sets too.
    """
    if receivers.size == 0:
        return []
    token_words, piece_words = words_of(tokens), words_of(pieces)
    totals = np.zeros((leads.size, PARTS), np.int64)
    latest = np.full(leads.size, NOBODY)
    beyond = count(receivers, owners, token_words, piece_words, data.size, leads, latest, totals)
    assert beyond == 0, "a run beyond its data"
    ends = totals.cumsum(axis=0)
    firsts = ends - totals
    held_count, run_count, byte_count = ends[-1].tolist()
    held, packed_runs = np.empty(held_count, TOKEN), np.empty(run_count, RUN)
    packed = np.empty(byte_count, np.uint8)
    latest.fill(NOBODY)
    fill(
        *(receivers, owners, token_words, piece_words, data, leads, latest, firsts, firsts.copy()),
        *(words_of(held), words_of(packed_runs), packed),
    )
    touched = np.flatnonzero(totals[:, TOKENS])
    shares = []
    for receiver, begin, end in zip(
        touched.tolist(), firsts[touched].tolist(), ends[touched].tolist(), strict=True
    ):
        own, own_runs, own_bytes = (
            part[first:behind]
            for part, first, behind in zip((held, packed_runs, packed), begin, end, strict=True)
        )
        shares.append((receiver, own, own_runs, own_bytes))
    return shares
