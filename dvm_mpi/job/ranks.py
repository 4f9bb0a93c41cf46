"""One rank of a run that a launcher started: checks, start of MPI, program, orderly end.

What is wrong with the launch is found before MPI starts, where it can still be told. From then on
a fault of the user's goes to rank 0, which tells it once and ends all ranks with its exit code. A
fault of ours is told by the rank that has it, which then ends the job by force.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.capacity import check_fits
from dvm_mpi.control.session import Phase
from dvm_mpi.disa.image import ArrayDeclaration, Image
from dvm_mpi.disa.image_file import image_bytes, image_from_bytes, open_program
from dvm_mpi.disa.verifier import verify
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.errors import EXIT_CODE_MEANINGS, DvmError, ExitCode, LaunchError
from dvm_mpi.io import arrays, console, report, specs
from dvm_mpi.io.outputs import Place, check_outputs
from dvm_mpi.job.greeting import (
    ROW,
    VERDICT,
    Welcome,
    check_rows,
    common_plan,
    first_failure,
    own_row,
    verdict_row,
)
from dvm_mpi.job.owner import Owner
from dvm_mpi.job.parts import make_engine_factory, peak_memory_bytes, say
from dvm_mpi.job.preparation import Preparation
from dvm_mpi.launch import abort, library, memory, segments
from dvm_mpi.launch.environment import Launch, Launcher
from dvm_mpi.launch.postmortem import PostMortem
from dvm_mpi.launch.signals import Signals, leave_now
from dvm_mpi.launch.standard_input import is_terminal, launcher_input, may_hold_input
from dvm_mpi.options import RunOptions

if TYPE_CHECKING:
    from dvm_mpi.control.rank_machine import RankMachine
    from dvm_mpi.control.transport import Transport

_Matched = list[tuple[specs.ArraySpec, ArrayDeclaration]]
#: Ends after which nobody asks what the run was doing: the message says it all.
_TOLD_ENOUGH: Final = frozenset(
    {ExitCode.OK, ExitCode.WATCHERS_LEFT, ExitCode.READER_GONE, ExitCode.FILE}
)
#: How often a rank looks whether its launcher is still there.
_LOOK_S: Final = 0.25


def _warn(text: str) -> None:
    say(f"dvm: {text}")


class RanksRun:
    """One run as one rank sees it."""

    def __init__(self, options: RunOptions, launch: Launch, signals: Signals) -> None:
        self._options = options
        self._launch = launch
        self._signals = signals
        self._owner = Owner(options, launch.size) if launch.rank == 0 else None
        self._post_mortem: PostMortem | None = None
        #: What the post-mortem file says that the run is at.
        self._noted_phase: Phase | None = None
        self._transport: Transport | None = None
        self._machine: RankMachine | None = None
        self._inputs: _Matched = []
        self._outputs: _Matched = []
        self._look_at_s = 0.0
        #: Since when all ranks together wait, and how long it takes until that is told.
        self._waits_since_s = time.monotonic()
        self._stall_s = config.STALL_S
        #: When a signal came; the run must be over soon after.
        self._asked_at_s = 0.0

    def execute(self) -> int:
        """Do everything, and return the exit code; does not return if the job dies by force."""
        try:
            return self._execute()
        except DvmError as error:
            if self._transport is None:
                self._tell_before_mpi(error)
                return int(error.exit_code)
            self._die(error.message, int(error.exit_code))
        except BaseException:
            told = traceback.format_exc()
            self._die(f"dvm: a defect of DVM itself; please report it:\n{told}", 1)

    def _tell_before_mpi(self, error: DvmError) -> None:
        """Tell what is equally wrong everywhere, or on all ranks of a node; and let all ranks end.

        Who is not to speak waits for the end. If it does not come, nobody else knows.
        """
        is_of_node = error.exit_code == ExitCode.LIMIT
        launch = self._launch
        if not (launch.speaks_for_node if is_of_node else launch.speaks_for_all):
            time.sleep(config.SPEAKER_S)
            if not abort.ends_with_one(launch):
                return
        say(error.message)
        if launch.rank:
            say(f"  at rank {launch.rank} on {platform.node()}")
        abort.end_job(launch, os.environ, int(error.exit_code))

    def _die(self, text: str, exit_code: int) -> NoReturn:
        """Tell a fault that the other ranks cannot be told in order, and end them all."""
        where = f"rank {self._launch.rank} on {platform.node()}"
        if not self._is_told_by_another():
            say(f"{text.rstrip()}\n  at {where}; all ranks are ended")
            self._keep_post_mortem(f"{where} failed", text)
        # Those that map them after this are to end as well.
        segments.unlink_mapped()
        if self._transport is not None:
            from dvm_mpi.control import transport

            transport.abort(exit_code)
        abort.end_job(self._launch, os.environ, exit_code)
        leave_now(exit_code)

    def _is_told_by_another(self) -> bool:
        return self._post_mortem is not None and self._post_mortem.is_told_by_another()

    # --- the way through ------------------------------------------------------------------------
    def _execute(self) -> int:
        launch, options = self._launch, self._options
        if launch.rank == 0 and not options.quiet:
            assert self._owner is not None
            say(self._owner.headline())
        if launch.speaks_for_node and not options.quiet:
            self._tell_stale_segments()
        plan = self._plan()
        preparation = Preparation(options.engine)
        preparation.step()
        transport = self._start_mpi()
        with ExitStack() as stack:
            if self._owner is not None:
                stack.callback(self._owner.close)
            welcome = self._greet(transport, plan)
            # On this node too; see `_greet`.
            segments.unlink_mapped()
            if welcome.exit_code:
                return self._part(transport, welcome.exit_code)
            image = image_from_bytes(welcome.image)
            if launch.rank:
                self._inputs = self._match(options.inputs, "--in", image)
                self._outputs = self._match(options.outputs, "--out", image)
            self._wait_for_kernels(preparation)
            self._meet(transport)
            failed = self._build(transport, image, replace(plan, plane=welcome.plane))
            if failed:
                return self._part(transport, failed)
            exit_code = self._run(image, welcome.stdin, preparation)
            preparation.close()
        assert self._machine is not None
        self._machine.close_engine()
        transport.drain(self._each_turn)
        self._machine.close()
        transport.close()
        if self._owner is not None:
            exit_code = self._owner.conclude(exit_code, peak_memory_bytes())
            self._settle_post_mortem(self._owner, ExitCode(exit_code))
        return self._finish(exit_code)

    def _plan(self) -> memory.MemoryPlan:
        from dvm_mpi.dsm.staging import arena_slice_bytes

        plan = memory.plan(
            self._launch,
            memory.measure(),
            os.environ,
            memory_bytes=self._options.memory_bytes,
            arena_bytes=self._launch.size * arena_slice_bytes(self._launch.size),
            plane=self._options.data_plane,
        )
        if plan.remark and self._launch.rank == 0:
            say(f"dvm: {plan.remark}")
        return plan

    def _tell_stale_segments(self) -> None:
        found = segments.stale(time.time())
        if found:
            say(f"dvm: {segments.describe(found, os.getuid())}")

    def _start_mpi(self) -> Transport:
        """Start MPI, after a look at whether launcher and library go together."""
        # MPI cannot be left in order before all ranks have come.
        self._each_turn()
        if self._launch.speaks_for_all:
            library.check_wheels()
        if self._options.engine != "reference":
            from dvm_mpi.engine.address_space import AddressSpace

            # Before MPI takes addresses in its midst.
            AddressSpace.shared()
        from dvm_mpi.control import transport

        name, version, where = transport.library()
        library.check_library(self._launch, name, version, where)
        started = transport.start()
        library.check_world(self._launch, started.size, started.rank)
        self._transport = started
        return started

    def _greet(self, transport: Transport, plan: memory.MemoryPlan) -> Welcome:
        """Compare all ranks, and take the program from rank 0."""
        row = own_row(self._options, plan).view(np.uint8)
        rows = transport.gather(row, "start", self._each_turn)
        told: NDArray[np.uint8] | None = None
        if rows is not None:
            # All ranks have started and mapped what MPI shares, which needs no names any more:
            # whatever happens from now on, nothing of it is left over.
            segments.unlink_mapped()
            try:
                told_by_all = rows.reshape(-1).view(ROW)
                check_rows(told_by_all)
                common = common_plan(told_by_all)
                if common.plane != plan.plane:
                    say(f"dvm: {common.remark}")
                told = self._open_program(common).encode()
            except DvmError as error:
                say(error.message)
                told = Welcome(exit_code=int(error.exit_code)).encode()
        welcome = Welcome.decode(transport.broadcast(told, "read the program", self._each_turn))
        if not welcome.exit_code:
            command = ("python", "-m", "dvm_mpi", *self._options.command)
            self._post_mortem = PostMortem(Path.cwd(), welcome.job, command, warn=_warn)
        return welcome

    def _open_program(self, plan: memory.MemoryPlan) -> Welcome:
        """Assemble and verify, and check everything that one rank can check; on rank 0."""
        o, owner = self._options, self._owner
        assert owner is not None
        owner.began_at = time.perf_counter()
        image = open_program(o.program, o.defines)
        verify(image)
        check_fits(image, Geometry(self._launch.size), plan.memory_bytes)
        self._inputs = self._match(o.inputs, "--in", image)
        self._outputs = self._match(o.outputs, "--out", image)
        check_outputs([spec for spec, _ in self._outputs])
        if o.report is not None:
            report.check_report(o.report)
        for spec, declaration in self._inputs:
            arrays.open_input(spec, declaration).close()
        owner.take_program(image, self._outputs)
        image_file, stdin = image_bytes(image), self._read_stdin()
        return Welcome(self._launch.job, image_file, stdin, plane=plan.plane)

    def _read_stdin(self) -> bytes:
        """Return the program's standard input, of which rank 0 is given the launcher's."""
        path, source = self._options.stdin, launcher_input()
        if self._launch.launcher is Launcher.OPEN_MPI and (path is None or str(path) == "-"):
            # Its launcher loses the end of it, and repeats parts of what is longer than 64 KiB.
            why = "the mpiexec of Open MPI does not hand it on whole; use --stdin FILE"
            if path is not None:
                raise LaunchError(f"--stdin -: standard input cannot be read: {why}")
            if may_hold_input(source):
                say(f"dvm: standard input is not read: {why}")
            return b""
        is_shown = is_terminal(source)
        return console.read_input(path, say, turn=self._each_turn, is_terminal=is_shown)

    @staticmethod
    def _match(given: tuple[str, ...], option: str, image: Image) -> _Matched:
        parsed = [specs.parse_spec(text, option) for text in given]
        return specs.match_declarations(parsed, image.arrays)

    def _wait_for_kernels(self, preparation: Preparation) -> None:
        """Wait for the code that a home needs; it is compiled once on each node."""
        told_at_s = time.monotonic() + config.SILENT_WAIT_S
        while not preparation.is_home_ready:
            preparation.step()
            self._each_turn()
            time.sleep(config.NAP_S_MAX)
            if self._launch.speaks_for_node and time.monotonic() >= told_at_s:
                told_at_s = float("inf")
                say(f"dvm: waiting for {preparation.waits_for}")

    def _meet(self, transport: Transport) -> None:
        """Wait until every rank is here: MPI's calls for windows would wait without sleeping."""
        nothing = np.zeros(1, np.uint8)
        ready = transport.gather(nothing, "be ready to serve", self._each_turn)
        told = None if ready is None else nothing
        transport.broadcast(told, "hear of all ranks", self._each_turn)

    def _build(self, transport: Transport, image: Image, plan: memory.MemoryPlan) -> int:
        """Make the machine on all ranks or on none; return the exit code if one cannot."""
        error: DvmError | None = None
        try:
            self._machine = self._make_machine(transport, image, plan)
        except DvmError as raised:
            error = raised
        row = verdict_row(error).view(np.uint8)
        rows = transport.gather(row, "make their windows", self._each_turn)
        verdict: NDArray[np.uint8] | None = None
        if rows is not None:
            code = first_failure(rows.reshape(-1).view(VERDICT), say)
            verdict = np.array([code], "<i8").view(np.uint8)
        told = transport.broadcast(verdict, "hear of all windows", self._each_turn)
        code = int(told.view("<i8")[0])
        # The same for the windows, which every rank has by now.
        segments.unlink_mapped()
        return code

    def _make_machine(
        self, transport: Transport, image: Image, plan: memory.MemoryPlan
    ) -> RankMachine:
        from dvm_mpi.control.rank_machine import RankMachine, RankSettings
        from dvm_mpi.dsm.staging import arena_slice_bytes

        settings = RankSettings(
            plane=plan.plane,
            stack_bytes=self._options.stack_bytes,
            memory_bytes=plan.memory_bytes,
            arena_slice_bytes=arena_slice_bytes(transport.size),
        )
        machine = RankMachine(
            transport,
            image,
            settings,
            self._write_outputs,
            host=self._owner,
            turn=self._each_turn,
        )
        if self._owner is not None:
            self._owner.coordinator = machine.rank.coordinator
            self._owner.plane = machine.plane
            if machine.remark:
                self._owner.tell(f"dvm: {machine.remark}")
        return machine

    def _run(self, image: Image, stdin: bytes, preparation: Preparation) -> int:
        machine = self._machine
        assert machine is not None
        machine.rank.tasks.append(self._load(machine, image))
        if machine.has_worker:
            machine.rank.tasks.append(self._prepare(machine, image, stdin, preparation))
        return machine.rank.run(self._each_turn)

    # --- tasks ----------------------------------------------------------------------------------
    def _load(self, machine: RankMachine, image: Image) -> Generator[bool, None, None]:
        """Load this rank's part of the program and its inputs."""
        machine.loader.load_image(image)
        yield True
        for spec, declaration in self._inputs:
            with (
                arrays.told_by(self._launch.rank),
                arrays.open_input(spec, declaration) as source,
            ):
                for _ in machine.loader.load_input(declaration, source.read_range):
                    yield True
        machine.loader.finish()
        machine.rank.loaded(machine.loader.loaded_bytes)

    def _prepare(
        self, machine: RankMachine, image: Image, stdin: bytes, preparation: Preparation
    ) -> Generator[bool, None, None]:
        """Wait for the compiled interpreter, load it, and begin to execute runners."""
        told_at_s = time.monotonic() + config.SILENT_WAIT_S
        while not preparation.is_engine_ready:
            preparation.step()
            if self._owner is not None and time.monotonic() >= told_at_s:
                told_at_s = float("inf")
                self._owner.tell(f"dvm: waiting for {preparation.waits_for}")
            yield False
        engine = make_engine_factory(self._options)()
        yield True
        engine.load(image, stdin)
        machine.start_worker(engine)

    def _write_outputs(self, visible: int, places: str) -> Generator[bool, None, str]:
        """Write this rank's part of the outputs; return its figures."""
        from dvm_mpi.control.dumper import write_parts

        machine = self._machine
        assert machine is not None
        if places:
            targets = [Place(**place) for place in json.loads(places)]
            declared = [declaration for _, declaration in self._outputs]
            matched = list(zip(targets, declared, strict=True))
            homes = {self._launch.rank: machine.home}
            with arrays.told_by(self._launch.rank):
                for _ in write_parts(matched, machine.geometry, homes, visible):
                    yield True
        return json.dumps(
            {
                "peak_memory_bytes": peak_memory_bytes(),
                "undeclared": machine.undeclared_accesses(),
            }
        )

    # --- while it runs --------------------------------------------------------------------------
    def _each_turn(self) -> None:
        """Obey signals, look after the launcher, and show and keep what goes on."""
        machine = self._machine
        if self._signals.take_dump_request():
            told = machine.rank.describe() if machine is not None else self._starting_text()
            say(f"dvm: rank {self._launch.rank} on {platform.node()}: {told}")
        if self._signals.ending:
            self._obey(signal.Signals(self._signals.ending))
        now_s = time.monotonic()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + _LOOK_S
            if self._signals.parent_died():
                self._orphaned()
            self._tell_long_wait(now_s)
            if self._owner is not None and self._post_mortem is not None:
                self._post_mortem.update(self._state_text)
        if self._owner is not None:
            self._note_phase(self._owner)
            self._owner.each_turn()

    def _starting_text(self) -> str:
        waits_for = self._transport.waits_for if self._transport is not None else ""
        return f"starting; waits for {waits_for}" if waits_for else "starting"

    def _tell_long_wait(self, now_s: float) -> None:
        """Tell, on rank 0, what a call of all ranks together waits for if it takes long."""
        waits_for = self._transport.waits_for if self._transport is not None else ""
        if not waits_for:
            self._waits_since_s, self._stall_s = now_s, config.STALL_S
        elif now_s - self._waits_since_s >= self._stall_s and self._owner is not None:
            self._owner.tell(
                f"dvm: waiting for {waits_for}, since {now_s - self._waits_since_s:.0f} s"
            )
            self._stall_s *= 2

    def _note_phase(self, owner: Owner) -> None:
        """Note when loading was over; a new phase goes to the post-mortem file at once."""
        coordinator = owner.coordinator
        if coordinator is None or coordinator.session.phase is self._noted_phase:
            return
        self._noted_phase = coordinator.session.phase
        if not owner.loaded_at and coordinator.has_begun:
            owner.loaded_at = time.perf_counter()
        if self._post_mortem is not None and self._noted_phase is not Phase.OVER:
            self._post_mortem.hurry()
            self._post_mortem.update(self._state_text)

    def _obey(self, asked: signal.Signals) -> None:
        """End the run for a signal, in order if that goes fast."""
        now_s = time.monotonic()
        is_ctrl_c = asked is signal.SIGINT
        code, name = int(ExitCode.INTERRUPTED if is_ctrl_c else ExitCode.TERMINATED), asked.name
        if not self._asked_at_s:
            if self._is_told_by_another():
                leave_now(code)
            self._asked_at_s = now_s
            if self._machine is None:
                if not self._launch.speaks_for_all:
                    # Most likely it came to all ranks; one of them tells, and ends the others.
                    time.sleep(config.SPEAKER_S)
                    if self._transport is None:
                        leave_now(code)
                # There is nothing to be asked about later.
                self._post_mortem = None
                self._die(f"dvm: ended by {name} before the program ran", code)
            text = f"dvm: ended by {name}; what had been committed was printed"
            if self._launch.launcher is Launcher.OPEN_MPI and asked is signal.SIGTERM:
                text += " (Open MPI's mpiexec sends it also when another rank has died)"
            self._machine.rank.fail(code, text)
        elif now_s - self._asked_at_s > config.GRACE_S:
            self._die(f"dvm: ended by {name}; not every rank came to the end", code)

    def _orphaned(self) -> None:
        text = f"the launcher died under rank {self._launch.rank} on {platform.node()}"
        if self._owner is not None:
            self._keep_post_mortem(text, "")
        say(f"dvm: {text}; it ends")
        segments.unlink_mapped()
        leave_now(int(ExitCode.LAUNCH))

    def _state_text(self) -> str:
        """Return the state of the run, of this rank only if it is not rank 0, as lines."""
        coordinator = None if self._owner is None else self._owner.coordinator
        if coordinator is not None:
            state = coordinator.describe()
            # For the next time: nobody answers who is asked when it is too late.
            coordinator.ask_all()
        elif self._machine is not None:
            state = {f"rank {self._launch.rank}": self._machine.rank.describe()}
        else:
            state = {"phase": "the run starts"}
        return "\n".join(f"{name:<10} {text}" for name, text in state.items())

    # --- ends -----------------------------------------------------------------------------------
    def _keep_post_mortem(self, reason: str, text: str) -> None:
        if self._post_mortem is None:
            return
        path = self._post_mortem.keep(reason, f"{text}\n{self._state_text()}".strip())
        if path is not None:
            say(f"  what was known then: {path}")

    def _settle_post_mortem(self, owner: Owner, exit_code: ExitCode) -> None:
        """Keep the file where somebody may ask what the run was doing, else remove it."""
        assert self._post_mortem is not None
        if self._signals.parent_died():
            # Seen in its consequences first: nobody reads our output any more.
            self._keep_post_mortem("the launcher died", f"{owner.fault}\n")
        elif exit_code in _TOLD_ENOUGH:
            self._post_mortem.remove()
        else:
            self._keep_post_mortem(EXIT_CODE_MEANINGS[exit_code], f"{owner.fault}\n")

    def _part(self, transport: Transport, exit_code: int) -> int:
        """Leave together, before anything ran."""
        transport.drain(self._each_turn)
        if self._machine is not None:
            self._machine.close()
        transport.close()
        if self._owner is not None and self._post_mortem is not None:
            self._post_mortem.remove()
        return self._finish(exit_code)

    @staticmethod
    def _finish(exit_code: int) -> int:
        from dvm_mpi.control import transport

        sys.stdout.flush()
        transport.finish()
        return exit_code
