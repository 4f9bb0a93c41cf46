"""What a run writes down of itself: the record of `--record`, the traces of `--trace-runner`.

One object for both kinds of run, on the side that owns the terminal and the files. It looks on,
and changes nothing of the run but the time that it takes.
"""

from __future__ import annotations

from collections import deque
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.coordinator_state import Claim, Failure, RecordOrder
from dvm_mpi.control.delivery import Part
from dvm_mpi.control.driver import Silent
from dvm_mpi.control.joining import batches_of, select
from dvm_mpi.control.messages import BatchesDealt, Dispatched, Finished, Message
from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import EngineSettings, LoadTracking
from dvm_mpi.errors import FileError
from dvm_mpi.io.outputs import cannot_write
from dvm_mpi.io.record_file import RecordWriter
from dvm_mpi.job.parts import say
from dvm_mpi.job.written import read_sources
from dvm_mpi.options import RunOptions
from dvm_mpi.sim.alone import Alone
from dvm_mpi.sim.history import GivenAttempt, ended_attempts, given_attempts
from dvm_mpi.sim.listing import trace_lines
from dvm_mpi.sim.replay import no_clock
from dvm_mpi.sim.selection import parse_selection
from dvm_mpi.sim.steps import Shown, StepKeeper, TraceText
from dvm_mpi.sim.tape import Circumstances, Tape, sections_of
from dvm_mpi.values import dataclass


def replay_settings(
    stack_bytes: int,
    fuel_max: int,
    touched_pages_max: int,
    allow_undeclared: bool,
    deterministic: bool,
) -> EngineSettings:
    """Return the settings of engines that execute attempts again."""
    return EngineSettings(
        stack_bytes=stack_bytes,
        fuel_max=fuel_max,
        allow_undeclared=allow_undeclared,
        cache_bytes=config.CACHE_BYTES_DEFAULT,
        clock=None if deterministic else no_clock,
        loads=LoadTracking.CONTENT,
        touched_pages_max=touched_pages_max,
    )


class Recording(Silent):
    """Looks on at one run and writes it down.

    Parameters
    ----------
    options
        With `--record`, `--trace-runner`, both or none.
    image, stdin, rank_count
        Of the run.

    Raises
    ------
    FileError
        A file cannot be written; so may every method.
    """

    def __init__(self, options: RunOptions, image: Image, stdin: bytes, rank_count: int) -> None:
        self._options = options
        self._writer: RecordWriter | None = None
        self._tape: Tape | None = None
        self._tracer: _Tracer | None = None
        self._flushed_at_s = 0.0
        #: What went wrong between two events; the next one raises it.
        self._fault: FileError | None = None
        sources = read_sources(options, image) if options.is_recorded else {}
        if options.record is not None:
            sections = sections_of(_circumstances(options, rank_count), image, stdin, sources)
            place = f"--record {options.record}"
            self._writer = RecordWriter(options.record, place, sections)
            self._tape = Tape(self._writer)
        if options.trace_runner is not None:
            self._tracer = _Tracer(options, image, stdin, TraceText(image, sources))

    # --- what happens ---------------------------------------------------------------------------
    def printed(self, data: NDArray[np.uint8]) -> None:
        """Keep committed output."""
        self._raise_fault()
        if self._tape is not None:
            self._tape.printed(data)

    def delivered(self, target: Part, message: Message) -> None:
        """Keep a message."""
        self._raise_fault()
        if isinstance(message, BatchesDealt):
            for worker, batch in batches_of(message):
                self.delivered(("worker", worker), batch)
            return
        if self._tape is not None:
            self._tape.delivered(target, message)
        if self._tracer is not None:
            self._tracer.delivered(target, message)

    def ordered(self, order: RecordOrder) -> None:
        """Keep the commit order."""
        self._raise_fault()
        if self._tape is not None:
            self._tape.ordered(order)
        if self._tracer is not None:
            self._tracer.ordered(order)

    def claimed(self, claim: Claim) -> None:
        """Keep what the coordinator says of its decisions."""
        self._raise_fault()
        if self._tape is not None:
            self._tape.claimed(claim)

    def each_turn(self, now_s: float) -> None:
        """Let what is known reach the files from time to time; trace a little. Raises nothing."""
        try:
            if self._writer is not None and now_s - self._flushed_at_s >= config.RECORD_FLUSH_S:
                self._flushed_at_s = now_s
                self._writer.flush()
            if self._tracer is not None:
                self._tracer.advance()
        except FileError as error:
            self._fault = error

    def ended(self, failure: Failure | None) -> None:
        """Keep how the program came to its end, after everything else, and finish the files."""
        self._raise_fault()
        if self._tracer is not None:
            self._tracer.close()
        if self._tape is not None and self._writer is not None:
            self._tape.ended(failure)
            self._writer.close()

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise self._fault

    def remark(self, failure: Failure) -> str:
        """Return a line for the message of a trap: how to look at it; empty if there is none."""
        if self._options.record is None:
            return ""
        return (
            f"\n  step by step: python -m dvm_mpi replay {self._options.record} "
            f"--attempt {failure.number}"
        )

    def close(self) -> None:
        """Finish what a run that ends before its time has begun; idempotent, raises nothing."""
        try:
            if self._tracer is not None:
                self._tracer.close()
            if self._writer is not None:
                self._writer.close()
        except FileError as error:
            if error is not self._fault:
                say(error.message)


def _circumstances(options: RunOptions, rank_count: int) -> Circumstances:
    return Circumstances(
        command=options.command,
        ranks=rank_count,
        engine=options.engine,
        stack_bytes=options.stack_bytes,
        fuel_max=options.fuel,
        allow_undeclared=options.allow_undeclared,
        isolation=options.isolation,
        conflict_unit=options.conflict_unit,
        deterministic=options.deterministic,
        inputs=tuple(text.partition("=")[0] for text in options.inputs),
        touched_pages_max=options.touched_pages_max,
    )


@dataclass(slots=True)
class _Traced:
    """An attempt that ended and is executed again, a little each turn."""

    alone: Alone
    kept: StepKeeper


class _Tracer:
    """Traces the attempts that were asked for, as they end."""

    def __init__(self, options: RunOptions, image: Image, stdin: bytes, text: TraceText) -> None:
        assert options.trace_runner is not None
        self._selection = parse_selection(options.trace_runner, "--trace-runner", image)
        self._image, self._stdin, self._text = image, stdin, text
        self._settings = replay_settings(
            options.stack_bytes,
            options.fuel,
            options.touched_pages_max,
            options.allow_undeclared,
            options.deterministic,
        )
        #: Attempts that were asked for and have not ended.
        self._given: dict[int, GivenAttempt] = {}
        self._waiting: deque[_Traced] = deque()
        self._epochs: dict[int, int] = {}
        self._place = f"--trace-output {options.trace_output}"
        self._file: TextIO | None = None
        self._path = options.trace_output
        if self._path is not None:
            try:
                self._file = self._path.open("w", encoding="utf-8")
            except OSError as error:
                raise self._failed(error) from error

    def delivered(self, target: Part, message: Message) -> None:
        """Look for attempts that begin or end."""
        if isinstance(message, Dispatched):
            attempts = given_attempts(message, target[1])
            self._given |= {a.number: a for a in attempts if self._selection.takes(a)}
        elif isinstance(message, Finished) and self._given:
            numbers = message.records["attempt"].tolist()
            at = [i for i, number in enumerate(numbers) if number in self._given]
            for i, ended in zip(
                at, ended_attempts(select(message, np.array(at, int))), strict=True
            ):
                given = self._given.pop(numbers[i])
                kept = StepKeeper(Shown(), self._text)
                alone = Alone(self._image, self._settings, self._stdin, given, ended, kept.take)
                self._waiting.append(_Traced(alone, kept))

    def ordered(self, order: RecordOrder) -> None:
        """Note what became of the attempts that wait for their trace."""
        waiting = {traced.alone.given.number for traced in self._waiting}
        if waiting:
            self._epochs |= dict.fromkeys(waiting & set(order.numbers.tolist()), order.epoch)

    def advance(self) -> None:
        """Execute a little of the attempt whose turn it is; write its trace when it is complete."""
        if self._waiting and self._waiting[0].alone.run(config.TRACE_FUEL):
            traced = self._waiting.popleft()
            epoch = self._epochs.pop(traced.alone.given.number, 0)
            fate = f"ordered in epoch {epoch}" if epoch else "not ordered: it lost or trapped"
            self._write("\n".join(trace_lines(traced.alone, traced.kept, fate)))

    def close(self) -> None:
        """Write what is left."""
        while self._waiting:
            self.advance()
        for number in sorted(self._given):
            self._write(f"attempt {number} has not ended, so it cannot be traced")
        self._given.clear()
        if self._file is not None:
            self._file.close()

    def _write(self, text: str) -> None:
        if self._file is None:
            say(text)
            return
        try:
            self._file.write(f"{text}\n")
            self._file.flush()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> FileError:
        assert self._path is not None
        return cannot_write(self._place, self._path, error)
