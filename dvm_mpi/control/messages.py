"""What the coordinator and the workers say to each other, and the wire form of every message.

A message is a frozen dataclass of integers, texts and arrays. `encode` lays it out as one flat
buffer of bytes (header of int64, then the fields' content), `decode` reads it back without copying
the arrays, but for tables whose columns were packed. Nothing is pickled. Messages about memory are
in `dsm/messages.py`; the codec serves both.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import BATCH_FUEL, PACKED_ROWS_MIN
from dvm_mpi.control import columns
from dvm_mpi.control.journal import ROW
from dvm_mpi.dsm import messages as memory
from dvm_mpi.dsm.rows import words_of
from dvm_mpi.engine.interface import ATTEMPT, CHILD, GRANT, LEASES, NO_LEASES, OUTCOME, RUN
from dvm_mpi.layout import RANGE

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

#: Raised when `columns` packs in another way: who reads must know.
_PACKING: Final = 1
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
    are worth a message, though the batch has not come to its end.
    """

    snapshot: int
    numbers: NDArray[np.int64]  # of the attempts, for fencing
    attempts: NDArray[Any]  # ATTEMPT
    grants: NDArray[Any]  # GRANT
    image_runs: NDArray[Any]  # RUN
    image_data: NDArray[np.uint8]
    leases: NDArray[Any] = field(default_factory=lambda: NO_LEASES)  # LEASES
    report_fuel: int = BATCH_FUEL


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
    if records of several workers were joined: `shares` tells whose they are then.
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
#: From the coordinator to a rank, about the run.
RankEvent = ProgramEnded | RunEnded | StatusRequested | ClockAsked | ClockAnswered
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
#: Position is the number on the wire: append only.
MESSAGES: Final[tuple[type[Any], ...]] = (
    Dispatched,
    Finished,
    LeaseRequested,
    LeaseGranted,
    memory.LookupRequested,
    memory.LookupAnswered,
    memory.Staged,
    memory.ArenaReleased,
    memory.ApplyRequested,
    memory.DiscardRequested,
    memory.EpochApplied,
    AsleepChanged,
    WorkerReady,
    RankLoaded,
    RankFailed,
    ProgramEnded,
    RankFinished,
    RunEnded,
    StatusRequested,
    StatusReported,
    memory.StagingEnded,
    memory.PinsMoved,
    memory.FramesLacking,
    AnswerRequested,
    PagesHeld,
    Metered,
    TraceRows,
    ClockAsked,
    ClockAnswered,
    Relayed,
    GatheredTaken,
    memory.EpochsApplied,
    BatchRecalled,
    BatchReturned,
    memory.AppliesRequested,
    BatchesDealt,
    WorkersReady,
    memory.BlocksMoved,
    memory.PagesHanded,
    memory.StoresPassed,
)
_NUMBER: Final = {cls: number for number, cls in enumerate(MESSAGES)}
#: Name and type of every field, by kind.
_FIELDS: Final = {cls: tuple((f.name, str(f.type)) for f in fields(cls)) for cls in MESSAGES}

_INT64: Final = np.dtype("<i8")
_BYTES: Final = np.dtype("u1")
#: Element types of array fields, by field name; a name means the same in every message.
_ELEMENTS: Final[dict[str, np.dtype[Any]]] = {
    "numbers": _INT64,
    "workers": _INT64,
    "batches": BATCH,
    "runners": _INT64,
    "attempts": ATTEMPT,
    "grants": GRANT,
    "image_runs": RUN,
    "image_data": _BYTES,
    "records": RECORD,
    "outcomes": OUTCOME,
    "runs": RUN,
    "data": _BYTES,
    "children": CHILD,
    "child_ranges": RANGE,
    "mallocs": RANGE,
    "console": _BYTES,
    "dropped_stacks": _INT64,
    "loads": RUN,
    "load_data": _BYTES,
    "leases": LEASES,
    "pages": _INT64,
    "frames": _INT64,
    "versions": _INT64,
    "until": _INT64,
    "held": _INT64,
    "content": _BYTES,
    "pins": _INT64,
    "spans": SPAN,
    "hot_pages": memory.HOT_PAGE,
    "tokens": memory.TOKEN,
    "rows": ROW,
    "shares": SHARE,
    "homes": _INT64,
    "moved": _INT64,
    "epochs": _INT64,
}
#: What array fields hold that are empty.
_NOTHING: Final = {name: np.zeros(0, element) for name, element in _ELEMENTS.items()}
#: Arrays of bytes that are no content of the shared region: the rows that say how long each is.
_ROWS_OF: Final = {"image_data": "image_runs"}
_PADDING: Final = np.zeros(_INT64.itemsize, np.uint8)
assert memory.RUN == RUN, "engine and dsm describe stored bytes by the same record"


class CodecError(AssertionError):
    """A buffer that no peer of this version can have sent."""


def encode(message: Message) -> NDArray[np.uint8]:
    """Lay a message out as one buffer: kind, one int64 per field, then the arrays' bytes.

    An integer field's word is its value; an array's or text's is its length in bytes. Where a
    table is packed (`columns`), it is the length of that less than zero.
    """
    kind = type(message)
    header = [_NUMBER[kind]]
    parts: list[NDArray[np.uint8]] = []
    for name, _ in _FIELDS[kind]:
        value = getattr(message, name)
        if isinstance(value, np.ndarray):
            assert value.dtype == _ELEMENTS[name], name
            if value.size == 0:
                header.append(0)
                continue
            packed = _packed(message, name, value)
            if packed is not None:
                header.append(-packed.size)
                parts.append(packed)
                continue
            raw = np.ascontiguousarray(value).view(np.uint8).reshape(-1)
        elif isinstance(value, str):
            raw = np.frombuffer(value.encode(), dtype=np.uint8)
        else:
            header.append(int(value))
            continue
        header.append(raw.size)
        if raw.size:
            parts.append(raw)
            if raw.size % _INT64.itemsize:
                parts.append(_PADDING[: -raw.size % _INT64.itemsize])
    return np.concatenate([np.array(header, dtype=_INT64).view(np.uint8), *parts])


def _packed(message: Message, name: str, value: NDArray[Any]) -> NDArray[np.uint8] | None:
    """Return an array that is not empty as a packed table; None if that saves nothing."""
    if value.dtype != _BYTES:
        # Too few rows are not worth a look.
        return columns.pack(words_of(value)) if len(value) >= PACKED_ROWS_MIN else None
    if name not in _ROWS_OF:
        return None
    # Arguments of runners that one loop creates: as long as each other, and word by word regular.
    owners = getattr(message, _ROWS_OF[name])
    row_count = len(owners)
    if row_count == 0 or value.size % (row_count * _INT64.itemsize):
        return None
    if (owners["length"] != value.size // row_count).any():
        return None
    words = np.ascontiguousarray(value).view(_INT64)
    return columns.pack(words.reshape(row_count, -1))


def decode(buffer: NDArray[np.uint8]) -> Any:
    """Read one message back; its arrays are views of `buffer`, but for those that were packed.

    Raises
    ------
    CodecError
        The kind, a length or a text is none that `encode` writes.
    """
    word = _INT64.itemsize
    number = int(buffer[:word].view(_INT64)[0]) if len(buffer) >= word else -1
    if not 0 <= number < len(MESSAGES):
        raise CodecError(f"message kind {number} is unknown")
    cls = MESSAGES[number]
    names = _FIELDS[cls]
    position = (1 + len(names)) * word
    if len(buffer) < position:
        raise CodecError(f"{cls.__name__}: the header is cut off")
    words = buffer[word:position].view(_INT64).tolist()
    values: dict[str, Any] = {}
    for (name, annotation), value in zip(names, words, strict=True):
        if annotation == "int":
            values[name] = value
            continue
        if value == 0 and name in _NOTHING:
            values[name] = _NOTHING[name]
            continue
        place = f"{cls.__name__}.{name}"
        if annotation == "bool":
            values[name] = _truth(value, place)
            continue
        is_packed = value < 0 and annotation != "str"
        length = -value if is_packed else value
        if not 0 <= length <= len(buffer) - position:
            raise CodecError(f"{place}: {value} bytes do not fit")
        raw = buffer[position : position + length]
        if annotation == "str":
            values[name] = _text(raw, place)
        else:
            values[name] = _rows(_unpacked(raw, place) if is_packed else raw, name, place)
        position += length + -length % word
    if position != len(buffer):
        raise CodecError(f"{cls.__name__}: {len(buffer) - position} bytes too many")
    return cls(**values)


def _unpacked(packed: NDArray[np.uint8], place: str) -> NDArray[np.int64]:
    try:
        return columns.unpack(packed).reshape(-1)
    except columns.ColumnsError as error:
        raise CodecError(f"{place}: {error}") from error


def _truth(value: int, place: str) -> bool:
    if value not in {0, 1}:
        raise CodecError(f"{place}: {value} is neither true nor false")
    return value == 1


def _text(raw: NDArray[np.uint8], place: str) -> str:
    try:
        return raw.tobytes().decode()
    except UnicodeDecodeError as error:
        raise CodecError(f"{place}: not UTF-8: {error}") from error


def _rows(raw: NDArray[Any], name: str, place: str) -> NDArray[Any]:
    element = _ELEMENTS[name]
    if raw.nbytes % element.itemsize:
        raise CodecError(f"{place}: {raw.nbytes} bytes are no whole elements")
    return np.ndarray((raw.nbytes // element.itemsize,), element, np.ascontiguousarray(raw))


def wire_layout() -> str:
    """Describe the wire form of all messages: equal texts read each other's buffers."""
    told = [(cls.__name__, [(f.name, str(f.type)) for f in fields(cls)]) for cls in MESSAGES]
    elements = [(name, element.descr) for name, element in sorted(_ELEMENTS.items())]
    return json.dumps([told, elements, _PACKING])
