"""What workers, homes and the coordinator say to each other about memory.

Values only; a codec in `control/messages.py` puts them on the wire. Arrays are read-only once a
message exists. Epochs count from 1 (the loaded program); epoch 0 is "never written".
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.values import dataclass, field

#: Bytes with content: `data[data_first : data_first + length]` of the companion byte array.
RUN: Final = np.dtype([("start", "<i8"), ("length", "<i8"), ("data_first", "<i8")])

#: One write set in commit order. `staged` 0: `runs[run_first : run_first + run_count]` of the
#: message hold its bytes. More: homes have them under (worker, serial), those that its pages had as
#: of this epoch, the snapshot of its attempt. Less: they were staged as of the epoch -`staged`, and
#: who has them passes on those that the runs name.
TOKEN: Final = np.dtype(
    [
        ("worker", "<i8"),
        ("serial", "<i8"),
        ("staged", "<i8"),
        ("run_first", "<i8"),
        ("run_count", "<i8"),
    ]
)

#: How often a page was read from its home, got a new version there, and was stored to beside
#: bytes that others had stored since the snapshot.
HOT_PAGE: Final = np.dtype(
    [("page", "<i8"), ("fetches", "<i8"), ("versions", "<i8"), ("shared", "<i8")]
)

#: Where a page lies in the version of an epoch.
LOCATED: Final = np.dtype([("page", "<i8"), ("home", "<i8"), ("frame", "<i8"), ("version", "<i8")])
NO_LOCATED: Final = np.zeros(0, LOCATED)

#: Frame number of a page that was never written: all zero, nothing to fetch.
NO_FRAME: Final = -1


@dataclass(frozen=True, slots=True)
class LookupRequested:
    """Worker to home: which frames hold these pages as of `snapshot` (a pinned, visible epoch)?

    `held`: for each page the version that the worker has of it, -1 if none: the others are to come
    with the answer. Empty: no content is wanted, the worker reads the frames itself.
    """

    worker: int
    ticket: int
    snapshot: int
    pages: NDArray[np.int64]
    held: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LookupAnswered:
    """Home to worker: same order as asked.

    `versions`: epoch of the page's newest frame at or before the snapshot (0: never written).
    `until`: the page is known unchanged up to this epoch, >= the snapshot.
    `content`: if it was asked for, PAGE_BYTES of each page that has a frame and whose version is
    not the one held, in order, back to back.
    """

    home: int
    ticket: int
    pages: NDArray[np.int64]
    frames: NDArray[np.int64]
    versions: NDArray[np.int64]
    until: NDArray[np.int64]
    content: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Staged:
    """Worker to home: a part of a write set, which has bytes, and where they are.

    Either in this worker's slice of the home's arena, or, if `data` is not empty, in `data`;
    `data_first` of `runs` are offsets there. Parts of one serial arrive in order; `is_last` closes
    the write set. Nothing is visible yet. The home answers each part with `ArenaReleased` as soon
    as it no longer needs the slice's bytes; where no arena is used, this says that it took them.
    """

    worker: int
    serial: int
    part: int
    is_last: bool
    runs: NDArray[Any]  # RUN
    data: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ArenaReleased:
    """Home to worker: the bytes of this part may be overwritten."""

    home: int
    serial: int
    part: int


@dataclass(frozen=True, slots=True)
class ApplyRequested:
    """Coordinator to home: an epoch is closed; these are its write sets, in commit order.

    `visible` and `pins` (sorted, unique epochs of snapshots in use) say which frames are garbage.
    """

    epoch: int
    visible: int
    pins: NDArray[np.int64]
    tokens: NDArray[Any]  # TOKEN
    runs: NDArray[Any]  # RUN, into `data`, only bytes of this home
    data: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class AppliesRequested:
    """Coordinator to a leader: `ApplyRequested` of all its homes that the epoch touches, in one.

    What each home gets is found by the addresses; staged write sets have runs for that, without
    bytes.
    """

    epoch: int
    visible: int
    pins: NDArray[np.int64]
    tokens: NDArray[Any]  # TOKEN
    runs: NDArray[Any]  # RUN, into `data`; -1: the bytes are staged
    data: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class BlocksMoved:
    """Coordinator to all homes and workers: an epoch in which nothing happens but that blocks move.

    From `epoch` on each of the `moved` blocks (numbers, each once) has the home beside it in
    `homes`, which is another one. New homes answer with `EpochApplied` when they have the pages.
    `visible` and `pins` as of `ApplyRequested`.
    """

    epoch: int
    visible: int
    pins: NDArray[np.int64]
    moved: NDArray[np.int64]
    homes: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PagesHanded:
    """Old home to new home: all pages that move there at `epoch`, as they are before it.

    `versions`: the epoch of each; `content`: PAGE_BYTES of each, in order. Said once for each pair
    of homes, also of no page.
    """

    home: int
    epoch: int
    pages: NDArray[np.int64]
    versions: NDArray[np.int64]
    content: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class StoresPassed:
    """Home to home: the part of a staged write set whose pages have moved since it was staged."""

    worker: int
    serial: int
    runs: NDArray[Any]  # RUN, into `data`
    data: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DiscardRequested:
    """Coordinator to home: staged write sets that lost or were given up; (worker, serial) rows."""

    tokens: NDArray[Any]  # TOKEN


@dataclass(frozen=True, slots=True)
class StagingEnded:
    """Coordinator to home: this worker is lost; no record will name a serial beyond `serial`.

    What it has staged under such serials, or what of it is still under way, is to be dropped.
    """

    worker: int
    serial: int


@dataclass(frozen=True, slots=True)
class PinsMoved:
    """Coordinator to a home that lacks frames: `visible` and `pins` as of `ApplyRequested`, now."""

    visible: int
    pins: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FramesLacking:
    """Home to coordinator: this epoch waits for free frames; tell me when pins or `visible` move.

    Said once for each epoch that waits; `EpochApplied` takes it back.
    """

    home: int
    epoch: int
    frame_count: int


@dataclass(frozen=True, slots=True)
class EpochApplied:
    """Home to coordinator: every write set of the epoch is in the directory.

    `located`: of the pages that the epoch has changed here, if they are few.
    """

    home: int
    epoch: int
    frames_used: int
    located: NDArray[Any] = field(default_factory=lambda: NO_LOCATED)  # LOCATED


@dataclass(frozen=True, slots=True)
class EpochsApplied:
    """What several homes said, or one of several epochs: `EpochApplied` of each pair, in order.

    `located`: of all of them together, at most LOCATED_PAGES_MAX.
    """

    homes: NDArray[np.int64]
    epochs: NDArray[np.int64]
    located: NDArray[Any] = field(default_factory=lambda: NO_LOCATED)  # LOCATED


#: From one home to another.
BetweenHomes = PagesHanded | StoresPassed
HomeEvent = (
    LookupRequested
    | Staged
    | ApplyRequested
    | BlocksMoved
    | BetweenHomes
    | DiscardRequested
    | StagingEnded
    | PinsMoved
)
HomeAction = LookupAnswered | ArenaReleased | EpochApplied | FramesLacking | BetweenHomes
