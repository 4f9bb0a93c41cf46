"""One diagnosis as one rank sees it: alone, before MPI starts, and together with all others.

What stops a run before MPI starts stops this as well, in the same words: MPI would abort, or hang.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from dvm_mpi import __version__, config
from dvm_mpi.doctor import checks, local, report, writing
from dvm_mpi.doctor.meeting import LateError, Meeting
from dvm_mpi.doctor.report import Told
from dvm_mpi.doctor.together import examine
from dvm_mpi.doctor.watchdog import START, Watchdog
from dvm_mpi.errors import DvmError, ExitCode, FileError, LaunchError
from dvm_mpi.io.report import counted
from dvm_mpi.launch import abort, library, segments, slurm_pmi
from dvm_mpi.launch.environment import Launch
from dvm_mpi.launch.finding import Finding, Level, caught, good
from dvm_mpi.launch.signals import leave_now
from dvm_mpi.values import dataclass

if TYPE_CHECKING:
    from dvm_mpi.control.transport import Transport

#: Codes of what is wrong with one host; anything else is the same on all.
_OF_HOST = frozenset({ExitCode.LIMIT, ExitCode.FILE})


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What `doctor` was asked for."""

    #: Where all ranks write a file together; None to leave that out.
    folder: Path | None
    json: Path | None
    quick: bool
    wait_s: float


class Visit:
    """A diagnosis.

    Parameters
    ----------
    launch
        None if no launcher started this process.
    tell
        Prints the report.
    """

    def __init__(
        self,
        options: DoctorOptions,
        launch: Launch | None,
        watchdog: Watchdog,
        tell: Callable[[str], None],
    ) -> None:
        self._options = options
        self._launch = launch
        self._watchdog = watchdog
        self._tell = tell
        #: The MPI library and its version, as soon as it is loaded.
        self._mpi = ""

    def perform(self) -> int:
        """Do everything; return the exit code, the same on all ranks."""
        self._watchdog.begin("look at its host")
        found = [*local.findings(self._launch, os.environ), *self._look_at_library()]
        launch = self._launch
        if launch is None:
            return self._conclude_alone(found)
        if any(finding.level is Level.WRONG for finding in found):
            return self._stop_before_mpi(launch, found)
        from dvm_mpi.control import transport

        self._watchdog.mark()
        self._watchdog.begin(START)
        with slurm_pmi.short_values(launch, os.environ):
            started = transport.start()
        self._watchdog.unmark()
        world = caught("world", lambda: _check_world(launch, started.size, started.rank))
        if world.level is Level.WRONG:
            segments.unlink_mapped()
            return self._stop_before_mpi(launch, [*found, world])
        try:
            return self._meet(launch, started, found)
        except LateError as late:
            self._give_up(launch, found, str(late))
        except DvmError as error:
            self._die(f"{error.message}\n  at rank {launch.rank} on {platform.node()}", error)

    # --- alone ----------------------------------------------------------------------------------
    def _look_at_library(self) -> list[Finding]:
        """Load the MPI library, without starting it, and compare it with the launcher."""
        launch, found = self._launch, []
        if launch is None or launch.speaks_for_all:
            found.append(caught("environment", _check_wheels))
        try:
            name, version, where = library.load(_load_library)
        except LaunchError as error:
            # One process needs none.
            level = Level.SLOW if launch is None else Level.WRONG
            return [*found, Finding(level, "launcher", str(error))]
        self._mpi = library.short_name(name, version)
        if launch is None:
            told = f"none: one process, which needs no MPI; the library is {self._mpi}"
            return [*found, good("launcher", told)]

        def check() -> str:
            library.check_library(launch, name, version, where)
            return f"{launch.launcher.value} starts what {self._mpi} understands"

        return [*found, caught("launcher", check)]

    def _conclude_alone(self, found: list[Finding]) -> int:
        folder = self._options.folder
        if folder is not None:
            path = folder / f".dvm-doctor-{os.getpid()}"
            wrong = writing.make(path)
            seconds = 0.0
            if wrong is None:
                seconds, wrong = writing.write(path, 0, 1)
                writing.remove(path)
            found.append(wrong or writing.judge(folder, [seconds]))
        host = platform.node()
        headline = f"dvm {__version__} doctor: one process on {host}"
        return self._report(headline, [Told(finding) for finding in found], [host])

    def _stop_before_mpi(self, launch: Launch, found: list[Finding]) -> int:
        """Report what this rank knows, if it is the one to speak, and let all ranks end."""
        told = [Told(finding) for finding in found]
        code = report.exit_code(told)
        is_speaker = launch.speaks_for_node if code in _OF_HOST else launch.speaks_for_all
        # Of worlds of one each knows, and ends by itself.
        is_alone = any(f.subject == "world" for f in found)
        leaves_it = is_alone or not abort.ends_with_one(launch)
        if (leaves_it and not is_speaker) or not abort.is_to_tell(
            launch, 0.0 if is_speaker else config.SPEAKER_S
        ):
            time.sleep(config.SPEAKER_S)
            return int(code)
        host = platform.node()
        headline = (
            f"dvm {__version__} doctor: rank {launch.rank} of {launch.size} on {host}; the ranks "
            "do not come together"
        )
        self._report(headline, told, [host])
        abort.let_output_pass(sys.stdout.fileno())
        abort.leave_after_telling(launch, os.environ, int(code))
        return int(code)

    # --- together -------------------------------------------------------------------------------
    def _meet(self, launch: Launch, transport: Transport, found: list[Finding]) -> int:
        from dvm_mpi.control.transport import finish

        options = self._options
        meeting = Meeting(transport, self._watchdog, options.wait_s)
        told, hosts = examine(
            meeting, launch, self._mpi, found, folder=options.folder, quick=options.quick
        )
        meeting.begin("hear the verdict")
        code = 0
        if meeting.is_first:
            code = self._report(self._headline(launch, hosts), told, hosts)
        code = int(meeting.broadcast(code))
        transport.drain(meeting.turn)
        transport.close()
        self._watchdog.begin("end MPI")
        finish()
        return code

    def _headline(self, launch: Launch, hosts: Sequence[str]) -> str:
        names = list(dict.fromkeys(hosts))
        shown = ", ".join(names[: config.RANKS_SHOWN_MAX])
        hidden = len(names) - config.RANKS_SHOWN_MAX
        more = f" and {hidden:,} more" if hidden > 0 else ""
        return (
            f"dvm {__version__} doctor: {counted(launch.size, 'rank')} on "
            f"{counted(len(names), 'host')} ({shown}{more}), {self._mpi}"
        )

    def _give_up(self, launch: Launch, found: list[Finding], waited_for: str) -> NoReturn:
        """End all ranks since some did not come in time; rank 0 tells, or else this one."""
        finding = checks.missing(waited_for, self._options.wait_s)
        if launch.rank == 0:
            headline = f"dvm {__version__} doctor: not all of {launch.size} ranks came"
            told = [Told(f) for f in [*found, finding]]
            self._report(headline, told, [platform.node()])
            self._die("", finding.as_error())
        time.sleep(config.SPEAKER_S)
        self._die(
            f"dvm: error: {finding.text}\n  at rank {launch.rank} on {platform.node()}",
            finding.as_error(),
        )

    def _die(self, text: str, error: DvmError) -> NoReturn:
        from dvm_mpi.control import transport

        if text:
            self._tell(text)
        segments.unlink_mapped()
        abort.let_output_pass(sys.stdout.fileno())
        transport.abort(int(error.exit_code))
        leave_now(int(error.exit_code))

    def _report(self, headline: str, told: Sequence[Told], hosts: Sequence[str]) -> int:
        """Print the report, and write it as JSON; return the exit code."""
        self._tell(report.as_text(headline, told, hosts))
        path = self._options.json
        if path is not None:
            try:
                path.write_text(report.as_json(headline, told, hosts), encoding="utf-8")
            except OSError as error:
                raise FileError(f"cannot write {path}: {error.strerror}") from error
        return int(report.exit_code(told))


def _load_library() -> tuple[str, str, str]:
    from dvm_mpi.control import transport

    return transport.library()


def _check_wheels() -> str:
    library.check_wheels()
    return "one MPI library at most"


def _check_world(launch: Launch, size: int, rank: int) -> str:
    library.check_world(launch, size, rank)
    return f"all {size} ranks are here, and form one world"
