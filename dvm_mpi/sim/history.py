"""What happened in a run: every attempt as it was dispatched and as it ended, and the commit order.

A `Recorder` looks on as a machine's observer; messages are kept as they are and taken apart only
when the history is read. It judges nothing: `replay` does.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

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
from dvm_mpi.dsm.home import Home
from dvm_mpi.engine.interface import CHILD, OutcomeBatch
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.values import dataclass, field

#: A half-open byte range as `(start, length)`.
Span = tuple[int, int]
#: Bytes at an address; None where only the place is known: the bytes were staged, or the engines
#: track no more of loads.
Content = tuple[int, int, bytes | None]

#: Fields of a child that say what it is, not where a message keeps its parts.
_CHILD_FACTS: Final = (
    "id", "entry", "stack_base", "stack_bytes", "stack_automatic", "template", "newr_pc",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class GivenAttempt:
    """One attempt as its worker was told to run it."""

    number: int
    worker: int
    snapshot: int
    #: The scheduler's number of the runner; another runner may have it later.
    runner: int
    id: int
    entry: int
    stack: Span
    stack_automatic: bool
    grants: tuple[Span, ...]
    image: tuple[Content, ...]


@dataclass(frozen=True, slots=True)
class CreatedRunner:
    """One runner that an attempt created; comparable with `==`."""

    facts: tuple[int, ...]
    heap: tuple[Span, ...]
    watched: tuple[Span, ...]
    image: tuple[Content, ...]

    def fact(self, name: str) -> int:
        """Return a field of CHILD that is not about the place of its parts."""
        return self.facts[_CHILD_FACTS.index(name)]


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """How one attempt ended; comparable with `==` field by field."""

    end: int
    instructions: int
    stores: tuple[Content, ...]
    children: tuple[CreatedRunner, ...]
    mallocs: tuple[Span, ...]
    console: bytes
    stdin_bytes: int
    trap: int
    trap_pc: int
    trap_address: int
    exit_pc: int
    #: What it observed of its snapshot; empty if the engines did not track that.
    loads: tuple[Content, ...] = ()


@dataclass(slots=True)
class History:
    """One run, by attempt number; numbers count from 1 in the order of dispatch."""

    given: dict[int, GivenAttempt] = field(default_factory=dict)
    ended: dict[int, EndedAttempt] = field(default_factory=dict)
    #: Attempts that were ordered, with their epochs, in commit order.
    orders: list[tuple[int, int]] = field(default_factory=list)
    console: bytearray = field(default_factory=bytearray)
    #: Every page that some home holds, as of the end; if `has_all_pages`, others are zero.
    pages: dict[int, bytes] = field(default_factory=dict)
    failure: Failure | None = None
    #: Attempts that were given up on: their runners were dispatched anew.
    given_up: set[int] = field(default_factory=set)
    #: Attempts that came back from their worker before they had begun.
    recalled: set[int] = field(default_factory=set)
    #: Attempts that lost, with the epochs of the stores that they lost to, as claimed.
    losses: list[tuple[int, int]] = field(default_factory=list)
    #: Commits and the first attempts of the instances that they woke, as claimed.
    wakings: list[tuple[int, int]] = field(default_factory=list)
    has_all_pages: bool = True
    #: Whether the run went on to the program's end; else this is how it began.
    is_over: bool = True

    @property
    def ended_early(self) -> bool:
        """Whether runners may be left that have not run: by a trap, or because the run died."""
        return self.failure is not None or not self.is_over


def ended_attempts(batch: Finished | OutcomeBatch) -> list[EndedAttempt]:
    """Take a message, or what an engine returned, apart into attempts, in order."""
    return [_ended_attempt(batch, outcome) for outcome in batch.outcomes]


def _ended_attempt(batch: Finished | OutcomeBatch, outcome: Any) -> EndedAttempt:
    first = int(outcome["console_first"])
    children = tuple(
        CreatedRunner(
            tuple(int(child[name]) for name in _CHILD_FACTS),
            _spans(batch.child_ranges, child, "heap"),
            _spans(batch.child_ranges, child, "watched"),
            _contents(batch.runs, batch.data, child, "image"),
        )
        for child in _rows(batch.children, outcome, "child")
    )
    return EndedAttempt(
        end=int(outcome["end"]),
        instructions=int(outcome["instructions"]),
        stores=_contents(batch.runs, batch.data, outcome, "run"),
        children=children,
        mallocs=_spans(batch.mallocs, outcome, "malloc"),
        console=batch.console[first : first + int(outcome["console_count"])].tobytes(),
        stdin_bytes=int(outcome["stdin_bytes"]),
        trap=int(outcome["trap"]),
        trap_pc=int(outcome["trap_pc"]),
        trap_address=int(outcome["trap_address"]),
        exit_pc=int(outcome["exit_pc"]),
        loads=_contents(batch.loads, batch.load_data, outcome, "load"),
    )


def given_attempts(message: Dispatched, worker: int) -> list[GivenAttempt]:
    """Take a dispatched batch apart into attempts, in order."""
    return [
        GivenAttempt(
            number,
            worker,
            int(row["snapshot"]),
            int(row["runner"]),
            int(row["id"]),
            int(row["entry"]),
            (int(row["stack_base"]), int(row["stack_bytes"])),
            bool(row["stack_automatic"]),
            _spans(message.grants, row, "grant"),
            _contents(message.image_runs, message.image_data, row, "image"),
        )
        for number, row in zip(message.numbers.tolist(), message.attempts, strict=True)
    ]


def _rows(array: NDArray[Any], owner: Any, name: str) -> NDArray[Any]:
    first = int(owner[f"{name}_first"])
    return array[first : first + int(owner[f"{name}_count"])]


def _spans(array: NDArray[Any], owner: Any, name: str) -> tuple[Span, ...]:
    rows = _rows(array, owner, name)
    return tuple(zip(rows["start"].tolist(), rows["length"].tolist(), strict=True))


def _contents(
    runs: NDArray[Any], data: NDArray[np.uint8], owner: Any, name: str
) -> tuple[Content, ...]:
    return tuple(
        (start, length, data[first : first + length].tobytes() if first >= 0 else None)
        for start, length, first in _rows(runs, owner, name).tolist()
    )


class Recorder(Silent):
    """Keeps what a machine's parts tell each other; an observer for one run."""

    def __init__(self) -> None:
        self._dispatched: list[tuple[int, Dispatched]] = []
        self._finished: list[Finished] = []
        self._orders: list[RecordOrder] = []
        self._claims: list[Claim] = []
        self._console = bytearray()
        self._held: list[PagesHeld] = []

    def printed(self, data: NDArray[np.uint8]) -> None:
        """Keep committed output."""
        self._console += data.tobytes()

    def delivered(self, target: Part, message: Message) -> None:
        """Keep batches and records."""
        if isinstance(message, Dispatched):
            self._dispatched.append((target[1], message))
        elif isinstance(message, Finished):
            self._finished.append(message)
        elif isinstance(message, PagesHeld):
            self._held.append(message)

    def ordered(self, order: RecordOrder) -> None:
        """Keep the commit order."""
        self._orders.append(order)

    def claimed(self, claim: Claim) -> None:
        """Keep who lost to what, what woke whom, and who was given up on."""
        self._claims.append(claim)

    def pages(self) -> tuple[dict[int, bytes], bool]:
        """Return the pages that homes told of, and whether these are all that they hold."""
        pages = {}
        for held in self._held:
            content = held.content.tobytes()
            for at, page in enumerate(held.pages.tolist()):
                pages[page] = content[at * PAGE_BYTES : (at + 1) * PAGE_BYTES]
        return pages, bool(self._held) and not any(held.left_out for held in self._held)

    def history(self, failure: Failure | None, pages: dict[int, bytes]) -> History:
        """Return the history of a run that has ended, with the memory that it left."""
        history = History(console=self._console, failure=failure, pages=pages)
        for worker, dispatched in self._dispatched:
            history.given.update((a.number, a) for a in given_attempts(dispatched, worker))
        for finished in self._finished:
            numbers = finished.records["attempt"].tolist()
            history.ended.update(zip(numbers, ended_attempts(finished), strict=True))
        for order in self._orders:
            history.orders += [(number, order.epoch) for number in order.numbers.tolist()]
        for claim in self._claims:
            if isinstance(claim, RecordLoss):
                pairs = zip(claim.numbers.tolist(), claim.epochs.tolist(), strict=True)
                history.losses += pairs
            elif isinstance(claim, RecordGivenUp):
                history.given_up.update(claim.numbers.tolist())
            elif isinstance(claim, RecordRecalled):
                history.recalled.update(claim.numbers.tolist())
        history.wakings += self._first_attempts(history)
        return history

    def _first_attempts(self, history: History) -> list[tuple[int, int]]:
        """Return commits and the first attempts that they woke; cancelled instances have none.

        Attempts that were recalled are none.
        """
        attempts: dict[tuple[int, int], list[int]] = {}
        for number, given in sorted(history.given.items()):
            if number in history.recalled:
                continue
            attempts.setdefault((given.runner, given.id), []).append(number)
        found = []
        for claim in self._claims:
            if not isinstance(claim, RecordWaking):
                continue
            rows = (claim.writers, claim.instances, claim.ids)
            for writer, row, id_ in zip(*(column.tolist() for column in rows), strict=True):
                own = attempts.get((row, id_), [])
                place = bisect_left(own, claim.next_attempt)
                found += [(writer, own[place])] if place < len(own) else []
        return found


def held_pages(home: Home, visible: int) -> dict[int, bytes]:
    """Return every page that a home holds as of an epoch, by page number."""
    pages = home.directory.pages()
    # Those that have left are held elsewhere.
    pages = pages[home.geometry.home_of(pages, visible) == home.index]
    contents = home.read(pages, visible)
    return dict(zip(pages.tolist(), (content.tobytes() for content in contents), strict=True))


assert set(_CHILD_FACTS) <= set(CHILD.names or ())
