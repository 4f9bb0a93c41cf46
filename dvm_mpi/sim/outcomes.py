"""Ends of attempts, as engines give them back that execute no program.

`synthetic.py` and `model/engine.py` make them by whole batches; here is what both do alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.ranges import firsts_of
from dvm_mpi.engine.interface import CHILD, OUTCOME, RUN, End, OutcomeBatch
from dvm_mpi.layout import RANGE


def committed(attempts: NDArray[Any], instructions: Any) -> NDArray[Any]:
    """Return OUTCOME rows of attempts (ATTEMPT) that have committed and stored nothing yet.

    `instructions` of each, or of all.
    """
    outcomes = np.zeros(len(attempts), OUTCOME)
    outcomes["runner"], outcomes["end"] = attempts["runner"], End.COMMIT
    outcomes["instructions"] = instructions
    outcomes["trap"] = outcomes["trap_address"] = -1
    outcomes["exit_pc"] = attempts["entry"]
    return outcomes


def runs_of(starts: NDArray[np.int64], lengths: Any) -> NDArray[Any]:
    """Return RUN rows, their bytes one after the other; `lengths` of each, or of all."""
    runs = np.zeros(len(starts), RUN)
    runs["start"], runs["length"] = starts, lengths
    runs["data_first"] = firsts_of(runs["length"])
    return runs


def outcome_batch(outcomes: NDArray[Any], **parts: NDArray[Any]) -> OutcomeBatch:
    """Return a batch with these companion arrays; the others are empty."""
    return OutcomeBatch(
        outcomes,
        parts.get("runs", np.empty(0, RUN)),
        parts.get("data", np.empty(0, np.uint8)),
        parts.get("children", np.empty(0, CHILD)),
        parts.get("child_ranges", np.empty(0, RANGE)),
        np.empty(0, RANGE),
        np.empty(0, np.uint8),
        np.empty(0, np.int64),
    )


def joined(batches: list[OutcomeBatch]) -> OutcomeBatch:
    """Return several batches of `outcome_batch` as one, their rows in order."""
    if len(batches) == 1:
        return batches[0]
    outcomes = [np.empty(0, OUTCOME)]
    runs, data = [np.empty(0, RUN)], [np.empty(0, np.uint8)]
    children, ranges = [np.empty(0, CHILD)], [np.empty(0, RANGE)]
    run_first = data_first = child_first = range_first = 0
    for batch in batches:
        own, own_runs, own_children = (
            rows.copy() for rows in (batch.outcomes, batch.runs, batch.children)
        )
        own["run_first"] += run_first
        own["child_first"] += child_first
        own_runs["data_first"] += data_first
        own_children["heap_first"] += range_first
        own_children["watched_first"] += range_first
        own_children["image_first"] += run_first
        outcomes.append(own)
        runs.append(own_runs)
        data.append(batch.data)
        children.append(own_children)
        ranges.append(batch.child_ranges)
        run_first += len(own_runs)
        data_first += len(batch.data)
        child_first += len(own_children)
        range_first += len(batch.child_ranges)
    return outcome_batch(
        np.concatenate(outcomes),
        runs=np.concatenate(runs),
        data=np.concatenate(data),
        children=np.concatenate(children),
        child_ranges=np.concatenate(ranges),
    )
