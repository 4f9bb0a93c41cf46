"""One run from options to exit code: load, execute, write the outputs, report.

The only module that knows clocks, signals and files at once. Whatever happens, the console's
output so far has been printed, no output file is half written, and the summary is shown.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import __version__, config
from dvm_mpi.control.capacity import check_fits, geometry_of, needed_pages
from dvm_mpi.control.coordinator_state import Claim, RecordOrder
from dvm_mpi.control.coordinator_tracer import coordinator_tracer
from dvm_mpi.control.cpu_share import CpuShare
from dvm_mpi.control.delivery import InOrder, Part, Shuffled
from dvm_mpi.control.diagnosis import Narrator
from dvm_mpi.control.driver import (
    Ending,
    LocalMachine,
    MachineSettings,
    MachineTracer,
    Silent,
    frames_of_home,
)
from dvm_mpi.control.dumper import told_pages, write_outputs
from dvm_mpi.control.journal import RowKind, Work
from dvm_mpi.control.messages import Message
from dvm_mpi.control.metering import Activity
from dvm_mpi.control.observations import observed
from dvm_mpi.control.slices import TRANSLATED_PER_US
from dvm_mpi.control.tracer import parts_tracer
from dvm_mpi.disa.image import ArrayDeclaration, Image
from dvm_mpi.disa.image_file import open_program
from dvm_mpi.disa.verifier import verify
from dvm_mpi.dsm.migration import Limits, limits_of
from dvm_mpi.errors import DvmError, ExitCode, ReaderGoneError
from dvm_mpi.io import arrays, console, report, specs
from dvm_mpi.io.outputs import check_outputs
from dvm_mpi.io.progress import Progress, Sample, Transfer
from dvm_mpi.job.local_meters import LocalMeters
from dvm_mpi.job.parts import (
    Interrupted,
    age_of_process_s,
    check_engine,
    default_memory_bytes,
    find_native_code,
    make_engine_factory,
    native_figures,
    peak_memory_bytes,
    progress_counts,
    revision,
    say,
    tell_code_folder,
    tell_contention,
    with_dumps,
)
from dvm_mpi.job.preparation import Preparation
from dvm_mpi.job.profile import profiled_lines, tell_profile
from dvm_mpi.job.reporting import Reporting
from dvm_mpi.job.written import check_recording, read_sources
from dvm_mpi.launch import priority
from dvm_mpi.options import RunOptions
from dvm_mpi.values import dataclass

if TYPE_CHECKING:
    from dvm_mpi.engine.native_code import NativeCode
    from dvm_mpi.job.recording import Recording
    from dvm_mpi.job.tracing import Trace


@dataclass(slots=True)
class _Times:
    """Seconds of the phases of a run."""

    startup_s: float
    load_s: float = 0.0
    compile_s: float = 0.0
    work_s: float = 0.0
    output_s: float = 0.0


class _Watcher(Silent):
    """Connects a running machine with the terminal and the signals."""

    def __init__(
        self,
        out: console.Console,
        progress: Progress,
        cpu_share: CpuShare | None,
        runners_expected: int,
    ) -> None:
        self._out = out
        self._progress = progress
        self._cpu_share = cpu_share
        self._signal = 0
        #: What goes into memory or out of it, while that lasts.
        self.transfer: Transfer | None = None
        self._runners_expected = runners_expected
        #: What is written down of the run, once it begins.
        self.recording: Recording | None = None
        #: The timeline, if that was asked for, and when rows are taken next.
        self.trace: Trace | None = None
        self._rows_at_s = 0.0
        self.meters = LocalMeters()
        #: Called at every turn of the program.
        self.each_turn: Callable[[], None] = lambda: None

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; the run ends at the next turn. A second one ends the process at once."""
        del frame
        if self._signal:
            os._exit(128 + number)
        self._signal = number

    def printed(self, data: NDArray[np.uint8]) -> None:
        """Print what a commit wrote."""
        self._out.write(data.tobytes())
        if self.recording is not None:
            self.recording.printed(data)

    def delivered(self, target: Part, message: Message) -> None:
        """Let a message be written down."""
        if self.recording is not None:
            self.recording.delivered(target, message)

    def ordered(self, order: RecordOrder) -> None:
        """Let the commit order be written down."""
        if self.recording is not None:
            self.recording.ordered(order)

    def claimed(self, claim: Claim) -> None:
        """Let what the coordinator says of its decisions be written down."""
        if self.recording is not None:
            self.recording.claimed(claim)

    def did(self, activity: Activity, instructions: int) -> None:
        """Let the time be measured."""
        self.meters.did(activity, instructions)

    @property
    def lone_fuel(self) -> int:
        """Let a slice beside which nothing can happen last as long as signals may wait."""
        return self.meters.lone_fuel

    def idle(self, duration_us: int) -> None:
        """Sleep, but notice signals soon."""
        ends = time.monotonic() + duration_us / 1e6
        while not self._signal and (left := ends - time.monotonic()) > 0:
            time.sleep(min(left, config.PROGRESS_INTERVAL_S))

    def obey(self) -> None:
        """End the run if a signal has asked for it."""
        if self._signal:
            raise Interrupted(self._signal)

    def turned(self, driver: LocalMachine) -> None:
        """Draw the progress line when it is time, and obey signals."""
        self.obey()
        if self.recording is not None:
            self.recording.each_turn(time.monotonic())
        if self.trace is not None:
            self._look_on(driver, self.trace)
        self.meters.look(driver)
        self.each_turn()
        transfer = self.transfer
        self._progress.enter_stage("" if transfer is None else transfer.doing)
        self._progress.update(lambda: transfer or self._counts(driver))
        if self._cpu_share is not None:
            now_us, used_us = time.monotonic_ns() // 1000, time.process_time_ns() // 1000
            rests_us = self._cpu_share.rests_us(now_us, used_us)
            if rests_us:
                self.meters.did(Activity.SERVING)
                self.idle(rests_us)
                self.meters.did(Activity.IDLE)
            self._cpu_share.worked()

    def _look_on(self, driver: LocalMachine, trace: Trace) -> None:
        """Let what the parts have noted go into the trace."""
        assert driver.tracer is not None
        driver.tracer.each_turn(driver.homes)
        now_s = time.monotonic()
        if now_s >= self._rows_at_s:
            self._rows_at_s = now_s + config.TRACE_FLUSH_S
            self.take_rows(driver)
        trace.each_turn(now_s)

    def take_rows(self, driver: LocalMachine) -> None:
        """Take all that the parts have noted."""
        if self.trace is None or driver.tracer is None:
            return
        for number, parts in enumerate(driver.tracer.parts):
            self.trace.take(number, parts.journal.dropped, parts.take())

    def waits(self, what: str) -> None:
        """Show what is waited for before there is a machine, and obey signals."""
        self.obey()
        self._progress.update(lambda: f"waiting for {what}")

    def _counts(self, driver: LocalMachine) -> Sample:
        return progress_counts(driver.scheduler, self._runners_expected)


class Run:
    """One run of one program in this process."""

    def __init__(self, options: RunOptions) -> None:
        self._options = options
        self._times = _Times(startup_s=age_of_process_s())
        age = timedelta(seconds=self._times.startup_s)
        self._started_at = (datetime.now().astimezone() - age).isoformat(timespec="seconds")
        self._machine: LocalMachine | None = None
        #: Translated code of the program, if there may be some.
        self._native: NativeCode | None = None
        self._ending: Ending | None = None
        self._traced: Trace | None = None
        #: The profile, if there is one.
        self._lines: tuple[report.ProfiledLine, ...] = ()
        self._progress = Progress(sys.stderr, mode=options.progress, quiet=options.quiet)
        self._console = console.Console(console.standard_output(), self._progress)
        share = CpuShare(options.cpu_share) if options.cpu_share < 1 else None
        self._watcher = _Watcher(self._console, self._progress, share, options.runners_expected)
        self._reporting = Reporting(options.report, say, time.monotonic)
        self._began_at = 0.0
        #: Why the run ended before its time, as it was told.
        self._fault = ""

    def execute(self) -> ExitCode:
        """Do everything, and return the exit code; the user's faults are told, never raised."""
        if not self._options.quiet:
            say(self._headline())
        try:
            code = self._execute()
        except Interrupted as interrupted:
            self._progress.close()
            code = self._tell_fault(
                f"dvm: ended by {interrupted}; what had been committed was printed",
                interrupted.exit_code,
            )
        except ReaderGoneError as error:
            self._progress.close()
            code = error.exit_code
        except DvmError as error:
            self._progress.close()
            code = self._tell_fault(error.message, error.exit_code)
        except MemoryError as error:
            self._progress.close()
            code = self._tell_fault(
                f"dvm: error: this machine's memory does not suffice: {error or 'none is left'}",
                ExitCode.LIMIT,
            )
        return self._conclude(code)

    def _tell_fault(self, text: str, code: ExitCode) -> ExitCode:
        self._fault = text
        say(text)
        return code

    def _headline(self) -> str:
        o = self._options
        order = "fixed order" if o.seed is None else f"seed {o.seed}"
        order += ", deterministic" if o.deterministic else ""
        return (
            f"dvm {__version__}{revision()}: {o.program}, 1 rank, "
            f"{report.counted(o.workers, 'worker')}, {report.counted(o.homes, 'home')}, "
            f"engine {o.engine}, {order}"
        )

    def _execute(self) -> ExitCode:
        if not self._options.quiet:
            tell_code_folder()
        options = self._options
        if options.nice is not None:
            priority.be_nice(options.nice)
        watcher = self._watcher
        with ExitStack() as stack:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                stack.callback(signal.signal, number, signal.signal(number, watcher.interrupt))
            stack.enter_context(self._progress)
            stack.callback(self._end_translating)
            machine = self._load(watcher)
            stack.callback(machine.close)
            stack.callback(self._take_profile, machine)
            if watcher.recording is not None:
                stack.callback(watcher.recording.close)
            stack.callback(self._close_trace, machine, watcher)
            self._began_at = began = time.perf_counter()
            watcher.meters.did(Activity.LOADING)
            watcher.each_turn = self._each_turn
            try:
                self._ending = machine.run()
            finally:
                self._times.work_s = time.perf_counter() - began
            self._progress.clear()
            return self._end(machine, self._ending, watcher)

    def _trace(self, machine: LocalMachine, watcher: _Watcher) -> None:
        """Let tracers look on at the machine from now on."""
        from dvm_mpi.job.tracing import Trace

        o = self._options
        age_ns = int(age_of_process_s() * 1e9)
        began_ns = time.monotonic_ns() - age_ns
        count = max(o.workers, o.homes)
        clock = time.monotonic_ns
        parts = [parts_tracer(clock, number, count, o.trace_sample) for number in range(count)]
        journal = parts[0].journal
        coordinator = coordinator_tracer(machine.scheduler, journal, count, o.trace_sample)
        names = [f"worker and home {number}" for number in range(count)]
        self._traced = watcher.trace = Trace(o, machine.image, names, began_ns)
        machine.tracer = MachineTracer(parts, coordinator)
        journal.add(RowKind.WORKED, began_ns, clock(), Work.STARTING)

    def _note(self, work: Work, began_ns: int) -> None:
        """Note long work that ends now, if a trace was asked for."""
        if self._machine is not None and self._machine.tracer is not None:
            journal = self._machine.tracer.parts[0].journal
            journal.add(RowKind.WORKED, began_ns, journal.now(), work)

    @staticmethod
    def _close_trace(machine: LocalMachine, watcher: _Watcher) -> None:
        watcher.take_rows(machine)
        if watcher.trace is not None:
            watcher.trace.close()

    def _migration_of(self, image: Image, home_bytes: int) -> Limits | None:
        """Return when blocks of pages move between homes; None if they do not."""
        if self._options.migration != "on":
            return None
        loaded_pages = int(needed_pages(image, geometry_of(image, self._options.homes)).max())
        return limits_of(home_bytes, loaded_pages)

    def _load(self, watcher: _Watcher) -> LocalMachine:
        """Assemble, verify, and put the program and its inputs into a new machine."""
        began = time.perf_counter()
        o = self._options
        image = open_program(o.program, o.defines)
        verify(image)
        inputs = self._match(o.inputs, "--in", image)
        outputs = with_dumps(self._match(o.outputs, "--out", image), o.dump, image)
        check_outputs([spec for spec, _ in outputs])
        check_recording(o, image, [spec for spec, _ in outputs])
        self._reporting.check()
        for spec, declaration in inputs:
            arrays.open_input(spec, declaration).close()
        memory = default_memory_bytes() if o.memory_bytes is None else o.memory_bytes
        frames_of_home(memory, o.homes)
        check_fits(image, geometry_of(image, o.homes), memory // o.homes)
        check_engine(o)
        stdin = console.read_input(o.stdin, say)
        # Whatever the user did wrong has been told by now: a first run compiles for a while.
        self._prepare(watcher)
        watcher.meters = LocalMeters()
        self._native = find_native_code(o, image)
        settings = MachineSettings(
            workers=o.workers,
            homes=o.homes,
            stack_bytes=o.stack_bytes,
            memory_bytes=memory,
            deterministic=o.deterministic,
            placement=o.placement or "load",
            placement_seed=o.seed or 0,
            migration=self._migration_of(image, memory // o.homes),
            isolation=o.isolation,
            conflict_unit=o.conflict_unit,
            tells_staged=o.is_recorded,
            pace_per_us=TRANSLATED_PER_US if self._is_at_ease else 0.0,
        )
        slice_fuel = config.LONG_SLICE_FUEL if self._is_at_ease else None
        delivery = InOrder(slice_fuel) if o.seed is None else Shuffled(o.seed, config.SLICE_FUEL)
        self._machine = LocalMachine(
            image,
            settings,
            make_engine_factory(o, self._native),
            stdin=stdin,
            delivery=delivery,
            observer=watcher,
        )
        self._translate(watcher)
        if o.trace is not None:
            self._trace(self._machine, watcher)
        loading_ns = time.monotonic_ns()
        self._load_inputs(inputs, self._machine, watcher)
        self._note(Work.LOADING, loading_ns)
        if o.is_recorded:
            from dvm_mpi.job.recording import Recording

            watcher.recording = Recording(o, image, stdin, 1)
        self._times.load_s = time.perf_counter() - began - self._times.compile_s
        return self._machine

    @staticmethod
    def _load_inputs(
        inputs: list[tuple[specs.ArraySpec, ArrayDeclaration]],
        machine: LocalMachine,
        watcher: _Watcher,
    ) -> None:
        total = sum(declaration.byte_count for _, declaration in inputs)
        for spec, declaration in inputs:
            with arrays.open_input(spec, declaration) as source:
                for done in machine.loader.load_input(declaration, source.read_range):
                    watcher.transfer = Transfer("loading", done, total)
                    watcher.turned(machine)
        watcher.transfer = None

    def _prepare(self, watcher: _Watcher) -> None:
        """Have compiled what is missing; tell of it, and notice signals meanwhile."""
        o = self._options
        preparation = Preparation(o.engine, counts_instructions=o.profile)
        began = time.perf_counter()
        told_at_s = time.monotonic() + config.SILENT_WAIT_S
        try:
            while not (preparation.is_home_ready and preparation.is_engine_ready):
                preparation.step()
                watcher.waits(preparation.waits_for)
                if time.monotonic() >= told_at_s and not self._options.quiet:
                    told_at_s = float("inf")
                    self._progress.clear()
                    say(f"dvm: waiting for {preparation.waits_for}")
                time.sleep(config.NAP_S_MAX)
        finally:
            preparation.close()
        self._times.compile_s = time.perf_counter() - began

    @property
    def _is_at_ease(self) -> bool:
        """Whether slices and batches are as long as translated code wants them.

        The same in every run, whatever is translated when: the order of events depends on it.
        """
        is_ordered = self._options.deterministic or self._options.seed is not None
        return self._native is not None and not is_ordered

    def _translate(self, watcher: _Watcher) -> None:
        """Have all of the program translated, if that was asked for; notice signals meanwhile."""
        if self._native is None or self._options.engine != "translate":
            return
        began = time.perf_counter()
        self._native.want_all()
        while self._native.waits:
            self._native.look()
            watcher.waits(self._native.waits_for)
            time.sleep(config.NAP_S_MAX)
        self._times.compile_s += time.perf_counter() - began

    def _end_translating(self) -> None:
        if self._native is not None:
            self._native.close()

    @staticmethod
    def _match(
        given: tuple[str, ...], option: str, image: Image
    ) -> list[tuple[specs.ArraySpec, ArrayDeclaration]]:
        parsed = [specs.parse_spec(text, option) for text in given]
        return specs.match_declarations(parsed, image.arrays)

    def _end(self, machine: LocalMachine, ending: Ending, watcher: _Watcher) -> ExitCode:
        """Tell how the program ended; write the outputs if it ended well."""
        narrator = Narrator(machine.image)
        accesses = sorted(a for w in machine.workers for a in w.engine.undeclared_accesses())
        if accesses:
            # Several workers may report one instruction; the lowest address stands for it.
            say(narrator.undeclared(sorted(dict(reversed(accesses)).items())))
        if ending.failure is not None:
            remark = "" if watcher.recording is None else watcher.recording.remark(ending.failure)
            self._tell_fault(narrator.trap(ending.failure) + remark, ExitCode.TRAP)
        self._complete_record(machine, ending, watcher)
        self._write_outputs(machine, watcher, is_dump_only=ending.failure is not None)
        if ending.failure is not None:
            return ExitCode.TRAP
        if ending.watchers and (self._options.strict_watchers or not self._options.quiet):
            say(narrator.watchers(ending.watchers, config.WATCHERS_SHOWN_MAX))
        if ending.watchers and self._options.strict_watchers:
            return ExitCode.WATCHERS_LEFT
        return ExitCode.OK

    @staticmethod
    def _complete_record(machine: LocalMachine, ending: Ending, watcher: _Watcher) -> None:
        """Write down the final memory, and that this was the end."""
        if watcher.recording is None:
            return
        for home in machine.homes:
            for told in told_pages(home, machine.scheduler.state.log.visible):
                watcher.recording.delivered(("coordinator", 0), told)
        watcher.recording.ended(ending.failure)

    def _write_outputs(
        self, machine: LocalMachine, watcher: _Watcher, *, is_dump_only: bool
    ) -> None:
        began = time.perf_counter()
        outputs = [] if is_dump_only else self._match(self._options.outputs, "--out", machine.image)
        outputs = with_dumps(outputs, self._options.dump, machine.image)
        homes = dict(enumerate(machine.homes))
        visible = machine.scheduler.state.log.visible
        writing_ns = time.monotonic_ns()
        total = sum(declaration.byte_count for _, declaration in outputs)
        for done in write_outputs(outputs, machine.geometry, homes, visible):
            watcher.transfer = Transfer("writing", done, total)
            watcher.turned(machine)
        self._progress.clear()
        self._note(Work.WRITING, writing_ns)
        self._times.output_s = time.perf_counter() - began
        watcher.meters.did(Activity.LOADING)

    def _take_profile(self, machine: LocalMachine) -> None:
        """Keep what the engines have counted, however the run has ended."""
        if self._options.profile:
            counts = sum(worker.engine.instruction_counts() for worker in machine.workers)
            sources = read_sources(self._options, machine.image)
            self._lines = profiled_lines(machine.image, np.asarray(counts), sources)

    def _conclude(self, code: ExitCode) -> ExitCode:
        """Show the summary and write the report, however the run has ended."""
        if self._machine is None:
            return code
        self._watcher.meters.settle(self._machine)
        figures = self._figures(self._machine, code)
        told = self._reporting.finish(figures)
        code = code or ExitCode(told)
        # Of a program that never began, the message that says why is all there is to tell.
        if not self._options.quiet and self._times.work_s:
            say(report.summary(figures))
            tell_contention(self._machine.scheduler, Narrator(self._machine.image))
            tell_profile(self._options, figures)
        if self._traced is not None and not self._options.quiet and self._traced.summary():
            say(self._traced.summary())
        return code

    def _each_turn(self) -> None:
        """Keep the report up to date while the program runs."""
        machine = self._machine
        assert machine is not None
        if self._ending is None:
            self._times.work_s = time.perf_counter() - self._began_at
        self._reporting.each_turn(lambda: self._figures(machine, None))

    def _figures(self, machine: LocalMachine, code: ExitCode | None) -> report.RunReport:
        c, o, t = machine.scheduler.counters, self._options, self._times
        ending, state, narrator = self._ending, machine.scheduler.state, Narrator(machine.image)
        return report.RunReport(
            program=str(o.program),
            command=o.command,
            exit_code=None if code is None else int(code),
            fault=self._fault,
            started_at=self._started_at,
            engine=o.engine,
            workers=o.workers,
            homes=o.homes,
            seed=o.seed,
            deterministic=o.deterministic,
            placement=o.placement or "load",
            isolation=o.isolation,
            conflict_unit=o.conflict_unit,
            startup_s=t.startup_s,
            load_s=t.load_s,
            compile_s=t.compile_s,
            work_s=t.work_s,
            output_s=t.output_s,
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
            **native_figures([] if self._native is None else [self._native.figures().row()]),
            lines=self._lines,
            bytes_fetched=c.bytes_fetched,
            bytes_committed=c.bytes_committed,
            blocks_moved=c.blocks_moved,
            console_bytes=self._console.byte_count,
            peak_memory_bytes=peak_memory_bytes(),
            **observed(state, self._watcher.meters.meters, narrator),
        )
