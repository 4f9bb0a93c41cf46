"""The units of one program, as the translator's process has them made: chosen, then translated."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from dvm_mpi.disa.image import Image
from dvm_mpi.engine.translate import translate
from dvm_mpi.engine.translation.code import Code
from dvm_mpi.engine.translation.units import Chooser, Unit, ways_out


class ProgramMaker:
    """Implements `translator.UnitMaker` with the translator.

    `notes_loads`: code for engines that track loads.
    """

    def __init__(self, image: Image, static_pages: Iterable[int], notes_loads: bool) -> None:
        self._notes_loads = notes_loads
        self._code = Code(image, static_pages)
        self._chooser = Chooser(self._code, image)

    def around(self, pc: int) -> Unit | None:
        """Return the unit to translate where an instruction is hot; None if there is none."""
        unit = self._chooser.around(pc)
        return unit if unit is not None and unit.entries else None

    def all(self) -> Sequence[Unit]:
        """Return units that together hold all of the program that control may enter."""
        return [unit for unit in self._chooser.all() if unit.entries]

    def ways_out(self, unit: Unit) -> Collection[int]:
        """Return the addresses at which the interpreter may go on."""
        return ways_out(self._code, unit)

    def make(self, unit: Unit) -> bytes:
        """Return the object file (ELF) with a unit's function."""
        return translate(self._code, unit, notes_loads=self._notes_loads)


maker = ProgramMaker
