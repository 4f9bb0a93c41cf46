"""Translated code of one process: found in the program's folder, asked for, loaded.

Whoever needs a translator starts one, if nobody else has (native/background.py); all look into the
folder now and then for what has come, by whomever it was asked for. Whatever goes wrong there costs
speed only, and is told once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from dvm_mpi.config import UNITS_LOOK_S, UNITS_MAX, UNITS_WANTED_LOOK_S
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.image_file import image_bytes
from dvm_mpi.engine.unit_file import DamagedUnitError, UnitHead, load, unpack
from dvm_mpi.engine.unit_folder import (
    BEGUN,
    DONE,
    FAILED,
    IMAGE,
    LOCK,
    NONE,
    UNIT,
    WANTED,
    Request,
    UnitFolder,
    is_unit_name,
)
from dvm_mpi.native import background
from dvm_mpi.values import dataclass

if TYPE_CHECKING:
    import subprocess

_TRANSLATOR: Final = "dvm_mpi.engine.translator"


@dataclass(frozen=True, slots=True)
class LoadedUnit:
    """A unit whose code is in this process."""

    head: UnitHead
    #: Host address of its function.
    function: int


class Executes(Protocol):
    """An engine that executes translated code."""

    @property
    def native_instructions(self) -> int:
        """How many instructions it has executed so."""

    @property
    def static_pages(self) -> list[int]:
        """Private pages that its program's records point into."""


@dataclass(frozen=True, slots=True)
class NativeFigures:
    """What translated code did in one process, or in several.

    `units` were loaded, `cached_units` of them when the run began; `translate_s` is what the others
    took to make, on one processor.
    """

    instructions: int = 0
    units: int = 0
    cached_units: int = 0
    translate_s: float = 0.0

    def row(self) -> dict[str, Any]:
        """Return the figures by their names."""
        return {
            "instructions": self.instructions,
            "units": self.units,
            "cached_units": self.cached_units,
            "translate_s": self.translate_s,
        }


class NativeCode:
    """The translated code of one program in one process.

    Parameters
    ----------
    image
        The program.
    tell
        Takes a line for the user.
    maker
        The module that translates, for tests; empty for the translator of ours.
    ends_slices
        Whether a slice ends early where much of it was interpreted, whatever its fuel. Others may
        wait for it; but where slices end then depends on what is translated when.
    starts_after_s
        How long what is wanted may come from elsewhere before a translator is started here.
    notes_loads
        Whether the engines that execute it track loads.
    """

    def __init__(
        self,
        image: Image,
        tell: Callable[[str], None],
        maker: str = "",
        *,
        ends_slices: bool = False,
        starts_after_s: float = 0.0,
        notes_loads: bool = False,
    ) -> None:
        self.ends_slices = ends_slices
        #: Called with the name and the content of each unit that this process had made.
        self.share: Callable[[str, bytes], None] = lambda name, content: None
        self._starts_after_s = starts_after_s
        self._start_at_s = 0.0
        self._image = image
        self._tell = tell
        self._maker = maker
        self._notes_loads = notes_loads
        self._folder = UnitFolder.of(image, notes_loads=notes_loads)
        #: Units in the order in which they were found; engines take them from here.
        self.units: list[LoadedUnit] = []
        #: Names of files that have been looked at.
        self._seen: set[str] = set()
        #: Requests that have not been worked on, by place.
        self._wanted: dict[str, Request] = {}
        self._look_at_s = 0.0
        self._child: subprocess.Popen[bytes] | None = None
        self._words: IO[bytes] | None = None
        #: Whether something has gone wrong in such a way that no more is asked for.
        self._has_given_up = False
        self._has_told_damage = self._has_told_failure = False
        #: Names of failures that need not be told.
        self._old_failures: set[str] = set()
        #: Names of files whose units are loaded.
        self._loaded: set[str] = set()
        self._engines: list[Executes] = []
        self._guard(self._begin)
        self._cached_count = len(self.units)

    # --- what others ask for --------------------------------------------------------------------
    def join(self, engine: Executes) -> None:
        """Count what an engine executes."""
        self._engines.append(engine)

    def want_all(self) -> None:
        """Ask for all of the program, which an engine has loaded."""
        self.want(None, self._engines[0].static_pages)

    def want(self, pc: int | None, static_pages: Sequence[int]) -> None:
        """Ask for the unit around an address, or for all of the program if it is None."""
        if not self._has_given_up and len(self.units) < UNITS_MAX:
            pages = tuple(int(page) for page in static_pages)
            request = Request(pc, pages, notes_loads=self._notes_loads)
            if not self._wanted:
                self._start_at_s = time.monotonic() + self._starts_after_s
            self._wanted[request.place] = request
            self._guard(lambda: self._ask(request))
            self._look_at_s = 0.0

    def look(self) -> None:
        """Look whether units have come, if it is time; returns at once."""
        now_s = time.monotonic()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + (UNITS_WANTED_LOOK_S if self._wanted else UNITS_LOOK_S)
            self._guard(self._step)

    @property
    def key(self) -> str:
        """For what program, version and kind of processor its units are."""
        return self._folder.key

    def take(self, key: str, name: str, content: bytes) -> None:
        """Keep a unit that was made elsewhere, unless it is there, or not for this process."""
        if key == self.key and is_unit_name(name):
            self._guard(lambda: self._keep(name, content))

    def _keep(self, name: str, content: bytes) -> None:
        if name not in self._folder.names():
            self._folder.write(name, content)
            self._look_at_s = 0.0

    @property
    def waits(self) -> bool:
        """Whether something was asked for and has not come."""
        return bool(self._wanted)

    @property
    def waits_for(self) -> str:
        """What is waited for: a clause, empty if that is nothing."""
        if not self._wanted:
            return ""
        return f"the program to be translated; {len(self.units)} units of it are there"

    def figures(self) -> NativeFigures:
        """Return what was done so far."""
        made = self.units[self._cached_count :]
        return NativeFigures(
            instructions=sum(engine.native_instructions for engine in self._engines),
            units=len(self.units),
            cached_units=self._cached_count,
            translate_s=sum(unit.head.translate_s for unit in made),
        )

    def close(self) -> None:
        """End the translator that this process has started; idempotent."""
        if self._child is None:
            return
        self._child.kill()
        self._child.wait()
        self._forget_child()
        # Nobody has died of what was under way: the next run may ask for it again.
        self._guard(self._open_again)

    # --- the folder -----------------------------------------------------------------------------
    def _guard(self, step: Callable[[], None]) -> None:
        """Do something with files; where that fails, programs are executed without."""
        try:
            step()
        except OSError as error:
            self._give_up(str(error))

    def _give_up(self, why: str) -> None:
        self._wanted.clear()
        if not self._has_given_up:
            self._has_given_up = True
            self._tell(f"dvm: nothing more is translated, all else is interpreted: {why}")

    def _begin(self) -> None:
        """Take what earlier runs have left."""
        self._folder.touch()
        self._old_failures = {n for n in self._folder.names() if n.endswith(FAILED)}
        self._find()

    def _ask(self, request: Request) -> None:
        names = self._folder.names()
        failed = request.place + FAILED
        if failed in names & self._old_failures:
            # What an earlier run could not do, this one tries once.
            self._old_failures.discard(failed)
            self._folder.drop(failed)
            names.discard(failed)
        if request.pc is None:
            wanted = self._folder.all_units()
            if wanted is not None and wanted - self._loaded:
                # Some were damaged, or are gone.
                self._folder.drop(DONE)
                names.discard(DONE)
        if self._is_settled(request, names):
            del self._wanted[request.place]
        else:
            self._folder.ask(request)

    @staticmethod
    def _is_settled(request: Request, names: set[str]) -> bool:
        """Tell whether nothing more comes of a request, by the names in the folder."""
        place = request.place
        if names & {place + NONE, place + FAILED}:
            return True
        return request.pc is None and DONE in names

    def _step(self) -> None:
        names = self._folder.names()
        for place, request in list(self._wanted.items()):
            is_open = bool(names & {place + WANTED, place + BEGUN})
            if self._is_settled(request, names) or (request.pc is not None and not is_open):
                del self._wanted[place]
        # Units are there before their request is settled.
        self._find()
        if self._child is not None:
            self._tell_failures(names)
            if self._child.poll() is not None:
                self._conclude(self._child.returncode)
        elif self._wanted and time.monotonic() >= self._start_at_s:
            self._start()

    def _find(self) -> None:
        """Load the units that have come."""
        for name in sorted(self._folder.names() - self._seen):
            if name.endswith(UNIT) and len(self.units) < UNITS_MAX:
                self._load(name)

    def _load(self, name: str) -> None:
        content = self._folder.read(name)
        if content is None:
            return
        self._seen.add(name)
        try:
            head, library = unpack(content, self._folder.key)
            self.units.append(LoadedUnit(head, load(library)))
            self._loaded.add(name)
            if self._child is not None:
                self.share(name, content)
        except DamagedUnitError as error:
            self._folder.drop(name)
            self._seen.discard(name)
            if not self._has_told_damage:
                self._has_told_damage = True
                self._tell(
                    f"dvm: translated code in {self._folder.path / name} is not used: {error}; "
                    "it is dropped, and made anew when it is needed"
                )

    # --- the translator -------------------------------------------------------------------------
    def _start(self) -> None:
        self._folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = background.take_lock(self._folder.path / LOCK)
        if lock is None:
            return
        with lock:
            self._folder.write(IMAGE, image_bytes(self._image))
            arguments = [str(os.getpid()), str(self._folder.path)]
            arguments += [self._maker] if self._maker else []
            self._child, self._words = background.start(_TRANSLATOR, arguments, lock)

    def _conclude(self, code: int) -> None:
        assert self._words is not None, "a translator without words"
        words = background.said(self._words)
        self._forget_child()
        if code != 0:
            self._give_up(f"the translator ended with {background.how(code)}\n{words}".rstrip())

    def _forget_child(self) -> None:
        if self._words is not None:
            self._words.close()
        self._child = self._words = None

    def _tell_failures(self, names: set[str]) -> None:
        """Tell the first failure of the translator that this process has started."""
        failures = sorted(n for n in names if n.endswith(FAILED) and n not in self._old_failures)
        for name in failures:
            self._old_failures.add(name)
            if not self._has_told_failure:
                self._has_told_failure = True
                words = (self._folder.read(name) or b"").decode(errors="replace").strip()
                self._tell(
                    f"dvm: a part of the program is not translated, but interpreted: {words}"
                )

    def _open_again(self) -> None:
        for request in self._folder.requests(BEGUN):
            self._folder.ask_again(request)
