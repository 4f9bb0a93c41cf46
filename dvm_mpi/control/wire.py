"""The wire form of every message: kinds by number, fields by type, and the codec.

`encode` lays a message out as one flat buffer of bytes (header of int64, then the fields' content),
`decode` reads it back without copying the arrays, but for tables whose columns were packed. Nothing
is pickled.
"""

from __future__ import annotations

import json
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import PACKED_ROWS_MIN
from dvm_mpi.control import columns
from dvm_mpi.control.journal import ROW
from dvm_mpi.control.messages import (
    BATCH,
    RECORD,
    SHARE,
    SPAN,
    AnswerRequested,
    AsleepChanged,
    BatchesDealt,
    BatchRecalled,
    BatchReturned,
    ClockAnswered,
    ClockAsked,
    CodeShared,
    Dispatched,
    Finished,
    GatheredTaken,
    LeaseGranted,
    LeaseRequested,
    Message,
    Metered,
    PagesHeld,
    ProgramEnded,
    RankFailed,
    RankFinished,
    RankLoaded,
    Relayed,
    RunEnded,
    StatusReported,
    StatusRequested,
    TraceRows,
    WorkerReady,
    WorkersReady,
)
from dvm_mpi.dsm import messages as memory
from dvm_mpi.dsm.rows import words_of
from dvm_mpi.engine.interface import ATTEMPT, CHILD, GRANT, LEASES, OUTCOME, RUN
from dvm_mpi.layout import RANGE
from dvm_mpi.values import types_of

#: Raised when `columns` packs in another way: who reads must know.
_PACKING: Final = 1
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
    CodeShared,
)
_NUMBER: Final = {cls: number for number, cls in enumerate(MESSAGES)}
#: Name and type of every field, by kind.
_FIELDS: Final = {cls: tuple(types_of(cls).items()) for cls in MESSAGES}

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
    "code": _BYTES,
    "pins": _INT64,
    "spans": SPAN,
    "hot_pages": memory.HOT_PAGE,
    "tokens": memory.TOKEN,
    "rows": ROW,
    "shares": SHARE,
    "homes": _INT64,
    "located": memory.LOCATED,
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
    told = [(cls.__name__, list(types_of(cls).items())) for cls in MESSAGES]
    elements = [(name, element.descr) for name, element in sorted(_ELEMENTS.items())]
    return json.dumps([told, elements, _PACKING])
