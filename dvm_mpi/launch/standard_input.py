"""What is behind rank 0's standard input: launchers hand on their own, always as a pipe.

Programs are not fed from a terminal unless that is asked for, since most need no input and would
seem to hang; behind a launcher a terminal cannot be told from a file that is still to come. So rank
0 looks at the standard input of the launcher itself.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

#: Names of the processes that users start at their terminals.
_LAUNCHERS: Final = frozenset({"mpiexec", "mpirun", "mpiexec.hydra", "prterun", "orterun", "srun"})
_TERMINALS: Final = ("/dev/pts/", "/dev/tty", "/dev/console")
_NOTHING: Final = "/dev/null"


def launcher_input(process: int | None = None, proc: Path = Path("/proc")) -> str:
    """Return the kernel's name of the standard input of the nearest launcher above a process.

    For example `/dev/pts/3`, `pipe:[4711]` or the path of a file; empty if no launcher is seen:
    only one of the same node and user can be. The process is this one if None.
    """
    pid = os.getpid() if process is None else process
    try:
        while pid > 1:
            folder = proc / str(pid)
            name = (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
            if name in _LAUNCHERS:
                return str((folder / "fd" / "0").readlink())
            # After the name, which may hold anything: state, parent.
            status = (folder / "stat").read_text(encoding="utf-8", errors="replace")
            pid = int(status.rpartition(")")[2].split()[1])
    except OSError:
        return ""
    return ""


def is_terminal(name: str) -> bool:
    """Return whether this is a terminal, by the kernel's name of it."""
    return name.startswith(_TERMINALS)


def may_hold_input(name: str) -> bool:
    """Return whether somebody may have put input there: it is neither a terminal nor nothing."""
    return name not in {"", _NOTHING} and not is_terminal(name)
