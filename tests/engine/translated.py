"""Engines whose programs are translated when they are loaded, in this process."""

from __future__ import annotations

import random
from functools import cache
from typing import Any, Final, NamedTuple
from unittest import mock

from llvmlite import binding

from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import EngineSettings, LoadTracking
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.engine.predecode import Program
from dvm_mpi.engine.translate import translate
from dvm_mpi.engine.translation import loops
from dvm_mpi.engine.translation.code import Code
from dvm_mpi.engine.translation.units import Chooser, Unit, ways_out
from dvm_mpi.engine.unit_file import SYMBOL

#: Programs whose code is kept for the next engine that loads them.
KEPT: Final = 8
#: Units that are made of a program, where not all of it is translated.
PARTS: Final = 1


class Translated(NamedTuple):
    """A unit's code in this process. It stays as long as `alive`."""

    unit: Unit
    ways_out: frozenset[int]
    function: int
    alive: Any


@cache
def _machine() -> Any:
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    return binding.Target.from_default_triple()


def loaded(code: bytes) -> tuple[Any, int]:
    """Return what keeps an object file's code alive, and the address of its function."""
    machine = _machine().create_target_machine()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine, engine.get_function_address(SYMBOL)


def _units(code: Code, image: Image, *, is_whole: bool) -> list[Unit]:
    """Return units that hold the whole program, or those around a few of its instructions."""
    chooser = Chooser(code, image)
    if is_whole:
        return [unit for unit in chooser.all() if unit.entries]
    rng = random.Random(image.text)
    places = sorted(code.instructions)
    units = [chooser.around(rng.choice(places)) for _ in range(PARTS if places else 0)]
    return [unit for unit in units if unit is not None and unit.entries]


class TranslatedEngine(InterpEngine):
    """Implements `interface.Engine`; every instruction that can be translated is.

    `level` is how hard LLVM tries, `is_whole` False translates only parts, which may overlap. With
    `large_body` 1 every loop that can be is windows alone. A profile is taken without translated
    code.
    """

    _kept: Final[dict[object, list[Translated]]] = {}

    def __init__(
        self,
        settings: EngineSettings,
        level: int = 1,
        *,
        is_whole: bool = True,
        large_body: int = 0,
    ) -> None:
        super().__init__(settings)
        self._large_body = large_body
        self._level, self._is_whole = level, is_whole
        self._alive: list[Translated] = []

    @property
    def _notes_loads(self) -> bool:
        return self._settings.loads is not LoadTracking.NONE

    def load(self, image: Image, stdin: bytes) -> None:
        """Take the program and standard input; translate the program."""
        super().load(image, stdin)
        if self._settings.counts_instructions:
            return
        assert self._program is not None
        # Of a flat image nothing is decoded yet, and no page is static.
        self._program.expect(Code(image, ()).instructions)
        self._show_static_pages()
        self._alive = self._translated(image, self._program)
        for unit, out, function, _ in self._alive:
            self._program.expect(out)
            self.attach({a: n for n, a in enumerate(unit.entries)}, function, unit.static_pages)
        self._show_static_pages()

    def _translated(self, image: Image, program: Program) -> list[Translated]:
        lines = None if image.lines is None else image.lines.addresses.tobytes()
        data = tuple((section.start, bytes(section.data)) for section in image.sections)
        pages = tuple(program.static_pages)
        how = self._level, self._is_whole, self._large_body, self._notes_loads, type(self)
        key = (image.text, image.entry, lines, data, pages, *how)
        if key not in self._kept:
            while len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            code = Code(image, pages)
            self._kept[key] = [
                self._translate(code, unit) for unit in _units(code, image, is_whole=self._is_whole)
            ]
        return self._kept[key]

    def _translate(self, code: Code, unit: Unit) -> Translated:
        with mock.patch.object(loops, "LARGE_BODY", self._large_body or loops.LARGE_BODY):
            native = translate(code, unit, self._level, notes_loads=self._notes_loads)
        alive, function = loaded(native)
        return Translated(unit, frozenset(ways_out(code, unit)), function, alive)
