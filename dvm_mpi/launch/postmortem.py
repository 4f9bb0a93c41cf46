"""The file that tells what a run was doing when something killed it.

Nobody can write a report after SIGKILL; so the state is written down while the run goes on, and
the file is removed when the run ends in order. Trouble with the file never ends a run: there is
one warning, and no file.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from dvm_mpi import __version__
from dvm_mpi.config import POSTMORTEM_INTERVAL_S

_OVER: Final = "The run ended before the program did: "
_GOING_ON: Final = (
    "This file is rewritten while the run goes on, and removed at its end. If the run is over and\n"
    "the file is still here, the run was ended from outside (SIGKILL, out of memory, the node or\n"
    "the launcher died), and this is its last known state."
)


def _time_of_day() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")


class PostMortem:
    """The state of one run in a file, kept up to date by rank 0."""

    def __init__(
        self,
        folder: Path,
        job: str,
        command: Sequence[str],
        *,
        warn: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], str] = _time_of_day,
    ) -> None:
        """Prepare the file; nothing is written yet.

        Parameters
        ----------
        job
            A name for files, different for runs that share the folder at the same time.
        warn
            Is told, at most once, that the file cannot be written.
        """
        self.path = folder / f"dvm-postmortem-{job}.txt"
        # Several ranks may have something to say at the end.
        self._part = folder / f".{self.path.name}.{os.getpid()}.part"
        self._command = shlex.join(command)
        self._warn = warn
        self._clock = clock
        self._time_of_day = time_of_day
        self._started_at = time_of_day()
        self._due_at = clock()
        #: Whether the file can be written, as far as is known.
        self._is_possible = True
        #: Whether the file stays after the run.
        self._is_kept = False
        #: Whether what is in the file, if it is there, was written here.
        self._is_ours = False

    def update(self, sample: Callable[[], str]) -> None:
        """Write the state down if it is time; `sample` is called only then. Cheap to call often."""
        if not self._is_possible or self._is_kept:
            return
        now = self._clock()
        if now < self._due_at:
            return
        if self.is_told_by_another():
            self._is_kept = True
            return
        # From the end of the writing: a slow disk must not make the run do nothing else.
        self._write(_GOING_ON, sample())
        self._due_at = self._clock() + POSTMORTEM_INTERVAL_S

    def hurry(self) -> None:
        """Let the next update write, whatever the time: something has changed."""
        self._due_at = self._clock()

    def keep(self, reason: str, text: str) -> Path | None:
        """Write why the run ends, and leave the file; return its path, None if it has no place.

        What another rank has written before is kept below.
        """
        if not self._is_ours:
            with suppress(OSError):
                text += f"\n\nWhat had been written before:\n\n{self.path.read_text('utf-8')}"
        self._write(f"{_OVER}{reason}", text)
        self._is_kept = self._is_possible
        return self.path if self._is_kept else None

    def is_told_by_another(self) -> bool:
        """Return whether another rank has written why the run ends; then this one is killed soon.

        Launchers that end the others do so by signals, which are nobody's wish then.
        """
        if self._is_kept:
            return False
        try:
            with self.path.open(encoding="utf-8") as file:
                return file.readline().startswith(_OVER)
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the file of a run that has ended in order; idempotent, and nothing after keep."""
        if not self._is_kept:
            self._is_possible = False
            for path in (self.path, self._part):
                with suppress(OSError):
                    path.unlink(missing_ok=True)

    def _write(self, about: str, state: str) -> None:
        if not self._is_possible:
            return
        text = (
            f"{about}\n\n"
            f"command    {self._command}\n"
            f"version    dvm {__version__}\n"
            f"host       {os.uname().nodename}, process {os.getpid()}\n"
            f"started    {self._started_at}\n"
            f"written    {self._time_of_day()}\n\n"
            f"{state.rstrip()}\n"
        )
        try:
            # Replaced as a whole: who reads it in the middle of a run sees one state, not two.
            self._part.write_text(text, encoding="utf-8", errors="backslashreplace")
            self._part.replace(self.path)
            self._is_ours = True
        except OSError as error:
            self._is_possible = False
            with suppress(OSError):
                self._part.unlink(missing_ok=True)
            self._warn(f"no post-mortem file is written: {self.path}: {error.strerror or error}")
