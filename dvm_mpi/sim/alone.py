"""One attempt executed once more, alone: what it loaded then is all the memory that it gets.

The reference engine runs it on pages that hold the bytes which the attempt observed of its
snapshot, and zeros where it did not look. If it does again what its record says it has needed no
other byte; one that it looks at now and did not look at then is told.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import EngineSettings, Exit, LoadTracking, Reason
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.engine.reference_steps import Stepper
from dvm_mpi.engine.reference_trace import Step, TracingStepper
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.sim.history import Content, EndedAttempt, GivenAttempt, ended_attempts
from dvm_mpi.sim.replay import DivergedError, Supply, TimeAskedError, batch_of, no_clock, unlike
from dvm_mpi.values import replace


class Alone:
    """One attempt that runs again.

    Parameters
    ----------
    image, settings, stdin
        Of the run.
    given, recorded
        The attempt, with the content of its loads.
    tell
        Gets every step, if somebody looks on.
    """

    def __init__(
        self,
        image: Image,
        settings: EngineSettings,
        stdin: bytes,
        given: GivenAttempt,
        recorded: EndedAttempt,
        tell: Callable[[Step], None] | None = None,
    ) -> None:
        self.given, self.recorded = given, recorded
        self._pages = _pages(recorded.loads)
        self._supply = Supply(recorded, settings)
        self._executed = 0
        #: How it ended now; None while it runs, and if it could not be executed to its end.
        self.again: EndedAttempt | None = None
        #: Why it could not.
        self.obstacle = ""
        clock = None if settings.clock is None else no_clock
        tracked = replace(settings, loads=LoadTracking.CONTENT, clock=clock)
        self._engine = ReferenceEngine(
            tracked,
            Stepper
            if tell is None
            else lambda around, attempt: TracingStepper(around, attempt, tell),
        )
        self._engine.load(image, stdin)
        self._engine.begin(batch_of(given))

    def run(self, fuel: int) -> bool:
        """Execute up to about `fuel` instructions; return whether it is over."""
        try:
            stop = self._engine.run(fuel)
        except TimeAskedError:
            self.obstacle = "it asks for the time, which the record does not hold"
            return True
        self._executed += stop.instructions
        if stop.reason is Reason.BATCH_DONE:
            (self.again,) = ended_attempts(self._engine.take_outcomes())
            return True
        if self._executed > self.recorded.instructions:
            self.obstacle = f"it goes on after {self.recorded.instructions:,} instructions"
            return True
        return self._provide(stop)

    def finish(self) -> None:
        """Execute all of it."""
        while not self.run(self.recorded.instructions + 1):
            pass

    def _provide(self, stop: Exit) -> bool:
        if stop.reason is Reason.PAGE_MISSED:
            content = np.frombuffer(self._pages.get(stop.page, bytes(PAGE_BYTES)), dtype=np.uint8)
            epoch = np.array([self.given.snapshot])
            self._engine.install(np.array([stop.page]), epoch, epoch, content.reshape(1, -1))
        elif stop.reason is Reason.LEASE_NEEDED:
            try:
                self._engine.grant_lease(self._supply.lease(stop))
            except DivergedError as diverged:
                self.obstacle = f"it {diverged}"
                return True
        return False

    def differences(self) -> list[str]:
        """Tell how it ended otherwise than its record says; nothing if it did the same."""
        if self.again is None:
            return [f"it could not be executed to its end: {self.obstacle}"]
        more = _beyond(self.again.loads, self.recorded.loads)
        found = [
            f"it needs {length:,} bytes at {start:#x} that it did not load then; they were taken "
            "as zeros"
            for start, length in more
        ]
        told = unlike(self.recorded, self.again, self._supply)
        return found + [line for line in told if not (more and line.startswith("loads "))]


def _pages(loads: tuple[Content, ...]) -> dict[int, bytes]:
    """Return the pages that the observed bytes lie in, zero where nothing was observed."""
    pages: dict[int, bytearray] = {}
    for start, length, content in loads:
        assert content is not None, "loads were recorded with their content"
        done = 0
        while done < length:
            page, offset = divmod(start + done, PAGE_BYTES)
            count = min(PAGE_BYTES - offset, length - done)
            target = pages.setdefault(page, bytearray(PAGE_BYTES))
            target[offset : offset + count] = content[done : done + count]
            done += count
    return {page: bytes(content) for page, content in pages.items()}


def _beyond(now: tuple[Content, ...], then: tuple[Content, ...]) -> list[tuple[int, int]]:
    """Return the parts of `now` that `then` does not cover; both are sorted and disjoint."""
    found: list[tuple[int, int]] = []
    known = [(start, start + length) for start, length, _ in then]
    at = 0
    for start, length, _ in now:
        position, end = start, start + length
        while position < end:
            while at < len(known) and known[at][1] <= position:
                at += 1
            if at == len(known) or known[at][0] >= end:
                found.append((position, end - position))
                break
            if known[at][0] > position:
                found.append((position, known[at][0] - position))
            position = known[at][1]
    return found
