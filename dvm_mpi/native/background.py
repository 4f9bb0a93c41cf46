"""Processes of their own that make native code, one at a time for each lock, while ranks serve.

The lock is an open file's, and is handed over to the process: it ends when that does, however that
happens. What the process says goes into a file without a name. It belongs to no MPI job.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from dvm_mpi.native import store

if TYPE_CHECKING:
    import subprocess

#: What is shown of a process's last words.
_ERROR_CHARACTERS_MAX: Final = 4_000
#: Variables by which MPI's launchers recognise their processes: this is none of them.
_MPI_PREFIXES: Final = ("HYDI_", "HYDRA_", "MPI", "OMPI_", "PALS_", "PMI", "PRTE_")
#: Of Linux: the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG: Final = 1
#: File systems that have no locks answer one of these.
_NO_LOCKS: Final = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL}


def start(
    module: str, arguments: Sequence[str], lock: IO[str]
) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Run a module in a process that holds `lock` from now on; return it, and what it says."""
    import subprocess  # noqa: PLC0415, most runs find everything made

    words = os.fdopen(os.memfd_create("words"), "w+b")
    child = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=words,
        stderr=words,
        pass_fds=[lock.fileno()],
    )
    return child, words


def end_with(parent: int) -> None:
    """Let this process end when `parent` does, however it does, or at once if it has."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that needed this one has ended")


def said(words: IO[bytes]) -> str:
    """Return the end of what a process has said."""
    words.seek(0)
    return words.read().decode(errors="replace").strip()[-_ERROR_CHARACTERS_MAX:]


def how(code: int) -> str:
    """Return how a process ended, in words."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"


def take_lock(path: Path) -> IO[str] | None:
    """Return the lock, held as long as the file is open; None if somebody else has it."""
    lock = path.open("a", encoding="utf-8")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            lock.close()
            return None
    return lock


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return such a process's environment: ours, without MPI, and with the way to this package."""
    kept = {name: value for name, value in own.items() if not name.startswith(_MPI_PREFIXES)}
    paths = [str(store.PACKAGE.parent), own.get("PYTHONPATH", "")]
    kept["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return kept
