"""What the coordinator and the workers say to each other.

A message is a frozen dataclass of integers, texts and arrays. Messages about memory are in
`dsm/messages.py`; the codec of both is in `wire.py`.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import BATCH_FUEL
from dvm_mpi.dsm import messages as memory
from dvm_mpi.engine.interface import NO_LEASES, RUN
from dvm_mpi.values import dataclass, field

#: What the coordinator must know of an attempt beside its outcome.
RECORD: Final = np.dtype(
    [
        ("attempt", "<i8"),  # number of the attempt, for fencing
        ("serial", "<i8"),   # of the staged write set at the homes; 0: the bytes are inline
    ]
)  # fmt: skip

#: What a rank did in a stretch of its time, half-open, counted from when it began: microseconds of
#: each activity (`metering.Activity`), instructions, and the memory that it held at the end.
SPAN: Final = np.dtype(
    [
        (name, "<i8")
        for name in (
            "begin_us", "end_us",
            "executing", "serving", "coordinating", "loading", "waiting", "idle",
            "instructions", "resident_bytes", "frame_bytes", "staged_bytes",
        )
    ]
)  # fmt: skip

#: So many records in a row come from one worker, where a message has those of several.
SHARE: Final = np.dtype([("worker", "<i8"), ("records", "<i8")])
NO_SHARES: Final = np.zeros(0, SHARE)

#: In a message for several workers: the next so many attempts are a batch, and this worker's.
BATCH: Final = np.dtype([("worker", "<i8"), ("attempts", "<i8")])

#: In a message about a lease: it is the worker's, not one attempt's.
OF_THE_WORKER: Final = 0


@dataclass(frozen=True, slots=True)
class Dispatched:
    """Coordinator to worker: run these attempts, all on one snapshot.

    `leases`: as in `engine.interface.AttemptBatch`. `report_fuel`: instructions after which ends
    are worth a message, though the batch has not come to its end. `located`: where pages lie that
    small ones of the declared ranges touch, as far as that is known; in no version that is newer
    than the snapshot, or has been stored to until then.
    """

    snapshot: int
    numbers: NDArray[np.int64]  # of the attempts, for fencing
    attempts: NDArray[Any]  # ATTEMPT
    grants: NDArray[Any]  # GRANT
    image_runs: NDArray[Any]  # RUN
    image_data: NDArray[np.uint8]
    leases: NDArray[Any] = field(default_factory=lambda: NO_LEASES)  # LEASES
    report_fuel: int = BATCH_FUEL
    located: NDArray[Any] = field(default_factory=lambda: memory.NO_LOCATED)  # LOCATED


@dataclass(frozen=True, slots=True)
class BatchesDealt:
    """Coordinator to a leader: batches for its ranks, as many in a row for one as there are.

    Each of `batches` is a `Dispatched`; fields are those of it, one batch behind the other. What
    an attempt says of its grants and images is counted within its batch.
    """

    snapshot: int
    batches: NDArray[Any]  # BATCH
    numbers: NDArray[np.int64]
    attempts: NDArray[Any]  # ATTEMPT
    grants: NDArray[Any]  # GRANT
    image_runs: NDArray[Any]  # RUN
    image_data: NDArray[np.uint8]
    leases: NDArray[Any] = field(default_factory=lambda: NO_LEASES)  # LEASES
    report_fuel: int = BATCH_FUEL


@dataclass(frozen=True, slots=True)
class Finished:
    """Worker to coordinator: attempts that ended, in the order in which they ended.

    The arrays are those of `engine.interface.OutcomeBatch`; `data_first` is -1 in runs whose bytes
    are staged. `traps` is a JSON object: position -> [operand texts, nearest range or null].
    `loads` and `load_data` are empty unless the engines track loads. `worker` is `joining.SEVERAL`
    if records of several workers were joined: `shares` tells whose they are then. `effort` is what
    their instructions count for where batches are sized: as many as are executed at the usual pace
    in the time that these took.
    """

    worker: int
    records: NDArray[Any]  # RECORD
    outcomes: NDArray[Any]  # OUTCOME
    runs: NDArray[Any]  # RUN
    data: NDArray[np.uint8]
    children: NDArray[Any]  # CHILD
    child_ranges: NDArray[Any]  # RANGE
    mallocs: NDArray[Any]  # RANGE
    console: NDArray[np.uint8]
    dropped_stacks: NDArray[np.int64]
    traps: str
    fetched_bytes: int
    effort: int
    loads: NDArray[Any] = field(default_factory=lambda: np.empty(0, RUN))  # RUN
    load_data: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    leases: NDArray[Any] = field(default_factory=lambda: NO_LEASES)  # LEASES
    shares: NDArray[Any] = field(default_factory=lambda: NO_SHARES)  # SHARE


@dataclass(frozen=True, slots=True)
class LeaseRequested:
    """Worker to coordinator: addresses of this kind are used up (`wanted_bytes`: MALLOC only).

    `attempt` is the number of the one that waits for addresses of its own, or OF_THE_WORKER;
    `blocks`: how many the worker wants, of ids and stacks. For a program that creates runners
    without end: `created`, how many ids were leased for this attempt so far, at least so many
    runners has it created; and `pc`, the instruction that wants more, or -1.
    """

    worker: int
    kind: int
    wanted_bytes: int
    attempt: int = OF_THE_WORKER
    blocks: int = 1
    created: int = 0
    pc: int = -1


@dataclass(frozen=True, slots=True)
class AsleepChanged:
    """Worker to coordinator: so many of its attempts are set aside, and take no turn from others.

    They sleep, or wait for addresses of their own.
    """

    worker: int
    asleep: int


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """Worker to coordinator: its engine has been compiled, so runners may come."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkersReady:
    """Leader to coordinator: `WorkerReady` of several workers."""

    workers: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class LeaseGranted:
    """Coordinator to worker: hand out these addresses (half-open; empty: none is left)."""

    kind: int
    start: int
    end: int
    attempt: int = OF_THE_WORKER


@dataclass(frozen=True, slots=True)
class AnswerRequested:
    """Coordinator to a worker that it suspects: say something (`AsleepChanged`)."""


# --- about the run itself -------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class RankLoaded:
    """Rank to coordinator: its home holds its part of the program and of the inputs."""

    rank: int
    loaded_bytes: int


@dataclass(frozen=True, slots=True)
class RankFailed:
    """Rank to coordinator: the run cannot go on; `text` is for the user, empty if there is none."""

    rank: int
    exit_code: int
    text: str


@dataclass(frozen=True, slots=True)
class ProgramEnded:
    """Coordinator to every rank: run nothing more, write your part of the outputs.

    `visible` is the epoch to write; `places` is what the job's owner knows of the files, as JSON.
    """

    visible: int
    places: str


@dataclass(frozen=True, slots=True)
class RankFinished:
    """Rank to coordinator: its part of the outputs is written; `figures` are for the report."""

    rank: int
    figures: str


@dataclass(frozen=True, slots=True)
class RunEnded:
    """Coordinator to every rank: leave with this exit code."""

    exit_code: int


@dataclass(frozen=True, slots=True)
class StatusRequested:
    """Coordinator to a rank: what are you doing?"""

    serial: int


@dataclass(frozen=True, slots=True)
class StatusReported:
    """Rank to coordinator: this, in words."""

    rank: int
    serial: int
    text: str


@dataclass(frozen=True, slots=True)
class Relayed:
    """Coordinator to a leader: hand on to this rank what `content` holds, a message's wire form."""

    rank: int
    content: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class GatheredTaken:
    """Coordinator to a leader: what you gathered was taken; send what has come since."""


@dataclass(frozen=True, slots=True)
class PagesHeld:
    """Rank to coordinator, for a record of the run: what its home holds as of the end.

    `content` is PAGE_BYTES of each page, back to back. All messages of a home together give every
    page that was ever stored to, but for `left_out` of them.
    """

    home: int
    left_out: int
    pages: NDArray[np.int64]
    content: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Metered:
    """Rank to coordinator: what it did since it told the last time, and which pages are hot."""

    rank: int
    host: str
    #: When its meter began, in rank 0's time; 0: not known yet. Spans count from there.
    from_us: int
    spans: NDArray[Any]  # SPAN
    hot_pages: NDArray[Any]  # HOT_PAGE


# --- about a trace of the run ---------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class TraceRows:
    """Rank to coordinator: what it has noted, in rank 0's time; `dropped` rows ever had no room."""

    rank: int
    dropped: int
    rows: NDArray[Any]  # ROW


@dataclass(frozen=True, slots=True)
class ClockAsked:
    """Rank to rank 0: what time is it? Here it is `asked_ns`."""

    rank: int
    asked_ns: int


@dataclass(frozen=True, slots=True)
class ClockAnswered:
    """Rank 0 to rank: when you asked, or soon after, it was `answered_ns` here."""

    asked_ns: int
    answered_ns: int


@dataclass(frozen=True, slots=True)
class BatchRecalled:
    """Coordinator to worker: give back the batch that you would begin last, for others."""


@dataclass(frozen=True, slots=True)
class BatchReturned:
    """Worker to coordinator: these attempts have not begun here, and will not.

    All of one batch, or none if there is no batch that has not begun.
    """

    worker: int
    numbers: NDArray[np.int64]  # of the attempts
    runners: NDArray[np.int64]  # their rows


@dataclass(frozen=True, slots=True)
class CodeShared:
    """Rank to rank of another host: translated code that was made beside me.

    `name` and `code` are a file's name and content; `key` says for what program, version and kind
    of processor it is. Who has it already, or cannot use it, drops it.
    """

    key: str
    name: str
    code: NDArray[np.uint8]


WorkerEvent = (
    Dispatched
    | LeaseGranted
    | AnswerRequested
    | BatchRecalled
    | memory.LookupAnswered
    | memory.ArenaReleased
    | memory.BlocksMoved
)
CoordinatorEvent = (
    Finished
    | LeaseRequested
    | AsleepChanged
    | WorkerReady
    | WorkersReady
    | BatchReturned
    | memory.EpochApplied
    | memory.EpochsApplied
    | memory.FramesLacking
)
#: From a rank to the coordinator, about the run.
SessionEvent = (
    RankLoaded | RankFailed | RankFinished | StatusReported | PagesHeld | Metered | TraceRows
)
#: From the coordinator to a rank, or among ranks, about the run.
RankEvent = ProgramEnded | RunEnded | StatusRequested | ClockAsked | ClockAnswered | CodeShared
#: From the coordinator to a leader, as its leader.
LeaderEvent = Relayed | GatheredTaken | memory.AppliesRequested | BatchesDealt
Message = WorkerEvent | CoordinatorEvent | memory.HomeEvent | SessionEvent | RankEvent | LeaderEvent

#: Which part of a rank takes a message of the coordinator's or of another rank.
TO_WORKER: Final = (
    Dispatched,
    LeaseGranted,
    AnswerRequested,
    BatchRecalled,
    memory.LookupAnswered,
    memory.ArenaReleased,
)
TO_HOME: Final = (
    memory.LookupRequested,
    memory.Staged,
    memory.ApplyRequested,
    memory.DiscardRequested,
    memory.StagingEnded,
    memory.PinsMoved,
    memory.BlocksMoved,
    memory.PagesHanded,
    memory.StoresPassed,
)
