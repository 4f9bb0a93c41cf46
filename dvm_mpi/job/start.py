"""The start of a run on several ranks: checks before MPI, MPI, who is here, and the program.

What is wrong with the launch is found before MPI starts, where it can still be told. From `greet`
on rank 0 decides for all: it compares the ranks, reads the program, and sends it to everybody.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.capacity import check_fits, geometry_of
from dvm_mpi.disa.image import ArrayDeclaration, Image
from dvm_mpi.dsm.staging import arena_slice_bytes
from dvm_mpi.errors import DvmError, LaunchError, WorldError
from dvm_mpi.io import specs
from dvm_mpi.job.greeting import (
    ROW,
    Welcome,
    check_rows,
    common_plan,
    cores_of,
    own_row,
)
from dvm_mpi.job.parts import age_of_process_s, say, with_dumps
from dvm_mpi.job.preparation import Preparation
from dvm_mpi.job.traffic import number_hosts
from dvm_mpi.job.vigil import Vigil
from dvm_mpi.launch import binding, heap, library, limits, memory, segments, slurm_pmi
from dvm_mpi.launch.environment import Launch, Launcher
from dvm_mpi.launch.finding import refuse
from dvm_mpi.launch.standard_input import is_terminal, launcher_input, may_hold_input
from dvm_mpi.options import RunOptions

if TYPE_CHECKING:
    from dvm_mpi.control.transport import Transport
    from dvm_mpi.job.owner import Owner

_NS_PER_S: Final = 1_000_000_000
_NS_PER_US: Final = 1_000
#: How often to look whether code has been compiled.
_LOOK_S: Final = 0.05
#: Arrays with the files that the user named for them.
Matched = list[tuple[specs.ArraySpec, ArrayDeclaration]]


def match_arrays(given: tuple[str, ...], option: str, image: Image) -> Matched:
    """Return the program's array for each `--in` or `--out`; `UsageError` if there is none."""
    parsed = [specs.parse_spec(text, option) for text in given]
    return specs.match_declarations(parsed, image.arrays)


def _load_library() -> tuple[str, str, str]:
    from dvm_mpi.control import transport

    return transport.library()


class Start:
    """The start of one rank; `owner` on rank 0 only."""

    def __init__(
        self, options: RunOptions, launch: Launch, owner: Owner | None, vigil: Vigil
    ) -> None:
        self._options = options
        self._launch = launch
        self._owner = owner
        self._vigil = vigil
        #: The MPI library and its version; empty before `start_mpi`.
        self._mpi = ""
        #: When all ranks were there, on the clock of this one.
        self.met_at_us = 0

    def plan(self) -> memory.MemoryPlan:
        """Return what memory this rank gets; `LimitError` if its node has not enough."""
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

    def tell_stale_segments(self) -> None:
        """Tell of shared memory that dead runs have left on this node."""
        found = segments.stale(time.time())
        if found:
            say(f"dvm: {segments.describe(found, os.getuid())}")

    def start_mpi(self) -> Transport:
        """Start MPI, after a look at whether launcher and library go together."""
        heap.keep_freed_memory()
        if self._launch.speaks_for_all:
            library.check_wheels()
        if self._options.engine != "reference":
            refuse([limits.check_address_space(limits.measure())])
            from dvm_mpi.engine.address_space import AddressSpace

            # Before MPI takes addresses in its midst.
            AddressSpace.shared()
        if "mpi4py.MPI" not in sys.modules:
            # Libraries read them when they are loaded.
            settings = library.settings_of(self._launch, os.cpu_count() or 1)
            for variable, value in settings.items():
                os.environ.setdefault(variable, value)
        name, version, where = library.load(_load_library)
        from dvm_mpi.control import transport

        library.check_library(self._launch, name, version, where)
        self._mpi = library.short_name(name, version)
        with self._vigil.at_ease():
            # Who was asked to end before this does so; from now on a signal ends the rank, which
            # may wait in there for others that will not come.
            self._vigil.turn()
            with slurm_pmi.short_values(self._launch, os.environ):
                started = transport.start()
        try:
            library.check_world(self._launch, started.size, started.rank)
        except WorldError:
            # Nobody ends these worlds of one but each itself.
            segments.unlink_mapped()
            raise
        self._vigil.transport = started
        return started

    def greet(self, transport: Transport, plan: memory.MemoryPlan) -> Welcome:
        """Compare all ranks, and take the program from rank 0."""
        row = own_row(self._options, plan, self._mpi).view(np.uint8)
        rows = transport.gather(row, "start", self._vigil.turn)
        told: NDArray[np.uint8] | None = None
        if rows is not None:
            # All ranks have started and mapped what MPI shares, which needs no names any more:
            # whatever happens from now on, nothing of it is left over.
            segments.unlink_mapped()
            try:
                told_by_all = rows.reshape(-1).view(ROW)
                check_rows(told_by_all)
                assert self._owner is not None
                self._owner.hosts = [host.decode() for host in told_by_all["host"].tolist()]
                misbound = binding.misbound(cores_of(told_by_all), self._launch)
                if misbound and not self._options.quiet:
                    say(f"dvm: {misbound}")
                common = common_plan(told_by_all)
                if common.plane != plan.plane:
                    say(f"dvm: {common.remark}")
                told = self._open_program(common).encode()
            except DvmError as error:
                say(error.message)
                told = Welcome(exit_code=int(error.exit_code)).encode()
        welcome = Welcome.decode(transport.broadcast(told, "read the program", self._vigil.turn))
        if not welcome.exit_code:
            # With the other papers of the run, where there are any.
            o = self._options
            folder = Path.cwd() if o.report is None else o.report.absolute().parent
            self._vigil.begin_post_mortem(folder, welcome.job, o.command)
        return welcome

    def _open_program(self, plan: memory.MemoryPlan) -> Welcome:
        """Assemble and verify, and check everything that one rank can check; on rank 0."""
        from dvm_mpi.disa.image_file import image_bytes, open_program
        from dvm_mpi.disa.verifier import verify
        from dvm_mpi.io import arrays
        from dvm_mpi.io.outputs import check_outputs
        from dvm_mpi.job.written import check_recording

        o, owner = self._options, self._owner
        assert owner is not None
        owner.began_at = time.perf_counter()
        image = open_program(o.program, o.defines)
        verify(image)
        check_fits(image, geometry_of(image, self._launch.size), plan.memory_bytes)
        outputs = match_arrays(o.outputs, "--out", image)
        written = [spec for spec, _ in with_dumps(outputs, o.dump, image)]
        check_outputs(written)
        check_recording(o, image, written)
        owner.reporting.check()
        for spec, declaration in match_arrays(o.inputs, "--in", image):
            arrays.open_input(spec, declaration).close()
        owner.take_program(image, outputs)
        image_file, stdin = image_bytes(image), self._read_stdin()
        if o.is_recorded:
            from dvm_mpi.job.recording import Recording

            owner.recording = Recording(o, image, stdin, self._launch.size)
        if o.trace is not None:
            from dvm_mpi.job.trace_events import names_of_ranks
            from dvm_mpi.job.tracing import Trace

            began_ns = time.monotonic_ns() - int(age_of_process_s() * _NS_PER_S)
            owner.trace = Trace(o, image, names_of_ranks(owner.hosts), began_ns)
        hosts = tuple(number_hosts(owner.hosts))
        return Welcome(self._launch.job, image_file, stdin, plane=plan.plane, hosts=hosts)

    def _read_stdin(self) -> bytes:
        """Return the program's standard input, of which rank 0 is given the launcher's."""
        from dvm_mpi.io import console

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
        return console.read_input(path, say, turn=self._vigil.turn, is_terminal=is_shown)

    def wait_for_kernels(self, preparation: Preparation) -> None:
        """Wait for the code that a home needs; it is compiled once on each node.

        Rank 0 tells of its own wait. Of others it tells in `meet`, whatever they wait for.
        """
        told_at_s = time.monotonic() + config.SILENT_WAIT_S
        while not preparation.is_home_ready:
            preparation.step()
            self._vigil.turn()
            # Nobody is served yet, and the compilers need the processors.
            time.sleep(_LOOK_S)
            if self._launch.speaks_for_all and time.monotonic() >= told_at_s:
                told_at_s = float("inf")
                say(f"dvm: waiting for {preparation.waits_for}")

    def meet(self, transport: Transport) -> None:
        """Wait until every rank is here: MPI's calls for windows would wait without sleeping."""
        nothing = np.zeros(1, np.uint8)
        ready = transport.gather(
            nothing, "be ready to serve (a host compiles once)", self._vigil.turn
        )
        told = None if ready is None else nothing
        # No rank makes its machine before it has heard this.
        self.met_at_us = time.monotonic_ns() // _NS_PER_US
        transport.broadcast(told, "hear of all ranks", self._vigil.turn)
