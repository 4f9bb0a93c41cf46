"""Rank 0's side of a run on several ranks: terminal, output files, summary and report."""

from __future__ import annotations

import json
import re
import sys
import time
import traceback
from collections.abc import Generator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import __version__, config
from dvm_mpi.control.coordinator import Coordinator
from dvm_mpi.control.coordinator_state import Claim, Complete, RecordOrder
from dvm_mpi.control.delivery import Part
from dvm_mpi.control.diagnosis import Narrator
from dvm_mpi.control.messages import Message, RankFailed, TraceRows
from dvm_mpi.control.observations import observed
from dvm_mpi.control.session import Phase
from dvm_mpi.disa.image import ArrayDeclaration, Image
from dvm_mpi.errors import ExitCode
from dvm_mpi.io import console, report
from dvm_mpi.io.outputs import Place, drop_outputs, make_outputs, settle_outputs
from dvm_mpi.io.progress import Progress, Sample, Transfer
from dvm_mpi.io.specs import ArraySpec
from dvm_mpi.io.traffic import Traffic
from dvm_mpi.job.parts import (
    age_of_process_s,
    native_figures,
    peak_memory_bytes,
    progress_counts,
    revision,
    say,
    tell_contention,
    with_dumps,
)
from dvm_mpi.job.profile import profiled_lines, tell_profile
from dvm_mpi.job.reporting import Reporting
from dvm_mpi.job.written import read_sources
from dvm_mpi.options import RunOptions
from dvm_mpi.values import types_of

if TYPE_CHECKING:
    from dvm_mpi.job.recording import Recording
    from dvm_mpi.job.tracing import Trace

_BY_SIGNAL: Final = (ExitCode.INTERRUPTED, ExitCode.TERMINATED)


class Owner:
    """Owner of one run; implements `control.coordinator.Host`.

    It knows the program only when `program` has been set.
    """

    def __init__(self, options: RunOptions, rank_count: int) -> None:
        self._options = options
        self._rank_count = rank_count
        self._startup_s = age_of_process_s()
        age = timedelta(seconds=self._startup_s)
        self._started_at = (datetime.now().astimezone() - age).isoformat(timespec="seconds")
        self._progress = Progress(sys.stderr, mode=options.progress, quiet=options.quiet)
        #: Bytes that rank 0 itself has moved, of how many, in the present phase.
        self.moved = (0, 0)
        self._console = console.Console(console.standard_output(), self._progress)
        self.reporting = Reporting(options.report, say, time.monotonic)
        self._narrator: Narrator | None = None
        self._image: Image | None = None
        #: What is written down of the run, if that was asked for.
        self.recording: Recording | None = None
        #: The timeline of all ranks, if that was asked for.
        self.trace: Trace | None = None
        self._outputs: list[tuple[ArraySpec, ArrayDeclaration]] = []
        self._places: list[Place] = []
        self._ending: Complete | None = None
        #: Why the run ended before its time, as it was told; empty if it did not.
        self.fault = ""
        #: What the ranks told at their end, in the order of ranks.
        self.figures: list[dict[str, Any]] = []
        #: Of all ranks, by the rows of `tally`; empty unless a profile was asked for.
        self.instruction_counts: NDArray[np.int64] = np.empty(0, np.int64)
        self.coordinator: Coordinator | None = None
        self.plane = ""
        #: The host of each rank; and what all ranks have moved, once it has been gathered.
        self.hosts: list[str] = []
        self.traffic: Traffic | None = None
        #: Moments, in seconds of one clock: loading began, all was loaded, the first worker could
        #: begin as well, the program ended, files in place. 0: not yet.
        self.began_at = self.loaded_at = self.worked_at = self.ended_at = self.settled_at = 0.0
        #: Seconds that went, before anything was loaded, to waiting for compiled code of homes.
        self.kernels_s = 0.0

    def headline(self) -> str:
        """Return the first line of a run."""
        return (
            f"dvm {__version__}{revision()}: {self._options.program}, "
            f"{report.counted(self._rank_count, 'rank')}, engine {self._options.engine}"
            f"{', deterministic' if self._options.deterministic else ''}"
        )

    def take_program(self, image: Image, outputs: list[tuple[ArraySpec, ArrayDeclaration]]) -> None:
        """Learn what runs, for messages, and what will be written."""
        self._narrator = Narrator(image)
        self._image = image
        self._outputs = outputs

    # --- what the coordinator asks for ----------------------------------------------------------
    def printed(self, data: NDArray[np.uint8]) -> None:
        """Write committed output."""
        self._console.write(data.tobytes())
        if self.recording is not None:
            self.recording.printed(data)

    def ordered(self, order: RecordOrder) -> None:
        """Let the commit order be written down."""
        if self.recording is not None:
            self.recording.ordered(order)

    def claimed(self, claim: Claim) -> None:
        """Let what the coordinator says of its decisions be written down."""
        if self.recording is not None:
            self.recording.claimed(claim)

    def delivered(self, target: Part, message: Message) -> None:
        """Let a message be written down."""
        if isinstance(message, TraceRows):
            self.take_rows(message)
        elif self.recording is not None:
            self.recording.delivered(target, message)

    def take_rows(self, message: Message) -> None:
        """Let what a rank has noted go into the trace; nothing else is of interest here."""
        if isinstance(message, TraceRows) and self.trace is not None:
            self.trace.take(message.rank, message.dropped, message.rows)

    def tell(self, text: str) -> None:
        """Show a line on standard error, above the progress line."""
        if not self._options.quiet:
            self._progress.clear()
            say(text)

    def make_outputs(self, ending: Complete) -> Generator[bool, None, tuple[str, int]]:
        """Tell of a trap, make the files, and return where every rank is to write.

        After a trap these are those of `--dump` only.
        """
        assert self._narrator is not None
        assert self._image is not None
        self.ended_at = time.perf_counter()
        self._ending = ending
        self.moved = (0, 0)
        self._progress.clear()
        if ending.failure is not None:
            remark = "" if self.recording is None else self.recording.remark(ending.failure)
            self.fault = self._narrator.trap(ending.failure) + remark
            say(self.fault)
            self._outputs = []
        making = make_outputs(with_dumps(self._outputs, self._options.dump, self._image))
        while True:
            try:
                next(making)
            except StopIteration as made:
                self._places = made.value
                break
            yield True
        left = bool(ending.watchers) and self._options.strict_watchers
        code = ExitCode.WATCHERS_LEFT if left else ExitCode.OK
        if ending.failure is not None:
            code = ExitCode.TRAP
        told = [{name: getattr(place, name) for name in types_of(Place)} for place in self._places]
        return json.dumps(told), int(code)

    def settle_outputs(self) -> Generator[bool, None, None]:
        """Put the files in place, and tell what else there is to tell of the end."""
        yield True
        settle_outputs(self._places)
        self._places = []
        self.settled_at = time.perf_counter()
        assert self._narrator is not None
        assert self._ending is not None
        assert self.coordinator is not None
        if self.recording is not None:
            self.recording.ended(self._ending.failure)
        told = self.coordinator.session.figures
        self.figures = [json.loads(told[rank]) for rank in sorted(told)]
        accesses = sorted(tuple(pair) for each in self.figures for pair in each["undeclared"])
        if accesses:
            # Several workers may report one instruction; the lowest address stands for it.
            lowest = {int(pc): int(address) for pc, address in reversed(accesses)}
            say(self._narrator.undeclared(sorted(lowest.items())))
        watchers = self._ending.watchers
        if watchers and (self._options.strict_watchers or not self._options.quiet):
            say(self._narrator.watchers(watchers, config.WATCHERS_SHOWN_MAX))

    def failed(self, failure: RankFailed) -> None:
        """Tell why the run ends before its time."""
        self._progress.close()
        self.ended_at = self.ended_at or time.perf_counter()
        drop_outputs(self._places)
        self._places = []
        if failure.text and failure.exit_code != ExitCode.READER_GONE:
            place = f"rank {failure.rank}"
            is_told = re.search(rf"\b{place}\b", failure.text) is not None
            # Signals mostly come to all ranks, and rank 0 is the first to tell.
            is_for_all = failure.rank == 0 and failure.exit_code in _BY_SIGNAL
            self.fault = failure.text + ("" if is_told or is_for_all else f"\n  at {place}")
            say(self.fault)

    # --- while it runs, and at its end ----------------------------------------------------------
    def note_beginnings(self, now_s: float) -> None:
        """Note when all was loaded, and when the first worker had its compiled engine as well."""
        coordinator = self.coordinator
        if self.worked_at or self.ended_at or coordinator is None or not coordinator.has_begun:
            return
        self.loaded_at = self.loaded_at or now_s
        if coordinator.scheduler.state.ready.any():
            self.worked_at = now_s

    def each_turn(self) -> None:
        """Draw the progress line when it is time, and let what is written down go on."""
        if self.recording is not None:
            self.recording.each_turn(time.monotonic())
        if self.trace is not None:
            self.trace.each_turn(time.monotonic())
        if self.coordinator is not None:
            self.reporting.each_turn(lambda: self._report(None, peak_memory_bytes()))
            self._progress.enter_stage(self.coordinator.session.phase.name)
            self._progress.update(self._sample)

    def _sample(self) -> Sample:
        """Return how far the run is; of files, how far rank 0 is with its part."""
        assert self.coordinator is not None
        session, scheduler = self.coordinator.session, self.coordinator.scheduler
        if session.phase is Phase.RUNNING:
            if not scheduler.state.ready.any():
                return self.coordinator.waits_for
            return progress_counts(scheduler, self._options.runners_expected)
        doing = {Phase.LOADING: "loading", Phase.WRITING: "writing"}.get(session.phase)
        done, total = self.moved
        if doing is None or not total:
            return self.coordinator.waits_for
        ranks = report.counted(len(session.awaited), "rank")
        return Transfer(doing, done, total, f"rank 0's part; {ranks} still to come")

    def close(self) -> None:
        """Take the progress line off the screen; drop files that were begun."""
        self._progress.close()
        if self.recording is not None:
            self.recording.close()
        drop_outputs(self._places)

    def close_trace(self) -> None:
        """Complete the trace with what has come so far; idempotent."""
        if self.trace is not None:
            self.trace.close()

    def conclude(self, code: int, own_peak_bytes: int) -> int:
        """Show the summary and write the report, however the run has ended; return the code."""
        self.close_trace()
        if self.coordinator is None:
            return code
        figures = self._report(code, own_peak_bytes)
        told = self.reporting.finish(figures)
        code = code or told
        if not self._options.quiet and self.loaded_at:
            say(report.summary(figures))
            if self._narrator is not None:
                tell_contention(self.coordinator.scheduler, self._narrator)
            tell_profile(self._options, figures)
        if self.trace is not None and not self._options.quiet and self.trace.summary():
            say(self.trace.summary())
        return code

    def report_death(self, text: str, code: int) -> None:
        """Write down what is known of a run that is about to be ended by force."""
        self.fault = text
        self.ended_at = self.ended_at or time.perf_counter()
        if self.coordinator is None:
            return
        try:
            self.reporting.finish(self._report(code, peak_memory_bytes()))
        except Exception:
            # The others are still to be ended, whatever is wrong here.
            say(f"dvm: there is no report:\n{traceback.format_exc()}")

    def _waited_s(self, ended_at: float) -> float:
        """Return how long a program that was loaded has waited for its first worker."""
        return max((self.worked_at or ended_at) - self.loaded_at, 0.0) if self.loaded_at else 0.0

    def _lines(self) -> tuple[report.ProfiledLine, ...]:
        if self._image is None or not self.instruction_counts.any():
            return ()
        sources = read_sources(self._options, self._image)
        return profiled_lines(self._image, self.instruction_counts, sources)

    def _report(self, code: int | None, own_peak_bytes: int) -> report.RunReport:
        assert self.coordinator is not None
        c, o = self.coordinator.scheduler.counters, self._options
        ending, narrator, state = self._ending, self._narrator, self.coordinator.scheduler.state
        assert narrator is not None
        peaks = [int(each["peak_memory_bytes"]) for each in self.figures]
        natives = [each["native"] for each in self.figures if each.get("native")]
        ended_at = self.ended_at or time.perf_counter()
        return report.RunReport(
            program=str(o.program),
            command=o.command,
            exit_code=code,
            started_at=self._started_at,
            engine=o.engine,
            ranks=self._rank_count,
            data_plane=self.plane,
            workers=int(state.ready.sum()),
            homes=self._rank_count,
            seed=None,
            deterministic=o.deterministic,
            placement=o.placement or "data",
            isolation=o.isolation,
            conflict_unit=o.conflict_unit,
            startup_s=self._startup_s,
            load_s=max(self.loaded_at - self.began_at - self.kernels_s, 0.0),
            compile_s=self.kernels_s + self._waited_s(ended_at),
            work_s=max(ended_at - self.worked_at, 0.0) if self.worked_at else 0.0,
            output_s=max(self.settled_at - ended_at, 0.0),
            runners=c.runners,
            commits=c.commits,
            aborts=c.aborts,
            traps=int(ending is not None and ending.failure is not None),
            retries=c.retries,
            contention=narrator.contended(state.contention.sites()),
            watcher_firings=c.watcher_firings,
            watchers_left=len(ending.watchers) if ending is not None else 0,
            epochs=c.epochs,
            instructions=c.instructions,
            **native_figures(natives),
            lines=self._lines(),
            bytes_fetched=c.bytes_fetched,
            bytes_committed=c.bytes_committed,
            blocks_moved=c.blocks_moved,
            console_bytes=self._console.byte_count,
            peak_memory_bytes=max([own_peak_bytes, *peaks]),
            traffic=self.traffic,
            fault=self.fault,
            **observed(state, self.coordinator.meters, narrator),
        )
