"""What each instruction does under the reference engine: one handler per mnemonic.

Handlers of one family have one shape: read operands, compute, write. The invariant to remember:
the write is the last effect, so an instruction that raises has had none.

Rules that the contract leaves open, decided here for all engines:

- Order within an instruction: sources from left to right (the pointer cell, then the cell), the
  operation with its own traps, the destination's pointer cell, the destination.
- An instruction that traps has taken nothing from standard input.
- A jump to a bad target traps at the jumping instruction. Running on past the text, or a runner
  whose entry is bad, traps as if an instruction stood there.
- Only operands (and pointer cells) are loads and stores in the sense of the input and console
  cells; bytes that `strcmp`, `br:sl`, descriptors and system calls reach are plain memory.
  A store to the console cell leaves its memory as it was.
- `strcmp` runs in steps of STRCMP_STEP_BYTES; each counts as one instruction, so fuel and
  slices hold for long strings too. Negative lengths count as 0.
- A runner's descriptors are read and judged in the order stack, heap, watched, entry; the address
  at fault is the field's. More ranges than DESCRIPTOR_RANGES_MAX are a bad descriptor.
  The entry is judged when the child starts.
- `malloc(0)` returns an address of its own that may not be touched. A request larger than the
  whole area returns 0. `usleep` returns 0; a negative time is a bad system call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from dvm_mpi.config import DESCRIPTOR_RANGES_MAX, STRCMP_STEP_BYTES
from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.disa.table import BY_MNEMONIC, ExitMode
from dvm_mpi.disa.types import Mode
from dvm_mpi.engine.interface import End, EngineSettings, LeaseKind, TrapKind
from dvm_mpi.engine.lease_blocks import automatic_stack_bytes
from dvm_mpi.engine.reference_arithmetic import (
    ARITHMETIC,
    DivisionByZeroError,
    compare,
    convert,
    signed_of_bits,
)
from dvm_mpi.engine.reference_memory import FaultError, Span
from dvm_mpi.engine.reference_program import ReferenceProgram
from dvm_mpi.engine.reference_state import Attempt, Child
from dvm_mpi.layout import (
    CELL_CHILD_ID,
    CELL_CHILD_STACK_BASE,
    CELL_CHILD_STACK_SIZE,
    CELL_CONSOLE,
    CELL_STDIN,
    CELL_SYSCALL_ARGS,
    CELL_SYSCALL_NUMBER,
    GUARD_BYTES,
    MALLOC_END,
    MALLOC_START,
    PAGE_BYTES,
    SR_END,
    SR_START,
    STACKS_END,
    STACKS_START,
    WORD_BYTES,
    stack_slot_bytes,
    whole_pages,
)
from dvm_mpi.values import dataclass

_MASK64: Final = (1 << 64) - 1
#: The number of `int` that calls the system.
SYSTEM_INTERRUPT: Final = 0x80


class LeaseWantedError(Exception):
    """The instruction needs addresses that no leased block has left."""

    def __init__(self, kind: LeaseKind, length: int = 0) -> None:
        super().__init__(kind, length)
        self.kind = kind
        self.length = length


class ExitReachedError(Exception):
    """The attempt ends by `exit`."""

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end = end


@dataclass(slots=True)
class Surroundings:
    """What the attempts of an engine share."""

    settings: EngineSettings
    program: ReferenceProgram
    stdin: bytes


class Stepper:
    """Executes single instructions of one attempt."""

    def __init__(self, surroundings: Surroundings, attempt: Attempt) -> None:
        self.around = surroundings
        self.attempt = attempt
        self.memory = attempt.memory
        #: Where control goes after the present instruction.
        self.next_pc = 0
        #: Microseconds that the instruction asked to sleep.
        self.sleep_us = 0

    def step(self) -> None:
        """Execute the instruction at `pc`; on any exception nothing of it remains."""
        attempt = self.attempt
        stdin_position = attempt.stdin_position
        self.sleep_us = 0
        try:
            instruction = self.around.program.fetch(attempt.pc)
            self.next_pc = (instruction.address + instruction.size_bytes) & _MASK64
            HANDLERS[instruction.mnemonic](self, instruction)
        except Exception:
            attempt.stdin_position = stdin_position
            raise
        attempt.pc = self.next_pc

    # --- operands -----------------------------------------------------------------------------
    def read(self, instruction: Instruction, index: int) -> int:
        """Return the bits of a source operand, unsigned."""
        operand = instruction.operands[index]
        if operand.mode is Mode.IMMEDIATE:
            return operand.value
        return self._load_cell(self._address(instruction, index), instruction.width_of(index))

    def write(self, instruction: Instruction, index: int, bits: int) -> None:
        """Store to the destination operand: the last effect of an instruction."""
        address = self._address(instruction, index)
        if address == CELL_CONSOLE:
            self.attempt.console.append(bits & 0xFF)
        else:
            self.memory.store(address, instruction.width_of(index), bits)

    def _address(self, instruction: Instruction, index: int) -> int:
        operand = instruction.operands[index]
        if operand.mode is Mode.DIRECT:
            return operand.value
        return (self._load_cell(operand.value, WORD_BYTES) + operand.displacement) & _MASK64

    def _load_cell(self, address: int, width: int) -> int:
        if address != CELL_STDIN:
            return self.memory.load(address, width)
        stream, position = self.around.stdin, self.attempt.stdin_position
        if position == len(stream):
            return (1 << 8 * width) - 1
        self.attempt.stdin_position = position + 1
        return stream[position]

    # --- control ------------------------------------------------------------------------------
    def jump(self, target: int) -> None:
        """Go on at `target`, which must be where an instruction may begin."""
        if not self.around.program.may_begin(target):
            raise FaultError(TrapKind.BAD_JUMP, target)
        self.next_pc = target


# --- handlers: read operands, compute, write -------------------------------------------------
Handler = Callable[[Stepper, Instruction], None]


def _nop(step: Stepper, instruction: Instruction) -> None:
    pass


def _arithmetic(mnemonic: str, step: Stepper, instruction: Instruction) -> None:
    *sources, destination = range(len(instruction.operands))
    values = [step.read(instruction, index) for index in sources]
    try:
        result = ARITHMETIC[mnemonic](instruction.type_of(0), *values)
    except DivisionByZeroError:
        raise FaultError(TrapKind.DIVISION_BY_ZERO) from None
    step.write(instruction, destination, result)


def _mov(step: Stepper, instruction: Instruction) -> None:
    bits = step.read(instruction, 0)
    converted = convert(instruction.type_of(0), instruction.type_of(1), bits)
    step.write(instruction, 1, converted)


def _br(step: Stepper, instruction: Instruction) -> None:
    assert instruction.condition is not None, instruction
    if instruction.condition == "ji":
        step.jump(step.read(instruction, 0))
        return
    values = [step.read(instruction, index) for index in range(len(instruction.operands))]
    if _is_taken(step, instruction, values):
        assert instruction.target is not None, instruction
        step.jump(instruction.target)


def _is_taken(step: Stepper, instruction: Instruction, values: list[int]) -> bool:
    match instruction.condition:
        case "j":
            return True
        case "sl":
            left, right = (step.memory.load_bytes(address, WORD_BYTES) for address in values)
            return left < right
        case "z" | "nz" as condition:
            return compare(condition, instruction.type_of(0), values[0], 0)
        case str() as condition:
            return compare(condition, instruction.type_of(0), *values)
    raise AssertionError(instruction)


def _bl(step: Stepper, instruction: Instruction) -> None:
    link = step.next_pc
    step.jump(step.read(instruction, 0))
    step.write(instruction, 1, link)


def _strcmp(step: Stepper, instruction: Instruction) -> None:
    attempt = step.attempt
    stdin_position = attempt.stdin_position
    left, left_bytes, right, right_bytes = (step.read(instruction, i) for i in range(4))
    left_bytes = max(signed_of_bits(left_bytes, WORD_BYTES), 0)
    right_bytes = max(signed_of_bits(right_bytes, WORD_BYTES), 0)
    shared = min(left_bytes, right_bytes)
    end = min(attempt.compared + STRCMP_STEP_BYTES, shared)
    order = 0
    for offset in range(attempt.compared, end):
        a = step.memory.load((left + offset) & _MASK64, 1)
        b = step.memory.load((right + offset) & _MASK64, 1)
        order = (a > b) - (a < b)
        if order:
            break
    if order == 0 and end < shared:
        # Go on in another step, which reads the operands again.
        attempt.compared = end
        attempt.stdin_position = stdin_position
        step.next_pc = instruction.address
        return
    if order == 0:
        order = (left_bytes > right_bytes) - (left_bytes < right_bytes)
    step.write(instruction, 4, order & _MASK64)
    attempt.compared = 0


def _exit(step: Stepper, instruction: Instruction) -> None:
    assert instruction.exit_mode is not None, instruction
    commits = instruction.exit_mode in {ExitMode.COMMIT, ExitMode.COMMIT_DELETE}
    if commits and not step.around.settings.allow_undeclared:
        memory = step.memory
        shared = sorted(a for a in memory.stored if a // PAGE_BYTES not in memory.child_stacks)
        uncovered = memory.coverage.first_uncovered(shared)
        if uncovered is not None:
            raise FaultError(TrapKind.UNDECLARED_STORE, uncovered)
    raise ExitReachedError(End(instruction.exit_mode))


# --- calls to the runtime ---------------------------------------------------------------------
def _load_field(step: Stepper, address: int) -> tuple[int, int]:
    """Return an eight-byte field of a descriptor and its address."""
    address &= _MASK64
    return step.memory.load(address, WORD_BYTES), address


def _judge_span(start: int, length: int, address: int) -> Span:
    """Return a descriptor's range if it is a good one; `address` is where it stands."""
    length = signed_of_bits(length, WORD_BYTES)
    is_inside = SR_START <= start and start + length <= SR_END
    is_clear = start + length <= STACKS_START or start >= STACKS_END
    if length < 0 or (length > 0 and not (is_inside and is_clear)):
        raise FaultError(TrapKind.BAD_DESCRIPTOR, address)
    return start, length


def _read_ranges(step: Stepper, descriptor: int) -> tuple[list[Span], int]:
    """Return the nonempty ranges of `{n, (base, size) * n}`, and n."""
    count, at = _load_field(step, descriptor)
    count = signed_of_bits(count, WORD_BYTES)
    if not 0 <= count <= DESCRIPTOR_RANGES_MAX:
        raise FaultError(TrapKind.BAD_DESCRIPTOR, at)
    spans = []
    for index in range(count):
        start, at = _load_field(step, descriptor + WORD_BYTES * (2 * index + 1))
        length, _ = _load_field(step, descriptor + WORD_BYTES * (2 * index + 2))
        spans.append(_judge_span(start, length, at))
    return [span for span in spans if span[1]], count


def _read_stack(step: Stepper, descriptor: int) -> Span | None:
    """Return the explicit stack of `{base, size}`, None if an automatic one is asked for."""
    start, at = _load_field(step, descriptor)
    length, _ = _load_field(step, descriptor + WORD_BYTES)
    if start == 0:
        if length:
            raise FaultError(TrapKind.BAD_DESCRIPTOR, at)
        return None
    return _judge_span(start, length, at)


def _newr(step: Stepper, instruction: Instruction) -> None:
    at_stack, at_heap, at_watched, at_entry = (step.read(instruction, i) for i in range(4))
    stack = _read_stack(step, at_stack)
    heap, _ = _read_ranges(step, at_heap)
    watched, watched_count = _read_ranges(step, at_watched)
    entry, _ = _load_field(step, at_entry)
    leases = step.attempt.leases
    stack_bytes = automatic_stack_bytes(step.around.settings)
    slot_bytes = stack_slot_bytes(stack_bytes)
    if not leases.bring_forward(LeaseKind.ID, PAGE_BYTES):
        raise LeaseWantedError(LeaseKind.ID)
    if stack is None and not leases.bring_forward(LeaseKind.STACK, slot_bytes):
        raise LeaseWantedError(LeaseKind.STACK)
    child_id = leases.take(LeaseKind.ID, PAGE_BYTES)
    assert child_id is not None, "a block that fits was brought forward"
    is_automatic = stack is None
    if stack is None:
        slot = leases.take(LeaseKind.STACK, slot_bytes)
        assert slot is not None, "a block that fits was brought forward"
        stack = (slot + GUARD_BYTES, stack_bytes)
        for address in range(stack[0], stack[0] + stack_bytes, PAGE_BYTES):
            step.memory.child_stacks[address // PAGE_BYTES] = stack
    else:
        step.memory.coverage.add(stack)
    step.attempt.children.append(
        Child(child_id, entry, stack, is_automatic, heap, watched, watched_count > 0,
              instruction.address)
    )  # fmt: skip
    step.memory.store(CELL_CHILD_STACK_BASE, WORD_BYTES, stack[0])
    step.memory.store(CELL_CHILD_STACK_SIZE, WORD_BYTES, stack[1])
    step.memory.store(CELL_CHILD_ID, WORD_BYTES, child_id)


def _int(step: Stepper, instruction: Instruction) -> None:
    call = step.memory.load(CELL_SYSCALL_NUMBER, WORD_BYTES)
    if instruction.number != SYSTEM_INTERRUPT or call not in SYSTEM_CALLS:
        raise FaultError(TrapKind.BAD_SYSTEM_CALL)
    argument = signed_of_bits(step.memory.load(CELL_SYSCALL_ARGS, WORD_BYTES), WORD_BYTES)
    for index, result in enumerate(SYSTEM_CALLS[call](step, argument)):
        step.memory.store(CELL_SYSCALL_ARGS + WORD_BYTES * index, WORD_BYTES, result)


def _malloc(step: Stepper, length: int) -> tuple[int, ...]:
    if length < 0:
        raise FaultError(TrapKind.BAD_SYSTEM_CALL)
    if step.attempt.malloc_refused or length > MALLOC_END - MALLOC_START:
        step.attempt.malloc_refused = False
        return (0,)
    # Even an empty block has an address of its own.
    block_bytes = max(whole_pages(length), PAGE_BYTES)
    start = step.attempt.leases.take(LeaseKind.MALLOC, block_bytes)
    if start is None:
        raise LeaseWantedError(LeaseKind.MALLOC, block_bytes)
    step.memory.coverage.mallocs.append((start, length))
    return (start,)


def _usleep(step: Stepper, microseconds: int) -> tuple[int, ...]:
    if microseconds < 0:
        raise FaultError(TrapKind.BAD_SYSTEM_CALL)
    step.sleep_us = microseconds
    return (0,)


def _gettime(step: Stepper, _argument: int) -> tuple[int, ...]:
    clock = step.around.settings.clock
    if clock is None:
        raise FaultError(TrapKind.NO_TIME)
    seconds, nanoseconds = divmod(clock(), 1_000_000_000)
    return 0, seconds, nanoseconds


#: By system-call number; each returns the results that overwrite the argument cells.
SYSTEM_CALLS: Final[dict[int, Callable[[Stepper, int], tuple[int, ...]]]] = {
    1: _malloc,
    2: _usleep,
    6: _malloc,
    7: _gettime,
}

HANDLERS: Final[dict[str, Handler]] = {
    "nop": _nop, "mov": _mov, "br": _br, "bl": _bl, "strcmp": _strcmp,
    "newr": _newr, "exit": _exit, "int": _int,
    **{mnemonic: partial(_arithmetic, mnemonic) for mnemonic in ARITHMETIC},
}  # fmt: skip
assert HANDLERS.keys() == BY_MNEMONIC.keys(), "every instruction of the table has a handler"
