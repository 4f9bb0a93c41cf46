"""An engine whose program is translated as a whole when it is loaded, in this process."""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import binding

from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.engine.translate import translate
from dvm_mpi.engine.translation.code import Code
from dvm_mpi.engine.translation.frame import SYMBOL
from dvm_mpi.engine.translation.units import Chooser, ways_out


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


class TranslatedEngine(InterpEngine):
    """Implements `interface.Engine`; every instruction that can be translated is."""

    level = 1

    def load(self, image: Image, stdin: bytes) -> None:
        """Take the program and standard input; translate the program."""
        super().load(image, stdin)
        assert self._program is not None
        self._alive = []
        code = Code(image, self._program.static_pages)
        for unit in Chooser(code, image).all():
            if unit.entries:
                alive, function = loaded(translate(code, unit, self.level))
                self._alive.append(alive)
                self._program.expect(ways_out(code, unit))
                entries = {a: n for n, a in enumerate(unit.entries)}
                self._program.attach(entries, function, unit.static_pages)
