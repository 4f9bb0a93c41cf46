"""`python -m dvm_mpi.engine.translator PARENT FOLDER [MAKER]`: translate what is asked for.

A process beside the ranks of a node, one for each program's folder (unit_folder.py): it takes one
request after the other, puts the units there, and ends when nobody has asked for a while, or with
PARENT. MAKER is the module whose `maker` translates (`UnitMaker`), unit_maker.py unless it is
given; only this process imports it, and with it llvmlite.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from dvm_mpi.config import TRANSLATION_TRIES_MAX, TRANSLATOR_IDLE_S, TRANSLATOR_LOOK_S
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.image_file import image_from_bytes
from dvm_mpi.engine.unit_file import DamagedUnitError, UnitHead, pack, unpack
from dvm_mpi.engine.unit_folder import BEGUN, IMAGE, UNIT, Request, UnitFolder
from dvm_mpi.native import linking
from dvm_mpi.native.background import end_with

#: Hardly lower than the ranks': where these are more than cores, much lower would be for ever.
_NICENESS: Final = 1
_DIGEST_DIGITS: Final = 24
_MAKER: Final = "dvm_mpi.engine.unit_maker"
_NO_LINKER: Final = "there is no linker: install binutils (ld), lld or a C compiler"


class AnyUnit(Protocol):
    """A part of a program that is translated as one function; see translation/units.py."""

    @property
    def entries(self) -> tuple[int, ...]:
        """Addresses where control may come in, by number."""

    @property
    def addresses(self) -> tuple[int, ...]:
        """Addresses of all its instructions."""

    @property
    def static_pages(self) -> tuple[int, ...]:
        """Private pages that its code names without a check."""


U = TypeVar("U", bound=AnyUnit)


class UnitMaker(Protocol[U]):
    """Chooses and translates the units of one program."""

    def around(self, pc: int) -> U | None:
        """Return the unit to translate where an instruction is hot; None if there is none."""

    def all(self) -> Sequence[U]:
        """Return units that together hold all of the program."""

    def ways_out(self, unit: U) -> Collection[int]:
        """Return the addresses at which the loop may go on behind a unit."""

    def make(self, unit: U) -> bytes:
        """Return the object file (ELF) with a unit's function, `unit_file.SYMBOL`."""


class Translator:
    """Works on the requests in one folder; `step` until it says that there was nothing to do.

    `make_maker` takes the program, its static pages, and whether loads are to be noted.
    """

    def __init__(
        self, folder: UnitFolder, make_maker: Callable[[Image, Iterable[int], bool], UnitMaker[Any]]
    ) -> None:
        self._folder = folder
        self._make_maker = make_maker
        self._image: Image | None = None
        #: The maker for the static pages, and the noting of loads, that were last asked for.
        self._maker: tuple[tuple[tuple[int, ...], bool], UnitMaker[Any]] | None = None

    def take_over(self) -> None:
        """Open the requests again that another translator has left, but for those that end all."""
        for request in self._folder.requests(BEGUN):
            tries = request.tries + 1
            if tries < TRANSLATION_TRIES_MAX:
                again = Request(request.pc, request.static_pages, tries, request.notes_loads)
                self._folder.ask_again(again)
            else:
                self._folder.fail(request, f"{tries} translators have died of it")

    def step(self) -> bool:
        """Work on the requests that are there; return whether there were any."""
        requests = self._folder.requests()
        for request in requests:
            self._folder.begin(request)
            try:
                if self._serve(request):
                    self._folder.settle(request)
                else:
                    self._folder.refuse(request)
            except Exception:
                self._folder.fail(request, traceback.format_exc())
        return bool(requests)

    def _serve(self, request: Request) -> bool:
        """Make what is asked for; return whether there was anything to make."""
        maker = self._maker_for(request)
        if request.pc is not None:
            unit = maker.around(request.pc)
            if unit is not None:
                self._make(maker, unit)
            return unit is not None
        made, failed = [], ""
        for unit in maker.all():
            try:
                made.append(self._make(maker, unit))
            except Exception:
                failed = failed or traceback.format_exc()
        if failed:
            # What the others do without it is still worth to be used.
            raise RuntimeError(failed)
        self._folder.complete(made)
        return True

    def _maker_for(self, request: Request) -> UnitMaker[Any]:
        how = request.static_pages, request.notes_loads
        if self._maker is None or self._maker[0] != how:
            if self._image is None:
                content = self._folder.read(IMAGE)
                assert content is not None, "the program lies beside the requests"
                self._image = image_from_bytes(content)
            self._maker = how, self._make_maker(self._image, *how)
        return self._maker[1]

    def _make(self, maker: UnitMaker[Any], unit: AnyUnit) -> str:
        """Put a unit into the folder, unless it is there; return its file's name."""
        name = _name_of(unit) + UNIT
        content = self._folder.read(name)
        if content is not None:
            try:
                unpack(content, self._folder.key)
                return name
            except DamagedUnitError:
                self._folder.drop(name)
        began = time.perf_counter()
        code = maker.make(unit)
        linking.check(code)
        library = linking.library_of(code, self._folder.path)
        if library is None:
            raise RuntimeError(_NO_LINKER)
        taken_s = time.perf_counter() - began
        head = UnitHead(
            key=self._folder.key,
            entries=unit.entries,
            addresses=unit.addresses,
            ways_out=tuple(sorted(maker.ways_out(unit))),
            static_pages=unit.static_pages,
            translate_s=round(taken_s, 4),
        )
        self._folder.write(name, pack(head, library))
        return name


def _name_of(unit: AnyUnit) -> str:
    """Return a digest of what a unit is."""
    parts = (unit.entries, unit.addresses, unit.static_pages)
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:_DIGEST_DIGITS]


def main(arguments: Sequence[str]) -> None:
    """Serve until nobody has asked for a while."""
    folder, *modules = arguments
    os.nice(_NICENESS)
    (module,) = modules or [_MAKER]
    translator = Translator(UnitFolder(Path(folder)), importlib.import_module(module).maker)
    translator.take_over()
    UnitFolder(Path(folder)).drop_old_ones()
    asked_s = time.monotonic()
    while time.monotonic() - asked_s < TRANSLATOR_IDLE_S:
        if translator.step():
            asked_s = time.monotonic()
        else:
            time.sleep(TRANSLATOR_LOOK_S)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    main(sys.argv[2:])
