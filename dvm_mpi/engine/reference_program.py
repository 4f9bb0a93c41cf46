"""The reference's view of the program: instructions by address, decoded when first reached."""

from __future__ import annotations

from dvm_mpi.disa.encoding import DecodeError, decode
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.engine.interface import TrapKind
from dvm_mpi.engine.reference_memory import FaultError
from dvm_mpi.layout import TEXT_START


class ReferenceProgram:
    """The text of an image; in a flat one, any byte may begin an instruction."""

    def __init__(self, image: Image) -> None:
        self.text = image.text
        self._starts = None if image.lines is None else frozenset(image.lines.addresses.tolist())
        self._decoded: dict[int, Instruction] = {}

    def may_begin(self, pc: int) -> bool:
        """Return whether control may go to `pc`."""
        if not TEXT_START <= pc < TEXT_START + len(self.text):
            return False
        return self._starts is None or pc in self._starts

    def fetch(self, pc: int) -> Instruction:
        """Return the instruction at `pc`; raise FaultError where there is none."""
        found = self._decoded.get(pc)
        if found is None:
            if not self.may_begin(pc):
                raise FaultError(TrapKind.BAD_JUMP, pc)
            try:
                found = decode(self.text, pc - TEXT_START, pc)
            except DecodeError:
                raise FaultError(TrapKind.BAD_OPCODE, pc) from None
            self._decoded[pc] = found
        return found

    def peek(self, pc: int) -> Instruction | None:
        """Return the instruction at `pc` for a message, None where there is none."""
        try:
            return self.fetch(pc)
        except FaultError:
            return None
