"""Programs as text, and what the translator sees of them."""

from __future__ import annotations

from collections.abc import Sequence

from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.engine.predecode import Program
from dvm_mpi.engine.translation.accesses import Groups, groups_of
from dvm_mpi.engine.translation.blocks import Block, blocks_of
from dvm_mpi.engine.translation.cells import Cell, Place, promoted_cells
from dvm_mpi.engine.translation.code import Code
from dvm_mpi.engine.translation.units import Chooser, Unit, instructions_of


class Seen:
    """A program, its code, and its unit around a label."""

    def __init__(self, text: str, label: str = "main") -> None:
        self.image: Image = assemble_text(text, "test.dasm", {})
        self.code = Code(self.image, Program(self.image).static_pages)
        self.chooser = Chooser(self.code, self.image)
        found = self.chooser.around(self.at(label))
        assert found is not None, label
        self.unit: Unit = found
        self.blocks: dict[int, Block] = blocks_of(self.code, self.unit)

    def at(self, label: str) -> int:
        """Return the address of a label."""
        return self.image.symbols[label]

    def instruction(self, address: int) -> Instruction:
        """Return the instruction at an address."""
        found = self.code.at(address)
        assert found is not None, f"{address:#x}"
        return found

    def behind(self, label: str) -> int:
        """Return the address behind the instruction at a label."""
        return self.at(label) + self.instruction(self.at(label)).size_bytes

    def block(self, label: str) -> Block:
        """Return the block that begins at a label."""
        return self.blocks[self.at(label)]

    def cells(self, windows: tuple[int, ...] = ()) -> dict[Place, Cell]:
        """Return the promoted cells of the unit."""
        return promoted_cells(self.code, instructions_of(self.code, self.unit), windows)

    def groups(self, label: str) -> Groups:
        """Return the groups of a block's accesses."""
        return self.groups_of(self.block(label).instructions)

    def groups_of(self, instructions: Sequence[Instruction]) -> Groups:
        """Return the groups of the accesses of some instructions."""
        return groups_of(self.code, self.cells(), instructions)

    def place(self, cell: str) -> Place:
        """Return the place of a named cell of eight bytes."""
        return self.at(cell), 8
