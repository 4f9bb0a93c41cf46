"""The subcommand `replay`: a record is checked as a whole, listed, or looked at step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.control.loader import LOADED_EPOCH
from dvm_mpi.control.validation import ConflictUnit, Isolation
from dvm_mpi.errors import ExitCode, UsageError
from dvm_mpi.io import arrays
from dvm_mpi.io.outputs import cannot_write
from dvm_mpi.io.report import counted
from dvm_mpi.job.parts import say
from dvm_mpi.job.preparation import wait_for_code
from dvm_mpi.job.recording import replay_settings
from dvm_mpi.layout import PAGE_BYTES, whole_pages
from dvm_mpi.sim.alone import Alone
from dvm_mpi.sim.checker.judge import anomalies
from dvm_mpi.sim.inputs import learn_inputs
from dvm_mpi.sim.listing import Listing, shortened, trace_lines
from dvm_mpi.sim.pages import VersionedPages
from dvm_mpi.sim.replay import replay
from dvm_mpi.sim.selection import parse_selection
from dvm_mpi.sim.steps import Shown, StepKeeper, TraceText
from dvm_mpi.sim.tape import RecordedRun, read_run
from dvm_mpi.values import dataclass

#: Differences that are told; the first one is what to look at.
_DIFFERENCES_TOLD_MAX = 20


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What is to be done with a record; at most one of the four ways to look at it."""

    record: Path
    attempt: int | None
    runner: str | None
    lists: bool
    array: str | None
    #: With `array`: as of which epoch (None: the end), and into which file (None: as text).
    epoch: int | None
    output: Path | None
    #: What values are measured against; None: what the run was promised.
    isolation: Isolation | None
    shown: Shown


class Replaying:
    """One record under examination; `tell` prints a line of the result."""

    def __init__(self, options: ReplayOptions, tell: Callable[[str], None]) -> None:
        self._options = options
        self._tell = tell
        self._run: RecordedRun = read_run(options.record, "replay")
        self._text = TraceText(self._run.image, self._run.sources)
        c = self._run.circumstances
        self._isolation = options.isolation or cast(Isolation, c.isolation)
        self._settings = replay_settings(
            c.stack_bytes,
            c.fuel_max,
            c.touched_pages_max,
            c.allow_undeclared,
            c.deterministic,
        )

    def perform(self) -> ExitCode:
        """Do what was asked for.

        Raises
        ------
        UsageError
            There is no such attempt, runner or array.
        FileError
            The array's file cannot be written.
        """
        options = self._options
        if options.lists:
            listing = Listing(self._run.history, self._text)
            for line in listing.table(sorted(self._run.history.given)):
                self._tell(line)
            return ExitCode.OK
        wait_for_code("reference", say)
        if options.attempt is not None or options.runner is not None:
            return self._trace(self._chosen())
        if options.array is not None:
            return self._show_array(options.array)
        return self._check()

    # --- the whole ------------------------------------------------------------------------------
    def _check(self) -> ExitCode:
        """Check the whole history, and give the verdict in words."""
        history, c = self._run.history, self._run.circumstances
        self._tell(self._summary())
        timed: list[int] = []
        found = self._doubts()
        if not found and history.given:
            inputs = self._inputs()
            found = replay(
                history,
                self._run.image,
                self._settings,
                stdin=self._run.stdin,
                inputs=inputs,
                isolation=cast(Isolation, c.isolation),
                conflict_unit=cast(ConflictUnit, c.conflict_unit),
                losers=True,
                timed=timed,
            )
            found += self._judge(inputs)
        for line in found[:_DIFFERENCES_TOLD_MAX]:
            self._tell(f"  {shortened(line)}")
        if len(found) > _DIFFERENCES_TOLD_MAX:
            self._tell(f"  and {len(found) - _DIFFERENCES_TOLD_MAX:,} more")
        for line in self._limits(timed):
            self._tell(f"  not checked: {line}")
        if found:
            measure = "its program and the rules of memory allow"
            if self._isolation != c.isolation:
                measure = (
                    f"--isolation {self._isolation} would allow; it had --isolation {c.isolation}"
                )
            self._tell(f"BAD: this run is not what {measure}")
            return ExitCode.UNSOUND
        level = "serializable" if self._isolation == "serializable" else "isolated by snapshots"
        self._tell(f"good: every attempt does again what it did, and all are {level}")
        return ExitCode.OK

    def _judge(self, inputs: tuple[tuple[int, bytes], ...]) -> list[str]:
        """Return what the checker of isolation finds; it knows values and no epochs."""
        run, name = self._run, self._text.namer.name
        return anomalies(run.history, run.image, self._isolation, inputs=inputs, name=name)

    def _summary(self) -> str:
        history, c = self._run.history, self._run.circumstances
        instructions = sum(ended.instructions for ended in history.ended.values())
        return (
            f"{self._options.record}: {' '.join(c.command)}: {counted(c.ranks, 'rank')}, "
            f"{counted(len(history.given), 'attempt')}, {len(history.orders):,} of them ordered, "
            f"{counted(instructions, 'instruction')}"
        )

    def _doubts(self) -> list[str]:
        """Tell where the record contradicts itself, so that nothing can be replayed from it."""
        history = self._run.history
        given, ended = history.given.keys(), history.ended.keys()
        found = [f"attempt {n} ended and was never dispatched" for n in sorted(ended - given)]
        found += [
            f"attempt {number} was ordered in epoch {epoch} and never ended"
            for number, epoch in history.orders
            if number not in ended
        ]
        failure = history.failure
        if failure is not None and failure.number not in ended:
            found.append(f"attempt {failure.number} trapped and never ended")
        return found

    def _inputs(self) -> tuple[tuple[int, bytes], ...]:
        declared = self._run.image.arrays
        names = [name for name in self._run.circumstances.inputs if name in declared]
        spans = [(declared[name].address, declared[name].byte_count) for name in names]
        return learn_inputs(self._run.history, spans) if spans else ()

    def _limits(self, timed: list[int]) -> list[str]:
        """Tell what the record does not suffice for."""
        history, told = self._run.history, []
        if not history.is_over:
            told.append("the end: the record stops before the program ended")
        elif not history.has_all_pages:
            told.append("the final memory, where the record left pages out")
        decided = {number for number, _ in (*history.orders, *history.losses)}
        if history.failure is not None:
            decided.add(history.failure.number)
        undecided = len(history.ended.keys() - decided)
        if undecided:
            told.append(f"{counted(undecided, 'attempt')} of which nothing was decided")
        if timed:
            told.append(f"{counted(len(timed), 'attempt')} that asked for the time")
        if self._run.circumstances.inputs:
            names = ", ".join(self._run.circumstances.inputs)
            told.append(f"what the files of {names} held where nobody loaded it")
        return told

    # --- single attempts ------------------------------------------------------------------------
    def _chosen(self) -> Sequence[int]:
        history, options = self._run.history, self._options
        if options.attempt is not None:
            if options.attempt not in history.given:
                raise UsageError(
                    f"--attempt {options.attempt}: the record has attempts 1 to "
                    f"{max(history.given, default=0):,}; --list shows them"
                )
            return [options.attempt]
        assert options.runner is not None
        selection = parse_selection(options.runner, "--runner", self._run.image)
        chosen = [number for number, g in sorted(history.given.items()) if selection.takes(g)]
        if not chosen:
            raise UsageError(
                f"--runner {options.runner}: no attempt in the record is of it; --list shows all"
            )
        return chosen

    def _trace(self, numbers: Sequence[int]) -> ExitCode:
        history, listing = self._run.history, Listing(self._run.history, self._text)
        code = ExitCode.OK
        for number in numbers:
            if number not in history.ended:
                self._tell(f"attempt {number} has not ended: the record stops before")
                continue
            kept = StepKeeper(self._options.shown, self._text)
            alone = Alone(
                self._run.image,
                self._settings,
                self._run.stdin,
                history.given[number],
                history.ended[number],
                kept.take,
            )
            alone.finish()
            for line in trace_lines(alone, kept, listing.fate(number)):
                self._tell(line)
            if alone.differences():
                code = ExitCode.UNSOUND
        return code

    # --- arrays ---------------------------------------------------------------------------------
    def _show_array(self, name: str) -> ExitCode:
        """Write an array as of an epoch, from what the record tells of memory."""
        declared = self._run.image.arrays
        if name not in declared:
            raise UsageError(
                f"--array {name}: the program declares "
                f"{', '.join(declared) if declared else 'no arrays'}"
            )
        array = declared[name]
        epoch = self._epoch()
        pages = VersionedPages()
        for section in self._run.image.sections:
            pages.store(LOADED_EPOCH, section.start, section.data)
        for address, data in self._inputs():
            pages.store(LOADED_EPOCH, address, data)
        for number, at in self._run.history.orders:
            for start, _, content in self._run.history.ended[number].stores:
                assert content is not None, "a record holds all stored bytes"
                pages.store(at, start, content)
        first, end = array.address, array.address + whole_pages(array.byte_count)
        numbers = range(first // PAGE_BYTES, end // PAGE_BYTES)
        raw = b"".join(pages.read(page, epoch) for page in numbers)
        values = np.frombuffer(raw[: array.byte_count], arrays.DTYPES[array.type_name])
        self._give(values.reshape(array.shape), name, epoch)
        return ExitCode.OK

    def _epoch(self) -> int:
        newest = max((epoch for _, epoch in self._run.history.orders), default=LOADED_EPOCH)
        epoch = self._options.epoch
        if epoch is None:
            return newest
        if not LOADED_EPOCH <= epoch <= newest:
            raise UsageError(
                f"--epoch {epoch}: the record knows epochs {LOADED_EPOCH} (the loaded program) to "
                f"{newest:,}"
            )
        return epoch

    def _give(self, values: NDArray[Any], name: str, epoch: int) -> None:
        path = self._options.output
        if path is None:
            self._tell(np.array2string(values, separator=", "))
            return
        try:
            with path.open("wb") as file:
                np.save(file, values)
        except OSError as error:
            raise cannot_write(f"--output {path}", path, error) from error
        self._tell(f"{path}: {name} as of epoch {epoch:,}, {values.dtype.name} {values.shape}")
