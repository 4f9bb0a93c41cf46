"""Replay of a history: the run once more, one attempt at a time, in commit order.

Each committed attempt is executed by the reference engine on the state at its recorded snapshot,
with the ids, stacks and malloc addresses that it got, and must do again what its record says; its
stores, laid over the pages one by one, must give the memory that the machine left. Nothing of the
machine's own shared memory, caches or conflict rules takes part.

Attempts that ask for the time cannot be replayed unless the clock stands still; with `no_clock`
they are believed.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Final

import numpy as np

from dvm_mpi.control.loader import LOADED_EPOCH
from dvm_mpi.control.validation import ConflictUnit, Isolation
from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import (
    ATTEMPT,
    GRANT,
    RUN,
    AttemptBatch,
    End,
    EngineSettings,
    Exit,
    Lease,
    LeaseKind,
    Reason,
)
from dvm_mpi.engine.lease_blocks import automatic_stack_bytes
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.layout import (
    GUARD_BYTES,
    MALLOC_END,
    PAGE_BYTES,
    STACKS_END,
    STACKS_START,
    STATUS_AREAS,
    stack_slot_bytes,
    whole_pages,
)
from dvm_mpi.sim.history import (
    Content,
    EndedAttempt,
    GivenAttempt,
    History,
    ended_attempts,
)
from dvm_mpi.sim.loss import Loss
from dvm_mpi.sim.pages import VersionedPages
from dvm_mpi.sim.rules import Rules

#: Later than every epoch: pages count only as of the snapshot itself.
_ALWAYS_ASK: Final = 2**62
_SLICE_FUEL: Final = 100_000


class DivergedError(Exception):
    """The attempt does something that its record does not tell."""


class TimeAskedError(Exception):
    """The attempt asks for the time, which no record tells."""


def no_clock() -> int:
    """Stand in for a clock, in the settings of engines that execute attempts again."""
    raise TimeAskedError


def replay(
    history: History,
    image: Image,
    settings: EngineSettings,
    *,
    stdin: bytes = b"",
    inputs: tuple[tuple[int, bytes], ...] = (),
    isolation: Isolation = "snapshot",
    conflict_unit: ConflictUnit = "byte",
    losers: bool = False,
    timed: list[int] | None = None,
) -> list[str]:
    """Execute a history again, and return how it differs from what was recorded.

    Parameters
    ----------
    history
        A run that ended by itself.
    image
        Its program.
    settings
        Those of the engines that it ran on.
    stdin
        Its standard input.
    inputs
        `(address, bytes)` of what was loaded beside the image.
    isolation, conflict_unit
        Those of the machine.
    losers
        Whether attempts that lost are executed again too.
    timed
        Gets the numbers of attempts that asked for the time where `no_clock` is the clock: they
        cannot be executed again, and are believed.

    Returns
    -------
    One line for each difference and each broken rule; after the first attempt that does not do
    again what it did, memory is not looked at any more.
    """
    loss = Loss(isolation, conflict_unit)
    rules = Rules(history, loss).check()
    run = _Replay(history, image, settings, stdin, loss, losers)
    for section in image.sections:
        run.pages.store(LOADED_EPOCH, section.start, section.data)
    for address, data in inputs:
        run.pages.store(LOADED_EPOCH, address, data)
    found = rules + run.differences()
    if timed is not None:
        timed += run.timed
    return found


class _Replay:
    """The state of one replay."""

    def __init__(
        self,
        history: History,
        image: Image,
        settings: EngineSettings,
        stdin: bytes,
        loss: Loss,
        losers: bool,
    ) -> None:
        self._loss = loss
        self._looks_at_losers = losers
        self.pages = VersionedPages()
        self._history = history
        self._settings = settings
        self._image, self._stdin = image, stdin
        self._engine = self._make_engine()
        #: Attempts that asked for the time.
        self.timed: list[int] = []

    def _make_engine(self) -> ReferenceEngine:
        engine = ReferenceEngine(self._settings)
        engine.load(self._image, self._stdin)
        return engine

    def differences(self) -> list[str]:
        """Replay everything; return what differs."""
        console = bytearray()
        for number, epoch in self._history.orders:
            again, found = self._again(number)
            found += self._conflicts(number, epoch)
            if found:
                return found
            assert again is not None
            console += again.console
            for start, _, data in again.stores:
                assert data is not None
                self.pages.store(epoch, start, data)
        found = self._check_trap() + self._check_losers() + self._check_memory()
        told = self._history.console
        # What was committed last is printed when it is visible: a run may die before.
        if console != told and (self._history.is_over or not console.startswith(told)):
            found.append(f"the console has {self._history.console!r}, not {console!r}")
        return found

    # --- one attempt ----------------------------------------------------------------------------
    def _again(self, number: int) -> tuple[EndedAttempt | None, list[str]]:
        """Execute an attempt; return how it ended now, and how that differs."""
        recorded = self._history.ended[number]
        supply = Supply(recorded, self._settings)
        try:
            again = self._execute(self._history.given[number], recorded, supply)
        except DivergedError as diverged:
            self._engine = self._make_engine()
            return None, [f"attempt {number} {diverged}"]
        except TimeAskedError:
            self.timed.append(number)
            self._engine = self._make_engine()
            return recorded, []
        return again, [f"attempt {number}: {line}" for line in unlike(recorded, again, supply)]

    def _execute(self, given: GivenAttempt, recorded: EndedAttempt, supply: Supply) -> EndedAttempt:
        self._engine.begin(batch_of(given))
        executed = 0
        while True:
            stop = self._engine.run(_SLICE_FUEL)
            executed += stop.instructions
            if stop.reason is Reason.BATCH_DONE:
                (again,) = ended_attempts(self._engine.take_outcomes())
                return again
            if executed > recorded.instructions:
                raise DivergedError(f"goes on after {recorded.instructions} instructions")
            if stop.reason is Reason.PAGE_MISSED:
                self._install(stop.page, given.snapshot)
            elif stop.reason is Reason.LEASE_NEEDED:
                self._engine.grant_lease(supply.lease(stop))

    def _install(self, page: int, snapshot: int) -> None:
        content = np.frombuffer(self.pages.read(page, snapshot), dtype=np.uint8)
        epoch = np.array([snapshot])
        self._engine.install(np.array([page]), epoch, epoch, content.reshape(1, PAGE_BYTES))

    # --- rules of memory ------------------------------------------------------------------------
    def _conflicts(self, number: int, epoch: int) -> list[str]:
        """First committer wins: nobody stored what counts after the attempt's snapshot."""
        snapshot = self._history.given[number].snapshot
        return [
            f"attempt {number} committed in epoch {epoch}, but {length} bytes at {start:#x} were "
            f"stored in epoch {newest}, after its snapshot {snapshot}"
            for start, length in self._loss.spans(self._history.ended[number])
            if (newest := self.pages.last_store(start, length)) > snapshot
        ]

    def _check_trap(self) -> list[str]:
        """The trap that ended the program comes again, and its attempt had not lost."""
        failure = self._history.failure
        if failure is None:
            return []
        number = max(
            number
            for number, ended in self._history.ended.items()
            if ended.trap == failure.trap
            and ended.trap_pc == failure.pc
            and self._history.given[number].id == failure.runner_id
        )
        snapshot = self._history.given[number].snapshot
        lost = [
            f"attempt {number} trapped, though it had lost: {length} bytes at {start:#x} were "
            f"stored after its snapshot {snapshot}"
            for start, length in self._loss.spans(self._history.ended[number])
            if self.pages.last_store(start, length) > snapshot
        ]
        return self._again(number)[1] + lost

    def _check_losers(self) -> list[str]:
        """Attempts that lost do the same again, if they are to be looked at too."""
        if not self._looks_at_losers:
            return []
        lost = {number for number, _ in self._history.losses} & self._history.ended.keys()
        return [line for number in sorted(lost) for line in self._again(number)[1]]

    def _check_memory(self) -> list[str]:
        """Compare every page that either side ever stored to."""
        found = []
        held = self._history.pages
        newest = max((epoch for _, epoch in self._history.orders), default=LOADED_EPOCH)
        is_whole = self._history.has_all_pages
        for page in sorted(held.keys() | set(self.pages.pages() if is_whole else ())):
            expected = self.pages.read(page, newest)
            actual = held.get(page, bytes(PAGE_BYTES))
            if actual != expected:
                at = next(i for i in range(PAGE_BYTES) if actual[i] != expected[i])
                found.append(
                    f"address {page * PAGE_BYTES + at:#x} holds {actual[at]:#x}, "
                    f"not {expected[at]:#x}"
                )
        return found


class Supply:
    """The addresses that an attempt got, to be given out once more in their order.

    The record of an attempt that did not commit does not tell them; it gets addresses from the
    upper ends of the areas, which runs do not reach.
    """

    def __init__(self, recorded: EndedAttempt, settings: EngineSettings) -> None:
        #: Whether it was given addresses that may be others than it had.
        self.has_invented = False
        self._stack_bytes = automatic_stack_bytes(settings)
        self._is_told = recorded.end in {End.COMMIT, End.COMMIT_DELETE}
        self._ids = [child.fact("id") for child in recorded.children]
        self._stacks = [
            child.fact("stack_base") - GUARD_BYTES
            for child in recorded.children
            if child.fact("stack_automatic")
        ]
        self._mallocs = list(recorded.mallocs)
        slot_bytes = stack_slot_bytes(self._stack_bytes)
        slots = (STACKS_END - STACKS_START) // slot_bytes
        #: Where the next invented address of each kind ends.
        self._upper = {
            LeaseKind.ID: STATUS_AREAS[-1][1],
            LeaseKind.STACK: STACKS_START + slots * slot_bytes,
            LeaseKind.MALLOC: MALLOC_END,
        }

    def lease(self, stop: Exit) -> Lease:
        """Return exactly what the attempt needs now."""
        assert stop.lease is not None
        length = {
            LeaseKind.ID: PAGE_BYTES,
            LeaseKind.STACK: stack_slot_bytes(self._stack_bytes),
            LeaseKind.MALLOC: stop.lease_bytes,
        }[stop.lease]
        if stop.lease is LeaseKind.MALLOC and self._is_told and not self._is_next_malloc(length):
            # One page for a `malloc` of no bytes, which no record tells; else it was refused.
            return self._invent(stop.lease, length if length == PAGE_BYTES else 0)
        if not self._is_told:
            return self._invent(stop.lease, length)
        if stop.lease is LeaseKind.MALLOC:
            start = self._mallocs.pop(0)[0]
        else:
            left = self._ids if stop.lease is LeaseKind.ID else self._stacks
            if not left:
                raise DivergedError("creates more runners than it did")
            start = left.pop(0)
        return Lease(stop.lease, start, start + length)

    def _invent(self, kind: LeaseKind, length: int) -> Lease:
        """Return addresses that nobody was given; none if `length` is 0."""
        self.has_invented |= not self._is_told
        end = self._upper[kind]
        self._upper[kind] -= length
        return Lease(kind, end - length, end)

    def _is_next_malloc(self, length: int) -> bool:
        """Say whether the next block has that size; another size is one that was refused."""
        if not self._mallocs:
            return False
        pages = max(whole_pages(self._mallocs[0][1]) // PAGE_BYTES, 1)
        return pages * PAGE_BYTES == length


def batch_of(given: GivenAttempt) -> AttemptBatch:
    """Return a batch of this attempt alone, which trusts no cached page of another snapshot."""
    attempt = np.zeros(1, dtype=ATTEMPT)
    attempt["runner"], attempt["id"], attempt["entry"] = given.runner, given.id, given.entry
    attempt["snapshot"] = given.snapshot
    attempt["stack_base"], attempt["stack_bytes"] = given.stack
    attempt["stack_automatic"] = given.stack_automatic
    attempt["grant_count"], attempt["image_count"] = len(given.grants), len(given.image)
    grants = np.array([(*span, _ALWAYS_ASK) for span in given.grants], dtype=GRANT)
    runs, data = [], bytearray()
    for start, length, content in given.image:
        assert content is not None, "what a creator stores into a stack travels in its record"
        runs.append((start, length, len(data)))
        data += content
    return AttemptBatch(
        attempt, grants, np.array(runs, dtype=RUN), np.frombuffer(bytes(data), dtype=np.uint8)
    )


def unlike(recorded: EndedAttempt, again: EndedAttempt, supply: Supply) -> list[str]:
    """Tell how an attempt ended otherwise than it did; what hangs on unknown addresses is left."""
    names = [f.name for f in fields(EndedAttempt)]
    if supply.has_invented:
        names = ["end", "instructions", "stdin_bytes", "trap", "trap_pc", "exit_pc"]
    return [
        f"{name} was {was!r}, and is {now!r}"
        for name in names
        if not _agrees(was := getattr(recorded, name), now := getattr(again, name))
    ]


def _agrees(was: object, now: object) -> bool:
    """Compare a field; of stores whose bytes are not in the record only the places."""
    if isinstance(was, tuple) and isinstance(now, tuple) and len(was) == len(now):
        return all(map(_agrees_on_one, was, now))
    return was == now


def _agrees_on_one(was: Content | object, now: Content | object) -> bool:
    if isinstance(was, tuple) and isinstance(now, tuple) and was[-1] is None:
        return was[:-1] == now[:-1]
    return was == now
