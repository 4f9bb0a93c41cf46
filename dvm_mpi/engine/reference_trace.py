"""A stepper that tells what each instruction read, wrote and led to; for traces.

It computes nothing: what it tells is what the reference engine did.
"""

from __future__ import annotations

from collections.abc import Callable

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine.interface import End, TrapKind
from dvm_mpi.engine.reference_memory import FaultError, MissedError
from dvm_mpi.engine.reference_state import Attempt, Child
from dvm_mpi.engine.reference_steps import (
    ExitReachedError,
    LeaseWantedError,
    Stepper,
    Surroundings,
)
from dvm_mpi.layout import CELL_SYSCALL_ARGS, CELL_SYSCALL_NUMBER, WORD_BYTES
from dvm_mpi.values import dataclass, field


@dataclass(frozen=True, slots=True)
class Access:
    """One operand as it was read or written: its place in the instruction, address, and bits.

    `address` is -1 for a constant.
    """

    index: int
    address: int
    bits: int


@dataclass(slots=True)
class Step:
    """One executed instruction; `number` counts from 1."""

    number: int
    pc: int
    #: None where no instruction stands.
    instruction: Instruction | None = None
    reads: list[Access] = field(default_factory=list)
    write: Access | None = None
    next_pc: int = -1
    #: What it did beside its operands.
    child: Child | None = None
    printed: bytes = b""
    #: Of a system call: its number, its argument, its first result.
    call: tuple[int, int, int] | None = None
    end: End | None = None
    trap: TrapKind | None = None
    #: The address at fault, or -1.
    fault: int = -1


class TracingStepper(Stepper):
    """Tells each step when it is complete; one that waits for a page is told when it is repeated.

    Parameters
    ----------
    surroundings, attempt
        As of a `Stepper`.
    tell
        Gets every step.
    """

    def __init__(
        self, surroundings: Surroundings, attempt: Attempt, tell: Callable[[Step], None]
    ) -> None:
        super().__init__(surroundings, attempt)
        self._tell = tell
        self._step = Step(0, 0)
        self._addressed = -1

    def step(self) -> None:
        """Execute the instruction at `pc`, and tell what it did."""
        attempt = self.attempt
        step = self._step = Step(attempt.instructions + 1, attempt.pc)
        step.instruction = self.around.program.peek(attempt.pc)
        is_call = step.instruction is not None and step.instruction.mnemonic == "int"
        call = self._peek(CELL_SYSCALL_NUMBER), self._peek(CELL_SYSCALL_ARGS)
        printed, children = len(attempt.console), len(attempt.children)
        try:
            super().step()
        except (MissedError, LeaseWantedError):
            raise
        except ExitReachedError as reached:
            step.end = reached.end
            self._tell(step)
            raise
        except FaultError as fault:
            step.trap, step.fault = fault.kind, fault.address
            self._tell(step)
            raise
        step.next_pc = attempt.pc
        step.printed = bytes(attempt.console[printed:])
        step.child = attempt.children[-1] if len(attempt.children) > children else None
        if is_call:
            step.call = (*call, self._peek(CELL_SYSCALL_ARGS))
        self._tell(step)

    def read(self, instruction: Instruction, index: int) -> int:
        """Return the bits of a source operand, and note them."""
        bits = super().read(instruction, index)
        is_constant = instruction.operands[index].mode is Mode.IMMEDIATE
        self._step.reads.append(Access(index, -1 if is_constant else self._addressed, bits))
        return bits

    def write(self, instruction: Instruction, index: int, bits: int) -> None:
        """Store to the destination operand, and note what was stored."""
        super().write(instruction, index, bits)
        kept = bits & (1 << 8 * instruction.width_of(index)) - 1
        self._step.write = Access(index, self._addressed, kept)

    def _address(self, instruction: Instruction, index: int) -> int:
        self._addressed = super()._address(instruction, index)
        return self._addressed

    def _peek(self, address: int) -> int:
        return self.memory.peek(address, WORD_BYTES) or 0
