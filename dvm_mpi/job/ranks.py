"""One rank of a run that a launcher started, from its start to the common end.

A fault of the user's goes to rank 0, which tells it once and ends all ranks with its exit code. A
fault of ours is told by the rank that has it, which then ends the job by force.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.journal import Work, traced
from dvm_mpi.control.leader import Tree, choose_leaders
from dvm_mpi.control.messages import CodeShared
from dvm_mpi.disa.image import ArrayDeclaration, Image
from dvm_mpi.disa.image_file import image_from_bytes
from dvm_mpi.dsm.staging import arena_slice_bytes
from dvm_mpi.errors import DvmError, ExitCode, WindowError
from dvm_mpi.job.greeting import VERDICT, Welcome, first_failure, verdict_row
from dvm_mpi.job.parts import (
    age_of_process_s,
    find_native_code,
    make_engine_factory,
    peak_memory_bytes,
    resident_bytes,
    say,
    tell_code_folder,
)
from dvm_mpi.job.preparation import Preparation
from dvm_mpi.job.start import Matched, Start, match_arrays
from dvm_mpi.job.traffic import account, groups
from dvm_mpi.job.vigil import Vigil
from dvm_mpi.launch import library, memory, priority, segments
from dvm_mpi.launch.environment import Launch
from dvm_mpi.launch.late_sleeps import late_sleeps
from dvm_mpi.launch.signals import Signals
from dvm_mpi.options import RunOptions
from dvm_mpi.values import replace

if TYPE_CHECKING:
    from dvm_mpi.control.rank_clock import RankClock
    from dvm_mpi.control.rank_machine import RankMachine
    from dvm_mpi.control.rank_tracer import RankTracer
    from dvm_mpi.control.transport import Transport
    from dvm_mpi.engine.native_code import NativeCode
    from dvm_mpi.job.owner import Owner


_NS_PER_S: Final = 1_000_000_000


def _owner_of(options: RunOptions, launch: Launch) -> Owner | None:
    """Make the owner of the run, on rank 0: the terminal and the report are for it alone."""
    if launch.rank:
        return None
    from dvm_mpi.job.owner import Owner

    return Owner(options, launch.size)


class RanksRun:
    """One run as one rank sees it."""

    def __init__(self, options: RunOptions, launch: Launch, signals: Signals) -> None:
        self._options = options
        self._launch = launch
        self._owner = _owner_of(options, launch)
        self._vigil = Vigil(launch, signals, self._owner)
        #: How late sleeps may end where this rank waits within MPI's calls for others, which may
        #: need its processor; 0: as late as ever.
        is_crowded = library.is_crowded(launch, os.cpu_count() or 1)
        self._late_ns = config.LATE_SLEEP_NS if is_crowded else 0
        self._machine: RankMachine | None = None
        #: Translated code of the program, if this rank may execute some.
        self._native: NativeCode | None = None
        self._tree = Tree(())
        #: By rank, which host it is on.
        self._hosts: tuple[int, ...] = ()
        self._inputs: Matched = []
        #: Arrays of the program.
        self._arrays: dict[str, ArrayDeclaration] = {}

    def execute(self) -> int:
        """Do everything, and return the exit code; does not return if the job dies by force."""
        try:
            return self._execute()
        except DvmError as error:
            if self._vigil.transport is None:
                self._vigil.tell_before_mpi(error)
                return int(error.exit_code)
            self._vigil.die(error.message, int(error.exit_code))
        except BaseException:
            import traceback

            told = traceback.format_exc()
            self._vigil.die(f"dvm: a defect of DVM itself; please report it:\n{told}", 1)

    # --- the way through ------------------------------------------------------------------------
    def _execute(self) -> int:
        launch, options, owner = self._launch, self._options, self._owner
        if options.nice is not None:
            priority.be_nice(options.nice)
        if owner is not None and not options.quiet:
            say(owner.headline())
            tell_code_folder()
        start = Start(options, launch, owner, self._vigil)
        if launch.speaks_for_node and not options.quiet:
            start.tell_stale_segments()
        plan = start.plan()
        preparation = Preparation(options.engine, counts_instructions=options.profile)
        preparation.step()
        with late_sleeps(self._late_ns):
            transport = start.start_mpi()
        with ExitStack() as stack:
            if owner is not None:
                stack.callback(owner.close)
            welcome = start.greet(transport, plan)
            # On this node too; see `Start.greet`.
            segments.unlink_mapped()
            if welcome.exit_code:
                return self._part(transport, welcome.exit_code)
            image = image_from_bytes(welcome.image)
            self._inputs = match_arrays(options.inputs, "--in", image)
            self._arrays = image.arrays
            waiting_at = time.perf_counter()
            start.wait_for_kernels(preparation)
            start.meet(transport)
            if owner is not None:
                owner.kernels_s = time.perf_counter() - waiting_at
            plan = replace(plan, plane=welcome.plane)
            self._know_hosts(transport, welcome)
            failed = self._build(transport, image, plan, start.met_at_us)
            if failed:
                return self._part(transport, failed)
            exit_code = self._run(image, welcome.stdin, preparation)
            preparation.close()
        assert self._machine is not None
        counts = self._machine.instruction_counts()
        self._machine.close_engine()
        if self._native is not None:
            self._native.close()
        if self._machine.rank.tracer is not None:
            self._machine.rank.tracer.flush()
        # However the run ended, what the ranks noted until then counts.
        transport.drain(self._vigil.turn, self._machine.rank.take_late)
        self._gather_traffic(transport, welcome.hosts)
        if options.profile:
            self._add_up(transport, image, counts)
        self._close(self._machine, transport)
        if owner is not None:
            exit_code = owner.conclude(exit_code, peak_memory_bytes())
            self._vigil.settle(owner, ExitCode(exit_code))
        return self._finish(exit_code)

    def _know_hosts(self, transport: Transport, welcome: Welcome) -> None:
        """Note which rank is on which host, and let those of one host wake each other."""
        self._hosts = welcome.hosts
        self._tree = choose_leaders(welcome.hosts, self._options.leaders)
        transport.hang_bells(welcome.job, welcome.hosts)

    def _build(
        self, transport: Transport, image: Image, plan: memory.MemoryPlan, met_at_us: int
    ) -> int:
        """Make the machine on all ranks or on none; return the exit code if one cannot."""
        error: DvmError | None = None
        try:
            with late_sleeps(self._late_ns):
                self._machine = self._make_machine(transport, image, plan, met_at_us)
        except WindowError as raised:
            self._give_up(raised)
        except DvmError as raised:
            error = raised
        row = verdict_row(error).view(np.uint8)
        rows = transport.gather(row, "make their windows", self._vigil.turn)
        verdict: NDArray[np.uint8] | None = None
        if rows is not None:
            code = first_failure(rows.reshape(-1).view(VERDICT), say)
            verdict = np.array([code], "<i8").view(np.uint8)
        told = transport.broadcast(verdict, "hear of all windows", self._vigil.turn)
        code = int(told.view("<i8")[0])
        # The same for the windows, which every rank has by now.
        segments.unlink_mapped()
        return code

    def _give_up(self, error: DvmError) -> NoReturn:
        """End all ranks: others may wait in MPI for windows that this rank does not get."""
        if not self._launch.speaks_for_all:
            # Most likely it is the same on all ranks; one of them tells.
            time.sleep(config.SPEAKER_S)
        self._vigil.die(error.message, int(error.exit_code))

    def _make_machine(
        self, transport: Transport, image: Image, plan: memory.MemoryPlan, met_at_us: int
    ) -> RankMachine:
        from dvm_mpi.control.rank_machine import RankMachine, RankSettings

        settings = RankSettings(
            plane=plan.plane,
            is_one_host=len(set(self._hosts)) == 1,
            stack_bytes=self._options.stack_bytes,
            memory_bytes=plan.memory_bytes,
            arena_slice_bytes=arena_slice_bytes(transport.size),
            deterministic=self._options.deterministic,
            placement=self._options.placement or "data",
            migrates=self._options.migration == "on",
            cpu_share=self._options.cpu_share,
            isolation=self._options.isolation,
            conflict_unit=self._options.conflict_unit,
            tells_staged=self._options.is_recorded,
            coordinator=self._options.coordinator,
            tree=self._tree,
        )
        machine = RankMachine(
            transport,
            image,
            settings,
            self._write_outputs,
            host=self._owner,
            begins_us=met_at_us,
            turn=self._vigil.turn,
            resident_bytes=resident_bytes,
        )
        self._vigil.rank = machine.rank
        if self._options.trace is not None:
            machine.trace(self._trace(transport, machine.rank.clock))
        if self._owner is not None:
            assert machine.rank.coordinator is not None
            machine.rank.coordinator.hosts = self._owner.hosts
            self._owner.coordinator = machine.rank.coordinator
            self._owner.plane = machine.plane
            if machine.remark:
                self._owner.tell(f"dvm: {machine.remark}")
        return machine

    def _trace(self, transport: Transport, clock: RankClock) -> RankTracer:
        """Return the tracer of this rank, which has started by now."""
        from dvm_mpi.control.rank_tracer import RankTracer

        tracer = RankTracer(transport, clock, self._options.trace_sample)
        tracer.work(Work.STARTING, tracer.now() - int(age_of_process_s() * _NS_PER_S))
        return tracer

    def _run(self, image: Image, stdin: bytes, preparation: Preparation) -> int:
        machine = self._machine
        assert machine is not None
        machine.rank.tasks.append(self._load(machine, image))
        if machine.has_worker:
            machine.rank.tasks.append(self._prepare(machine, image, stdin, preparation))
        return machine.rank.run(self._vigil.turn)

    # --- tasks ----------------------------------------------------------------------------------
    def _load(self, machine: RankMachine, image: Image) -> Generator[bool, None, None]:
        """Load this rank's part of the program and its inputs."""
        declarations = [declaration for _, declaration in self._inputs]
        with traced(machine.rank.tracer, Work.LOADING):
            machine.loader.load_image(image)
            yield True
            if self._inputs:
                from dvm_mpi.io import arrays
            for spec, declaration in self._inputs:
                with (
                    arrays.told_by(self._launch.rank),
                    arrays.open_input(spec, declaration) as source,
                ):
                    for done in machine.loader.load_input(declaration, source.read_range):
                        self._note_moved(done, declarations)
                        yield True
            machine.loader.finish()
        machine.rank.loaded(machine.loader.loaded_bytes)

    def _note_moved(self, done_bytes: int, declarations: list[ArrayDeclaration]) -> None:
        """Let the progress tell how much of its share of these arrays rank 0 has moved."""
        if self._owner is not None:
            total = sum(declaration.byte_count for declaration in declarations)
            self._owner.moved = (done_bytes, max(total // self._launch.size, done_bytes))

    def _prepare(
        self, machine: RankMachine, image: Image, stdin: bytes, preparation: Preparation
    ) -> Generator[bool, None, None]:
        """Wait for compiled code, the program's too if that is asked for; then execute runners."""
        told_at_s = time.monotonic() + config.SILENT_WAIT_S
        with traced(machine.rank.tracer, Work.COMPILING):
            while not preparation.is_engine_ready:
                preparation.step()
                if self._owner is not None and time.monotonic() >= told_at_s:
                    told_at_s = float("inf")
                    self._owner.tell(f"dvm: waiting for {preparation.waits_for}")
                yield False
            self._native = native = self._find_native_code(machine, image)
            engine = make_engine_factory(self._options, native)()
            yield True
            engine.load(image, stdin)
            if native is not None and self._options.engine == "translate":
                native.want_all()
                while native.waits:
                    native.look()
                    if self._owner is not None and time.monotonic() >= told_at_s:
                        told_at_s = float("inf")
                        self._owner.tell(f"dvm: waiting for {native.waits_for}")
                    yield False
        machine.start_worker(engine)

    def _find_native_code(self, machine: RankMachine, image: Image) -> NativeCode | None:
        """Return the translated code of the program here; what is made here goes to all hosts."""
        own = self._hosts[self._launch.rank]
        native = find_native_code(
            self._options, image, ends_slices=True, is_on_first_host=own == self._hosts[0]
        )
        if native is None:
            return None
        # The last rank of each host: the first one may only coordinate.
        others = {host: rank for rank, host in enumerate(self._hosts) if host != own}
        key, transport = native.key, machine.rank.transport

        def share(name: str, content: bytes) -> None:
            shared = CodeShared(key, name, np.frombuffer(content, np.uint8))
            for rank in others.values():
                transport.send(rank, shared)

        native.share = share
        machine.rank.take_code = lambda told: native.take(told.key, told.name, told.code.tobytes())
        return native

    def _write_outputs(self, visible: int, places: str) -> Generator[bool, None, str]:
        """Write this rank's part of the outputs; return its figures."""
        machine = self._machine
        assert machine is not None
        if self._options.record is not None:
            from dvm_mpi.control.dumper import told_pages

            for told in told_pages(machine.home, visible):
                machine.rank.transport.send(0, told)
                yield True
        targets = [] if not places else json.loads(places)
        if targets:
            from dvm_mpi.control.dumper import write_parts
            from dvm_mpi.io import arrays
            from dvm_mpi.io.outputs import Place

            matched = [(Place(**place), self._arrays[place["name"]]) for place in targets]
            homes = {self._launch.rank: machine.home}
            with arrays.told_by(self._launch.rank):
                for done in write_parts(matched, machine.geometry, homes, visible):
                    self._note_moved(done, [declaration for _, declaration in matched])
                    yield True
        return json.dumps(
            {
                "peak_memory_bytes": peak_memory_bytes(),
                "undeclared": machine.undeclared_accesses(),
                "native": None if self._native is None else self._native.figures().row(),
            }
        )

    def _gather_traffic(self, transport: Transport, hosts: tuple[int, ...]) -> None:
        """Let rank 0 know what all ranks have moved, however the run has ended; *collective*."""
        own = transport.traffic.row(transport.rank, groups(hosts))
        row = own.reshape(-1).view(np.uint8)
        rows = transport.gather(row, "tell what they have moved", self._vigil.turn)
        if rows is not None:
            assert self._owner is not None
            told = rows.view(np.int64).reshape(transport.size, *own.shape)
            self._owner.traffic = account(told, self._owner.hosts)

    def _add_up(self, transport: Transport, image: Image, counts: NDArray[np.int64] | None) -> None:
        """Let rank 0 have the profile of all ranks, however the run has ended."""
        from dvm_mpi.engine import tally

        own = tally.by_row(image, {}) if counts is None else counts
        total = transport.add_up(own, self._vigil.turn)
        if self._owner is not None:
            self._owner.instruction_counts = total

    # --- ends -----------------------------------------------------------------------------------
    def _close(self, machine: RankMachine, transport: Transport) -> None:
        """Give windows and communicators back; *collective*."""
        with late_sleeps(self._late_ns):
            machine.close()
            transport.close()

    def _part(self, transport: Transport, exit_code: int) -> int:
        """Leave together, before anything ran.

        Windows that some ranks have and others have not cannot be given back: that is done
        together, and MPI's end does it too.
        """
        transport.drain(self._vigil.turn)
        if self._owner is not None:
            self._owner.close_trace()
        self._vigil.forget()
        return self._finish(exit_code)

    def _finish(self, exit_code: int) -> int:
        from dvm_mpi.control import transport

        sys.stdout.flush()
        with late_sleeps(self._late_ns):
            transport.finish()
        return exit_code
