"""Have libraries compiled, once for all processes that need them, without waiting for it.

Whoever needs a library that is not there tries to lock it; who gets the lock starts a process that
compiles, and hands the lock over. The lock is the open file's: it ends with the process, however
that ends, and the next one in need takes over. All others look now and then. Across machines the
same holds where the file system passes locks on; where it does not, each machine compiles for
itself, and the last file wins over equal ones.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from dvm_mpi.errors import CompileError
from dvm_mpi.native import background, store
from dvm_mpi.values import dataclass

if TYPE_CHECKING:
    import subprocess

#: How often to look whether a library is there that somebody else compiles, and to wait at most.
_LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Target:
    """A library to compile: what to call it, the module that declares it, and its file."""

    name: str
    module: str
    #: The file's path without its suffix.
    stem: Path

    @property
    def path(self) -> Path | None:
        """The file, if it is there."""
        for suffix in (store.SHARED, store.OBJECT):
            path = self.stem.with_name(self.stem.name + suffix)
            if path.exists():
                return path
        return None


class Compilation:
    """Brings libraries into being, one after the other; `step` is called until all are there."""

    #: Not there yet, first the one that is being compiled.
    _missing: list[Target]
    #: The compiler that this process has started, and what it says.
    _child: subprocess.Popen[bytes] | None
    _words: IO[bytes] | None

    def __init__(self, targets: Iterable[Target]) -> None:
        self._missing = [target for target in targets if target.path is None]
        self._child = None
        self._words = None
        self._look_at_s = 0.0

    @property
    def is_done(self) -> bool:
        """Whether every library is there."""
        return not self._missing

    def is_ready(self, name: str) -> bool:
        """Tell whether a library is there, as of the last step."""
        return all(target.name != name for target in self._missing)

    @property
    def waits_for(self) -> str:
        """What the next library waits for: a clause, empty if nothing is missing."""
        if not self._missing:
            return ""
        target = self._missing[0]
        lock = _lock_path(target)
        try:
            holder = lock.read_text(encoding="utf-8").strip()
            since_s = max(0.0, time.time() - lock.stat().st_mtime)
        except OSError:
            holder = ""
        if not holder:
            return f"the {target.name} library, which is about to be compiled"
        return f"the {target.name} library, which {holder} compiles since {since_s:.0f} s"

    def step(self) -> None:
        """Look what has happened, and start a compiler if nobody else has; returns at once.

        Raises
        ------
        CompileError
            The compiler that this process started has failed.
        """
        if self._child is None:
            now_s = time.monotonic()
            if now_s < self._look_at_s:
                return
            self._look_at_s = now_s + _LOOK_S
        elif self._child.poll() is None:
            return
        else:
            self._conclude(self._child.returncode)
        while self._missing and self._missing[0].path is not None:
            del self._missing[0]
        if self._missing:
            self._start(self._missing[0])

    def wait(self) -> None:
        """Step until every library is there."""
        try:
            while not self.is_done:
                self.step()
                time.sleep(_LOOK_S)
        finally:
            self.close()

    def close(self) -> None:
        """End the compiler if it is at work; what it has not finished, the next run compiles."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        if self._words is not None:
            self._words.close()
        self._child = self._words = None

    def _start(self, target: Target) -> None:
        lock = background.take_lock(_lock_path(target))
        if lock is None:
            return
        with lock:
            if target.path is not None:
                return
            arguments = [str(os.getpid()), target.module, str(target.stem)]
            self._child, self._words = background.start("dvm_mpi.native", arguments, lock)
            lock.truncate(0)
            lock.write(f"process {self._child.pid} on {os.uname().nodename}\n")
            lock.flush()

    def _conclude(self, code: int) -> None:
        assert self._words is not None, "a compiler without words"
        words = background.said(self._words)
        self._child = None
        self.close()
        target = self._missing[0]
        if code == 0 and target.path is not None:
            return
        raise CompileError(
            f"the {target.name} library could not be compiled: the compiler ended with "
            f"{background.how(code)} (it needs 400 MB of memory, and room in {target.stem.parent})."
            f"\n{words}".rstrip()
        )


def _lock_path(target: Target) -> Path:
    return target.stem.with_name(target.stem.name + ".lock")
