"""A run on file: what a `Recorder` keeps in memory, written while the run goes on, and read back.

Messages are kept in their wire form, so a record is read by the version that wrote it; what it
says of itself tells which one that was. A record whose run died is how that run began.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import __version__
from dvm_mpi.control.coordinator_state import (
    Claim,
    Failure,
    RecordGivenUp,
    RecordLoss,
    RecordOrder,
    RecordRecalled,
    RecordWaking,
)
from dvm_mpi.control.delivery import Part
from dvm_mpi.control.driver import Silent
from dvm_mpi.control.messages import Dispatched, Finished, Message, PagesHeld
from dvm_mpi.control.wire import CodecError, decode, encode, wire_layout
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.image_file import DamagedImageError, image_bytes, image_from_bytes
from dvm_mpi.errors import FileError
from dvm_mpi.io.record_file import RecordReader
from dvm_mpi.sim.history import History, Recorder
from dvm_mpi.values import dataclass

#: Part of the machine that got a message, where that is no worker.
_COORDINATOR: Final = -1
_CLAIMS: Final[dict[str, type[Claim]]] = {
    cls.__name__: cls for cls in (RecordLoss, RecordWaking, RecordGivenUp, RecordRecalled)
}
assert set(_CLAIMS.values()) == set(get_args(Claim)), "every claim is kept"


class Kind(IntEnum):
    """What an entry of a record is."""

    MESSAGE = 0
    ORDER = 1
    CONSOLE = 2
    ENDING = 3
    CLAIM = 4


@dataclass(frozen=True, slots=True)
class Circumstances:
    """How a run was made, as far as its replay must know; sizes in bytes."""

    command: tuple[str, ...]
    ranks: int
    engine: str
    stack_bytes: int
    fuel_max: int
    allow_undeclared: bool
    isolation: str
    conflict_unit: str
    deterministic: bool
    #: Names of the arrays that were loaded from files.
    inputs: tuple[str, ...]
    #: Pages of shared memory that an attempt could touch; 0 for any number.
    touched_pages_max: int = 0


def sections_of(
    circumstances: Circumstances, image: Image, stdin: bytes, sources: dict[str, str]
) -> dict[str, bytes]:
    """Return what a record holds from its beginning; `sources` are texts of the program's files."""
    header = {"dvm": __version__, "layout": _layout(), **asdict(circumstances)}
    return {
        "header": json.dumps(header).encode(),
        "program": image_bytes(image),
        "stdin": stdin,
        "sources": json.dumps(sources).encode(),
    }


def _layout() -> str:
    return hashlib.sha256(wire_layout().encode()).hexdigest()


class Sink(Protocol):
    """Where entries go: a file that grows."""

    def append(self, kind: int, part: int, data: NDArray[np.uint8]) -> None:
        """Add an entry."""


class Tape(Silent):
    """Writes what happens in a run; an observer, and all that the owner of a run has to tell."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def printed(self, data: NDArray[np.uint8]) -> None:
        """Keep committed output."""
        self._sink.append(Kind.CONSOLE, 0, data)

    def delivered(self, target: Part, message: Message) -> None:
        """Keep batches, records, and what is held in the end."""
        if isinstance(message, Dispatched | Finished | PagesHeld):
            part = target[1] if target[0] == "worker" else _COORDINATOR
            self._sink.append(Kind.MESSAGE, part, encode(message))

    def ordered(self, order: RecordOrder) -> None:
        """Keep the commit order."""
        told = np.concatenate([[order.epoch], order.numbers]).astype("<i8")
        self._sink.append(Kind.ORDER, 0, told.view(np.uint8))

    def claimed(self, claim: Claim) -> None:
        """Keep what the coordinator says of its decisions."""
        fields_told = {f.name: np.asarray(getattr(claim, f.name)).tolist() for f in fields(claim)}
        told = json.dumps([type(claim).__name__, fields_told]).encode()
        self._sink.append(Kind.CLAIM, 0, np.frombuffer(told, np.uint8))

    def ended(self, failure: Failure | None) -> None:
        """Keep how the program came to its end."""
        told = json.dumps(None if failure is None else asdict(failure)).encode()
        self._sink.append(Kind.ENDING, 0, np.frombuffer(told, np.uint8))


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A record, read back."""

    circumstances: Circumstances
    image: Image
    stdin: bytes
    #: Texts of the program's files, by the names in its line table; some may be missing.
    sources: dict[str, str]
    history: History


def read_run(path: Path, place: str) -> RecordedRun:
    """Read a record.

    Raises
    ------
    FileError
        There is none, it is damaged, or another version of DVM made it.
    """
    with RecordReader(path, place) as reader:
        try:
            header = json.loads(reader.section("header"))
            made_by, layout = header.pop("dvm"), header.pop("layout")
            if layout != _layout():
                raise FileError(
                    f"{place}: '{path}' was made by DVM {made_by}, whose messages differ from "
                    f"those of this DVM {__version__}; replay it with the version that made it"
                )
            for name in ("command", "inputs"):
                header[name] = tuple(header[name])
            return RecordedRun(
                Circumstances(**header),
                image_from_bytes(reader.section("program")),
                reader.section("stdin"),
                json.loads(reader.section("sources")),
                _read_history(reader),
            )
        except FileError:
            raise
        except (
            CodecError,
            DamagedImageError,
            ValueError,
            KeyError,
            TypeError,
            IndexError,
        ) as error:
            what = str(error) or type(error).__name__
            raise FileError(
                f"{place}: '{path}' is damaged: {what}; record the run again"
            ) from error


def _read_history(reader: RecordReader) -> History:
    recorder = Recorder()
    failure: dict[str, Any] | None = None
    is_over = False
    for kind, part, data in reader.entries():
        if kind == Kind.MESSAGE:
            target: Part = ("coordinator", 0) if part == _COORDINATOR else ("worker", part)
            recorder.delivered(target, decode(data))
        elif kind == Kind.ORDER:
            epoch, *numbers = data.view("<i8").tolist()
            recorder.ordered(RecordOrder(epoch, np.array(numbers, dtype=np.int64)))
        elif kind == Kind.CLAIM:
            recorder.claimed(_claim(*json.loads(data.tobytes())))
        elif kind == Kind.CONSOLE:
            recorder.printed(data)
        elif kind == Kind.ENDING:
            failure, is_over = json.loads(data.tobytes()), True
        else:
            raise ValueError(f"an entry of kind {kind}")
    pages, has_all_pages = recorder.pages()
    history = recorder.history(None if failure is None else _failure(failure), pages)
    history.has_all_pages, history.is_over = has_all_pages, is_over
    return history


def _claim(name: str, told: dict[str, Any]) -> Claim:
    rows: dict[str, Any] = {
        key: np.array(v, np.int64) if isinstance(v, list) else v for key, v in told.items()
    }
    return _CLAIMS[name](**rows)


def _failure(told: dict[str, Any]) -> Failure:
    nearest = told.pop("nearest")
    operands = tuple(told.pop("operands"))
    return Failure(
        **told, operands=operands, nearest=None if nearest is None else (nearest[0], nearest[1])
    )
