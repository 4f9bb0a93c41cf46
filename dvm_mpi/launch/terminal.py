"""Whether a terminal is behind a rank's standard input: launchers hand it on as a pipe.

Programs are not fed from a terminal unless that is asked for, since most need no input and would
seem to hang; rank 0 of a job sees a pipe, so it looks at its launcher's standard input.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

#: Names of the processes that users start at their terminals.
_LAUNCHERS: Final = frozenset({"mpiexec", "mpirun", "mpiexec.hydra", "prterun", "orterun", "srun"})
_TERMINALS: Final = ("/dev/pts/", "/dev/tty", "/dev/console")


def launcher_has_terminal(process: int | None = None, proc: Path = Path("/proc")) -> bool:
    """Return whether the nearest launcher above a process (None: this one) reads a terminal.

    Only a launcher on the same node can be seen; for others the answer is no.
    """
    pid = os.getpid() if process is None else process
    try:
        while pid > 1:
            name = (proc / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
            if name in _LAUNCHERS:
                return str((proc / str(pid) / "fd" / "0").readlink()).startswith(_TERMINALS)
            # After the name, which may hold anything: state, parent.
            status = (proc / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
            pid = int(status.rpartition(")")[2].split()[1])
    except OSError:
        return False
    return False
