"""What the meters of a run have found, in the report's words and the program's names.

Plain values that JSON knows: lists and dicts of numbers and texts, times in seconds.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import HOT_PAGES_TOLD
from dvm_mpi.control.coordinator_state import CoordinatorState
from dvm_mpi.control.diagnosis import Narrator, hexadecimal
from dvm_mpi.control.lengths import OTHERS
from dvm_mpi.control.metering import ACTIVITIES, MARKS, SUMS, RankMeters
from dvm_mpi.layout import (
    DATA_START,
    MALLOC_END,
    MALLOC_START,
    PAGE_BYTES,
    PAGE_SHIFT,
    STACKS_END,
    STACKS_START,
    STATUS_AREAS,
    TEXT_START,
)

_US_PER_S: Final = 1e6
_WHOLE: Final = 1_000
#: Sorts of runners that are told of a page which they share.
_SHARERS_TOLD: Final = 4
#: Parts of the shared region that no label of a program names.
_AREAS: Final = (
    (TEXT_START, DATA_START, "the text"),
    (STACKS_START, STACKS_END, "stacks"),
    (MALLOC_START, MALLOC_END, "malloc blocks"),
    *((start, end, "status pages") for start, end in STATUS_AREAS),
)


def observed(state: CoordinatorState, meters: RankMeters, narrator: Narrator) -> dict[str, Any]:
    """Return the fields of `io.report.RunReport` that the meters fill."""
    return {
        "by_rank": _by_rank(meters),
        "utilisation": _utilisation(meters),
        "memory_over_time": _memory(meters),
        "runner_lengths": _lengths(state, narrator),
        "hot_pages": _hot_pages(state, narrator),
    }


def _by_rank(meters: RankMeters) -> dict[str, list[Any]]:
    told: dict[str, list[Any]] = {"host": meters.hosts}
    for column, name in enumerate(SUMS):
        values = meters.totals[:, column]
        is_time = name in ACTIVITIES
        told[f"{name}_s" if is_time else name] = (
            values / _US_PER_S if is_time else values
        ).tolist()
    for column, name in enumerate(MARKS):
        told[name] = meters.highest[:, column].tolist()
    return told


def _utilisation(meters: RankMeters) -> dict[str, Any]:
    """Return the shares of each activity; of time that a rank has not told of yet none has any."""
    span_us = np.full(meters.group_count, meters.ranks_per_group * meters.bucket_us)
    missing = meters.group_count * meters.ranks_per_group - meters.rank_count
    span_us[-1] -= missing * meters.bucket_us
    told: dict[str, Any] = {
        "bucket_s": meters.bucket_us / _US_PER_S,
        "ranks_per_row": meters.ranks_per_group,
    }
    for column, name in enumerate(ACTIVITIES):
        shares = meters.sums[:, :, column] * _WHOLE / span_us[:, None]
        told[name] = np.rint(shares).astype(np.int64).tolist()
    instructions = meters.sums[:, :, SUMS.index("instructions")].sum(axis=0)
    told["instructions"] = instructions.tolist()
    return told


def _memory(meters: RankMeters) -> dict[str, Any]:
    marks = {name: meters.marks[:, column].tolist() for column, name in enumerate(MARKS)}
    return {"bucket_s": meters.bucket_us / _US_PER_S, **marks}


def _lengths(state: CoordinatorState, narrator: Narrator) -> list[dict[str, Any]]:
    rows = []
    for lengths in state.runner_lengths.entries():
        used = np.flatnonzero(lengths.classes)
        name = "other entries"
        if lengths.entry != OTHERS:
            name = narrator.name(lengths.entry) or hexadecimal(lengths.entry)
        rows.append(
            {
                "entry": name,
                "attempts": lengths.attempts,
                "instructions": lengths.instructions,
                "longest": lengths.longest,
                "classes": {str(c): int(lengths.classes[c]) for c in used.tolist()},
            }
        )
    return rows


def _hot_pages(state: CoordinatorState, narrator: Narrator) -> list[dict[str, Any]]:
    rows: NDArray[Any] = state.hot_pages.busiest(HOT_PAGES_TOLD)
    return [
        {
            "address": int(row["page"]) << PAGE_SHIFT,
            "name": _page_name(int(row["page"]) << PAGE_SHIFT, narrator),
            "fetches": int(row["fetches"]),
            "versions": int(row["versions"]),
            "shared": int(row["shared"]),
            "stored_by": [
                f"{narrator.name(entry) or hexadecimal(entry)} ({narrator.place(entry)})"
                for entry in state.sharing.entries(int(row["page"]), _SHARERS_TOLD)
            ],
        }
        for row in rows
    ]


def _page_name(address: int, narrator: Narrator) -> str:
    for start, end, name in _AREAS:
        if start <= address < end:
            return name
    return narrator.names_between(address, address + PAGE_BYTES)
