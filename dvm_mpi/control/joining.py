"""Messages for the coordinator, put together and taken apart. Decides nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import LOCATED_PAGES_MAX
from dvm_mpi.control.messages import (
    SHARE,
    BatchesDealt,
    Dispatched,
    Finished,
    WorkerReady,
    WorkersReady,
)
from dvm_mpi.dsm import byte_copy
from dvm_mpi.dsm.messages import EpochApplied, EpochsApplied
from dvm_mpi.dsm.ranges import begins_of, expand, firsts_of
from dvm_mpi.dsm.rows import joined
from dvm_mpi.engine.interface import NO_LEASES, OutcomeBatch
from dvm_mpi.values import replace

#: The worker of a message whose records come from several.
SEVERAL: Final = -1
_NO_STACKS: Final = np.zeros(0, dtype=np.int64)


def encode_traps(traps: dict[int, Any]) -> str:
    """Return the JSON of trap details by position in the outcomes."""
    told = {str(i): [list(t.operands), t.nearest] for i, t in sorted(traps.items())}
    return json.dumps(told) if told else ""


def workers_of(finished: Finished) -> NDArray[np.int64]:
    """Return who executed each record, in the order of the records."""
    if finished.worker != SEVERAL:
        return np.full(len(finished.records), finished.worker, np.int64)
    return np.repeat(finished.shares["worker"], finished.shares["records"])


def select(finished: Finished, kept: NDArray[np.int64]) -> Finished:
    """Return a message with only the records at positions `kept`, in that order.

    What was said of all records together is left behind: `Ordering.take` has seen to it.
    """
    outcomes = finished.outcomes[kept].copy()
    children = finished.children[expand(outcomes["child_first"], outcomes["child_count"])].copy()
    own_runs = expand(outcomes["run_first"], outcomes["run_count"])
    image_runs = expand(children["image_first"], children["image_count"])
    outcomes["child_first"] = firsts_of(outcomes["child_count"])
    outcomes["run_first"] = firsts_of(outcomes["run_count"])
    children["image_first"] = len(own_runs) + firsts_of(children["image_count"])
    loads = finished.loads[expand(outcomes["load_first"], outcomes["load_count"])]
    outcomes["load_first"] = firsts_of(outcomes["load_count"])
    traps = json.loads(finished.traps) if finished.traps else {}
    told = {str(i): traps[str(k)] for i, k in enumerate(kept.tolist()) if str(k) in traps}
    shares = finished.shares
    if finished.worker == SEVERAL:
        shares = np.ones(len(kept), SHARE)
        shares["worker"] = workers_of(finished)[kept]
    return replace(
        finished,
        records=finished.records[kept],
        outcomes=outcomes,
        runs=finished.runs[np.concatenate([own_runs, image_runs])],
        children=children,
        dropped_stacks=_NO_STACKS,
        traps=json.dumps(told) if told else "",
        fetched_bytes=0,
        effort=_share_of(finished, kept),
        loads=loads,
        leases=NO_LEASES,
        shares=shares,
    )


def _share_of(finished: Finished, kept: NDArray[np.int64]) -> int:
    """Return what the attempts that are kept count for, by their instructions."""
    instructions = finished.outcomes["instructions"]
    return int(finished.effort * int(instructions[kept].sum()) // max(int(instructions.sum()), 1))


def join(parts: Sequence[Finished]) -> Finished:
    """Return one message, of SEVERAL workers, with the records of all parts in their order."""
    outcomes = _shifted(
        [part.outcomes for part in parts],
        run_first=[part.runs for part in parts],
        child_first=[part.children for part in parts],
        console_first=[part.console for part in parts],
        malloc_first=[part.mallocs for part in parts],
        load_first=[part.loads for part in parts],
    )
    children = _shifted(
        [part.children for part in parts],
        heap_first=[part.child_ranges for part in parts],
        watched_first=[part.child_ranges for part in parts],
        image_first=[part.runs for part in parts],
    )
    runs = _shifted([part.runs for part in parts], data_first=[part.data for part in parts])
    loads = _shifted([part.loads for part in parts], data_first=[p.load_data for p in parts])
    told: dict[str, Any] = {}
    for part, first in zip(parts, _firsts([p.records for p in parts]), strict=True):
        traps = json.loads(part.traps) if part.traps else {}
        told |= {str(int(position) + first): trap for position, trap in traps.items()}
    return Finished(
        worker=SEVERAL,
        records=np.concatenate([part.records for part in parts]),
        outcomes=outcomes,
        runs=runs,
        data=np.concatenate([part.data for part in parts]),
        children=children,
        child_ranges=np.concatenate([part.child_ranges for part in parts]),
        mallocs=np.concatenate([part.mallocs for part in parts]),
        console=np.concatenate([part.console for part in parts]),
        dropped_stacks=np.concatenate([part.dropped_stacks for part in parts]),
        traps=json.dumps(told) if told else "",
        fetched_bytes=sum(part.fetched_bytes for part in parts),
        effort=sum(part.effort for part in parts),
        loads=loads,
        load_data=np.concatenate([part.load_data for part in parts]),
        leases=np.concatenate([part.leases for part in parts]),
        shares=np.concatenate([_shares_of(part) for part in parts]),
    )


def without_staged(
    ended: OutcomeBatch, is_staged: NDArray[np.bool_]
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Return runs and data of a batch without the bytes that travel by the arenas."""
    outcomes = ended.outcomes[is_staged]
    runs = ended.runs.copy()
    kept = np.ones(len(runs), dtype=bool)
    kept[expand(outcomes["run_first"], outcomes["run_count"])] = False
    inline, data = byte_copy.gather(runs[kept], ended.data)
    runs[kept] = inline
    runs["data_first"][~kept] = -1
    return runs, data


def join_applied(parts: Sequence[EpochApplied | EpochsApplied]) -> EpochsApplied:
    """Return one message that says what all parts say, in their order."""
    pairs = [
        (part.homes, part.epochs)
        if isinstance(part, EpochsApplied)
        else ([part.home], [part.epoch])
        for part in parts
    ]
    homes, epochs = (np.concatenate(column).astype(np.int64) for column in zip(*pairs, strict=True))
    located = joined([part.located for part in parts])[:LOCATED_PAGES_MAX]
    return EpochsApplied(homes, epochs, located)


def _shares_of(part: Finished) -> NDArray[Any]:
    if part.worker == SEVERAL:
        return part.shares
    return np.array([(part.worker, len(part.records))], SHARE)


def _firsts(arrays: Sequence[NDArray[Any]]) -> list[int]:
    """Return where each array begins in all of them together."""
    found: list[int] = firsts_of(np.array([len(array) for array in arrays])).tolist()
    return found


def _shifted(rows: Sequence[NDArray[Any]], **companions: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return all rows together; each named column counts in its companions together.

    A column that says -1 points nowhere: staged bytes are not in a message.
    """
    joined = np.concatenate(rows)
    lengths = [len(array) for array in rows]
    for column, arrays in companions.items():
        shift = np.repeat(np.array(_firsts(arrays), dtype=np.int64), lengths)
        joined[column] += np.where(joined[column] >= 0, shift, 0)
    return joined


def join_ready(parts: Sequence[WorkerReady | WorkersReady]) -> WorkersReady:
    """Return one message that all these workers are ready."""
    return WorkersReady(np.concatenate([ready_workers(part) for part in parts]))


def ready_workers(event: WorkerReady | WorkersReady) -> NDArray[np.int64]:
    """Return who says that it is ready."""
    if isinstance(event, WorkerReady):
        return np.array([event.worker], np.int64)
    return event.workers


def batches_of(dealt: BatchesDealt) -> list[tuple[int, Dispatched]]:
    """Return the batches of a message for several workers, each with its worker, in order."""
    ends = dealt.batches["attempts"].cumsum()
    firsts = ends - dealt.batches["attempts"]
    parts = zip(dealt.batches["worker"].tolist(), _between(dealt, firsts, ends), strict=True)
    return [
        (
            worker,
            Dispatched(
                snapshot=dealt.snapshot,
                numbers=part.numbers,
                attempts=part.attempts,
                grants=part.grants,
                image_runs=part.image_runs,
                image_data=part.image_data,
                leases=part.leases,
                report_fuel=dealt.report_fuel,
            ),
        )
        for worker, part in parts
    ]


def for_receivers(
    dealt: BatchesDealt, receivers: NDArray[np.int64]
) -> list[tuple[int, BatchesDealt]]:
    """Return a message for each stretch of batches that go to one receiver, in order.

    `receivers` has one for each batch.
    """
    begins = begins_of(receivers[1:] != receivers[:-1])
    all_ends = dealt.batches["attempts"].cumsum()
    ends = np.append(begins[1:], len(receivers))
    firsts = (all_ends - dealt.batches["attempts"])[begins]
    stretches = zip(
        receivers[begins].tolist(),
        begins.tolist(),
        ends.tolist(),
        _between(dealt, firsts, all_ends[ends - 1]),
        strict=True,
    )
    return [
        (receiver, replace(part, batches=dealt.batches[begin:end]))
        for receiver, begin, end, part in stretches
    ]


def _between(
    dealt: BatchesDealt, firsts: NDArray[np.int64], ends: NDArray[np.int64]
) -> list[BatchesDealt]:
    """Return what a message says of the attempts between each of `firsts` and of `ends`: views.

    These must be whole batches; which ones is not said.
    """
    owned = np.zeros((4, len(dealt.attempts) + 1), np.int64)
    dealt.attempts["grant_count"].cumsum(out=owned[0, 1:])
    if len(dealt.image_runs):
        dealt.attempts["image_count"].cumsum(out=owned[1, 1:])
        run_bytes = np.zeros(len(dealt.image_runs) + 1, np.int64)
        dealt.image_runs["length"].cumsum(out=run_bytes[1:])
        owned[2] = run_bytes[owned[1]]
    if len(dealt.leases):
        owned[3] = np.arange(len(dealt.attempts) + 1)
    bounds = zip(
        firsts.tolist(),
        ends.tolist(),
        owned[:, firsts].T.tolist(),
        owned[:, ends].T.tolist(),
        strict=True,
    )
    return [
        BatchesDealt(
            snapshot=dealt.snapshot,
            batches=dealt.batches[:0],
            numbers=dealt.numbers[first:end],
            attempts=dealt.attempts[first:end],
            grants=dealt.grants[begun[0] : ended[0]],
            image_runs=dealt.image_runs[begun[1] : ended[1]],
            image_data=dealt.image_data[begun[2] : ended[2]],
            leases=dealt.leases[begun[3] : ended[3]],
            report_fuel=dealt.report_fuel,
        )
        for first, end, begun, ended in bounds
    ]


def efforts(finished: Finished) -> NDArray[np.int64]:
    """Return what the instructions of each attempt count for where batches are sized."""
    instructions: NDArray[np.int64] = finished.outcomes["instructions"]
    total = int(instructions.sum())
    if finished.effort == total:
        return instructions
    return (instructions * (finished.effort / total)).astype(np.int64)
