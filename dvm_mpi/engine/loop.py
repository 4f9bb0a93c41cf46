"""The fast engine's loop: one compiled function over pre-decoded records, and its batch loop.

`execute` runs the attempt in the view until something needs the world outside; `run` goes from
attempt to attempt of a batch without leaving compiled code. Both take the state array only.
The invariant to remember: an instruction that stops has changed nothing, and its record is the
one that is executed next.

Early returns and calls in the loop are what costs numba compile time and the loop speed; so
`execute` is one function, and everything rare is behind the functions of access.py and calls.py.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from dvm_mpi.engine.access import (
    LOAD,
    fault,
    give_back_stdin,
    reach_load,
    reach_store,
    touch_span,
)
from dvm_mpi.engine.address_space import FLAGS, READ, TRACK, VIEW, WRITE
from dvm_mpi.engine.calls import call, record_of
from dvm_mpi.engine.compiled import compiled
from dvm_mpi.engine.conversion import (
    binary32_of_signed,
    binary32_of_unsigned,
    float_larger,
    float_of_unsigned,
    float_smaller,
    load_word,
    narrow_of_float,
    signed_of_float,
    store_word,
    unsigned_of_float,
    word_of,
)
from dvm_mpi.engine.elementary import exp, log
from dvm_mpi.engine.interface import TrapKind
from dvm_mpi.engine.lifetime import clear_view, end_by_exit, end_by_trap, enter, leave
from dvm_mpi.engine.lists import count_of, set_count
from dvm_mpi.engine.machine_words import (
    call_unit,
    float_of,
    load_i64,
    load_u8,
    quotient,
    store_i64,
    unsigned_less,
    unsigned_quotient,
    unsigned_remainder,
    unsigned_shift,
)
from dvm_mpi.engine.page_flags import mark
from dvm_mpi.engine.records import (
    A_CHECKED,
    A_FAR,
    A_NARROW,
    A_OFFSET,
    A_WORD,
    B_CHECKED,
    B_FAR,
    B_NARROW,
    B_OFFSET,
    B_WORD,
    D_CHECKED,
    D_FAR,
    D_NARROW,
    D_OFFSET,
    D_WORD,
    DESTINATION,
    EXTRA,
    NARROW_SHIFT,
    NEXT,
    OPERATION,
    PC,
    REPORTED,
    SHAPE,
    SOURCES,
    TARGET,
    A,
    B,
    D,
    Operation,
)
from dvm_mpi.engine.stacks import show_own_stack
from dvm_mpi.engine.state import Field, List, Phase, State, Stop
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT, SR_END, TEXT_START, WORD_BYTES

#: False here, where one operation more made every instruction a tenth slower; see counting_loop.py.
COUNTS_ARRIVALS: Final = False


@compiled
def execute(state: State, fuel: int) -> None:
    """Execute up to `fuel` instructions of the attempt in the view, or until STOP is set."""
    record = state[Field.RECORD]
    count = state[Field.INSTRUCTIONS]
    end = count + fuel
    stop = 0
    while count < end:
        operation = load_i64(record + OPERATION)
        shape = load_i64(record + SHAPE)
        a = load_i64(record + A)
        b = load_i64(record + B)
        # Where a jump goes: 0 for on to the next instruction, -1 for a bad target.
        goal = 0
        # --- sources --------------------------------------------------------------------------
        if shape & SOURCES == 0:
            x = load_i64(a)
            y = load_i64(b)
        else:
            if shape & (A_CHECKED | A_FAR):
                word = load_i64(record + A_WORD)
                width = word >> NARROW_SHIFT
                if shape & A_FAR:
                    state[Field.RECORD] = record
                    state[Field.INSTRUCTIONS] = count
                    a = reach_load(state, a, WORD_BYTES, 0)
                    if a == 0:
                        break
                address = load_i64(a) + load_i64(record + A_OFFSET)
                a = VIEW + address
                if not (
                    0 <= address < SR_END
                    and load_u8(FLAGS + (address >> PAGE_SHIFT)) & READ
                    and (address & (PAGE_BYTES - 1)) + width <= PAGE_BYTES
                ):
                    state[Field.RECORD] = record
                    state[Field.INSTRUCTIONS] = count
                    a = reach_load(state, address, width, 0)
                    if a == 0:
                        break
            x = load_word(a, load_i64(record + A_WORD)) if shape & A_NARROW else load_i64(a)
            if shape & (B_CHECKED | B_FAR):
                word = load_i64(record + B_WORD)
                width = word >> NARROW_SHIFT
                if shape & B_FAR:
                    state[Field.RECORD] = record
                    state[Field.INSTRUCTIONS] = count
                    b = reach_load(state, b, WORD_BYTES, 1)
                    if b == 0:
                        break
                address = load_i64(b) + load_i64(record + B_OFFSET)
                b = VIEW + address
                if not (
                    0 <= address < SR_END
                    and load_u8(FLAGS + (address >> PAGE_SHIFT)) & READ
                    and (address & (PAGE_BYTES - 1)) + width <= PAGE_BYTES
                ):
                    state[Field.RECORD] = record
                    state[Field.INSTRUCTIONS] = count
                    b = reach_load(state, address, width, 1)
                    if b == 0:
                        break
            y = load_word(b, load_i64(record + B_WORD)) if shape & B_NARROW else load_i64(b)
        # --- the operation --------------------------------------------------------------------
        z = x
        if operation == Operation.MOV:
            z = x
        elif operation == Operation.ADD:
            z = x + y
        elif operation == Operation.SUB:
            z = x - y
        # --- branches -------------------------------------------------------------------------
        elif operation == Operation.BR_L:
            if x < y:
                goal = load_i64(record + TARGET)
        elif operation == Operation.BR_LE:
            if x <= y:
                goal = load_i64(record + TARGET)
        elif operation == Operation.BR_E:
            if x == y:
                goal = load_i64(record + TARGET)
        elif operation == Operation.BR_NE:
            if x != y:
                goal = load_i64(record + TARGET)
        elif operation == Operation.BR_J:
            goal = load_i64(record + TARGET)
        elif operation == Operation.BR_FL:
            if float_of(x) < float_of(y):
                goal = load_i64(record + TARGET)
        elif operation == Operation.BR_FLE:
            if float_of(x) <= float_of(y):
                goal = load_i64(record + TARGET)
        elif operation == Operation.BR_FE:
            if float_of(x) == float_of(y):
                goal = load_i64(record + TARGET)
        elif operation == Operation.BR_FNE:
            if float_of(x) != float_of(y):
                goal = load_i64(record + TARGET)
        elif operation == Operation.BR_UL:
            if unsigned_less(x, y):
                goal = load_i64(record + TARGET)
        elif operation == Operation.BR_ULE:
            if not unsigned_less(y, x):
                goal = load_i64(record + TARGET)
        # --- integers -------------------------------------------------------------------------
        elif operation == Operation.MUL:
            z = x * y
        elif operation == Operation.DIV:
            if y == 0:
                stop = fault(state, TrapKind.DIVISION_BY_ZERO, -1)
            elif y == -1:
                z = -x
            else:
                z = quotient(x, y)
        elif operation == Operation.MOD:
            if y == 0:
                stop = fault(state, TrapKind.DIVISION_BY_ZERO, -1)
            elif y == -1:
                z = 0
            else:
                z = x - y * quotient(x, y)
        elif operation == Operation.UDIV:
            if y == 0:
                stop = fault(state, TrapKind.DIVISION_BY_ZERO, -1)
            else:
                z = unsigned_quotient(x, y)
        elif operation == Operation.UMOD:
            if y == 0:
                stop = fault(state, TrapKind.DIVISION_BY_ZERO, -1)
            else:
                z = unsigned_remainder(x, y)
        elif operation == Operation.AND:
            z = x & y
        elif operation == Operation.OR:
            z = x | y
        elif operation == Operation.XOR:
            z = x ^ y
        elif operation == Operation.SHL:
            z = x << (y & load_i64(record + EXTRA))
        elif operation == Operation.SHR:
            z = x >> (y & load_i64(record + EXTRA))
        elif operation == Operation.USHR:
            z = unsigned_shift(x, y & load_i64(record + EXTRA))
        elif operation == Operation.MIN:
            z = min(x, y)
        elif operation == Operation.MAX:
            z = max(x, y)
        elif operation == Operation.UMIN:
            z = x if unsigned_less(x, y) else y
        elif operation == Operation.UMAX:
            z = y if unsigned_less(x, y) else x
        elif operation == Operation.NOT:
            z = ~x
        elif operation == Operation.NEG:
            z = -x
        elif operation == Operation.ABS:
            z = -x if x < 0 else x
        # --- binary64 -------------------------------------------------------------------------
        elif operation == Operation.FADD:
            z = word_of(float_of(x) + float_of(y))
        elif operation == Operation.FSUB:
            z = word_of(float_of(x) - float_of(y))
        elif operation == Operation.FMUL:
            z = word_of(float_of(x) * float_of(y))
        elif operation == Operation.FDIV:
            z = word_of(float_of(x) / float_of(y))
        elif operation == Operation.FMIN:
            z = float_smaller(x, y)
        elif operation == Operation.FMAX:
            z = float_larger(x, y)
        elif operation == Operation.FSQRT:
            z = word_of(math.sqrt(float_of(x)))
        elif operation == Operation.FFLOOR:
            z = word_of(np.floor(float_of(x)))
        elif operation == Operation.FEXP:
            z = word_of(exp(float_of(x)))
        elif operation == Operation.FLOG:
            z = word_of(log(float_of(x)))
        # --- conversions ----------------------------------------------------------------------
        elif operation == Operation.S_TO_F:
            z = word_of(float(x))
        elif operation == Operation.U_TO_F:
            z = word_of(float_of_unsigned(x))
        elif operation == Operation.S_TO_FS:
            z = word_of(binary32_of_signed(x))
        elif operation == Operation.U_TO_FS:
            z = word_of(binary32_of_unsigned(x))
        elif operation == Operation.F_TO_S:
            z = signed_of_float(float_of(x))
        elif operation == Operation.F_TO_U:
            z = unsigned_of_float(float_of(x))
        elif operation == Operation.F_TO_NARROW:
            # B points to the bounds of the destination's type.
            z = narrow_of_float(float_of(x), y, load_i64(b + WORD_BYTES))
        # --- control --------------------------------------------------------------------------
        elif operation == Operation.BR_JI:
            goal = record_of(state, x)
            stop = state[Field.STOP]
        elif operation == Operation.EXIT:
            stop = Stop.ENDED
        elif operation == Operation.UNDECODED:
            state[Field.DECODE_PC] = load_i64(record + PC)
            stop = Stop.DECODE_WANTED
        elif operation == Operation.BAD:
            stop = fault(state, load_i64(record + EXTRA), load_i64(record + PC))
        elif COUNTS_ARRIVALS and operation == Operation.ARRIVAL:
            store_i64(a, x + 1)
            record = load_i64(record + NEXT)
            continue
        else:
            state[Field.RECORD] = record
            state[Field.INSTRUCTIONS] = count
            stop, goal = call(state, record, operation)
        if stop != 0:
            break
        if goal != 0:
            if goal < 0:
                stop = fault(state, TrapKind.BAD_JUMP, load_i64(record + EXTRA))
                break
            record = goal
            count += 1
            continue
        # --- the destination ------------------------------------------------------------------
        d = load_i64(record + D)
        if shape & DESTINATION == 0:
            store_i64(d, z)
        else:
            word = load_i64(record + D_WORD)
            if shape & (D_CHECKED | D_FAR):
                width = word >> NARROW_SHIFT
                if shape & D_FAR:
                    state[Field.RECORD] = record
                    state[Field.INSTRUCTIONS] = count
                    d = reach_load(state, d, WORD_BYTES, 2)
                    if d == 0:
                        break
                address = load_i64(d) + load_i64(record + D_OFFSET)
                d = VIEW + address
                flags = 0
                if 0 <= address < SR_END and (address & (PAGE_BYTES - 1)) + width <= PAGE_BYTES:
                    flags = load_u8(FLAGS + (address >> PAGE_SHIFT))
                if flags & TRACK:
                    mark(address, width)
                elif flags & WRITE == 0:
                    state[Field.RECORD] = record
                    state[Field.INSTRUCTIONS] = count
                    d = reach_store(state, address, width)
                    if d == 0:
                        break
            if shape & D_NARROW:
                store_word(d, word, z)
            else:
                store_i64(d, z)
        # Loaded last, so that it needs no place on the stack meanwhile: the way from record to
        # record is what limits the loop.
        record = load_i64(record + NEXT)
        count += 1
    state[Field.RECORD] = record
    state[Field.INSTRUCTIONS] = count
    if stop != 0:
        state[Field.STOP] = stop


@compiled
def execute_translated(state: State, end: int) -> None:
    """Go on at an entry of translated code, until INSTRUCTIONS is `end` or STOP is another reason.

    Translated code returns where it cannot go on: there the loop executes one instruction at least,
    from its own record, and then goes on until control comes to an entry again.
    """
    while state[Field.STOP] == Stop.NATIVE_WANTED:
        state[Field.STOP] = Stop.NONE
        record = state[Field.RECORD]
        before = state[Field.INSTRUCTIONS]
        pc = call_unit(
            load_i64(record + TARGET), state[Field.SELF], load_i64(record + EXTRA), end - before
        )
        state[Field.NATIVE_CALLS] += 1
        state[Field.NATIVE_INSTRUCTIONS] += state[Field.INSTRUCTIONS] - before
        record = load_i64(state[Field.RECORD_AT] + (pc - TEXT_START) * WORD_BYTES)
        left = end - state[Field.INSTRUCTIONS]
        if left > 0 and load_i64(record + OPERATION) == Operation.NATIVE:
            record = load_i64(record + NEXT)
        state[Field.RECORD] = record
        if left > 0:
            interpret(state, left)


@compiled
def interpret(state: State, fuel: int) -> None:
    """Execute as `execute` does, no more than LOOP_LEFT in all, and count what it was."""
    before = state[Field.INSTRUCTIONS]
    execute(state, min(fuel, state[Field.LOOP_LEFT]))
    state[Field.LOOP_LEFT] -= state[Field.INSTRUCTIONS] - before


@compiled
def advance(state: State, fuel: int) -> int:
    """Execute up to `fuel` instructions of the running attempt; a reason to stop, or 0."""
    state[Field.STOP] = Stop.NONE
    fuel_max = state[Field.FUEL_MAX]
    if fuel_max > 0:
        fuel = min(fuel, fuel_max - state[Field.INSTRUCTIONS])
        if fuel <= 0:
            fault(state, TrapKind.FUEL_EXHAUSTED, -1)
            return end_by_trap(state, load_i64(state[Field.RECORD] + PC), 0)
    end = state[Field.INSTRUCTIONS] + fuel
    interpret(state, fuel)
    stop = state[Field.STOP]
    if stop == Stop.NATIVE_WANTED:
        execute_translated(state, end)
        stop = state[Field.STOP]
    if stop == Stop.NONE:
        return 0
    record = state[Field.RECORD]
    if stop == Stop.ENDED:
        return end_by_exit(state, load_i64(record + PC), load_i64(record + EXTRA))
    if stop == Stop.SLEEPING:
        # The call is complete: the attempt goes on behind it.
        state[Field.RECORD] = load_i64(record + NEXT)
        state[Field.INSTRUCTIONS] += 1
        return stop
    give_back_stdin(state)
    if stop == Stop.TRAPPED:
        return end_by_trap(state, load_i64(record + PC), 1)
    return stop


@compiled
def run(state: State, fuel: int) -> int:
    """Execute up to `fuel` instructions of the batch; return why compiled code stopped.

    No more than LOOP_LEFT of them are executed here, the rest by translated code: whoever wants to
    see what is hot is asked where it is not translated, and translated code is never interrupted.
    """
    left = fuel
    stop = 0
    while stop == 0:
        phase = state[Field.PHASE]
        before = state[Field.INSTRUCTIONS]
        if phase == Phase.LEAVING:
            stop = leave(state)
            before = state[Field.INSTRUCTIONS]
        elif phase == Phase.NONE:
            if state[Field.CURSOR] == state[Field.ATTEMPT_COUNT]:
                stop = Stop.BATCH_DONE
            else:
                stop = enter(state)
                before = 0
        elif left <= 0 or state[Field.LOOP_LEFT] <= 0:
            stop = Stop.SLICE_ENDED
        else:
            stop = advance(state, left)
        left -= state[Field.INSTRUCTIONS] - before
    state[Field.EXECUTED] = fuel - left
    return stop


@compiled
def clear(state: State) -> None:
    """Undo every store of the running attempt, which has been copied, and clear its flags."""
    clear_view(state)


@compiled
def settle(state: State) -> int:
    """Make the running attempt independent of its batch, so that it may be copied; 0 if done."""
    return show_own_stack(state)


@compiled
def look(state: State, address: int, width: int) -> bool:
    """Return whether the running attempt may load and the view holds the bytes.

    Only for messages: no access is reported, and the fields that tell of the trap are kept.
    """
    reported = state[Field.RECORD] + REPORTED
    was_reported = load_i64(reported)
    undeclared = count_of(state, List.UNDECLARED)
    trap = state[Field.TRAP]
    trap_address = state[Field.TRAP_ADDRESS]
    shared_count_max = state[Field.SHARED_COUNT_MAX]
    state[Field.SHARED_COUNT_MAX] = 0
    is_there = touch_span(state, address, width, LOAD) == 0
    store_i64(reported, was_reported)
    set_count(state, List.UNDECLARED, undeclared)
    state[Field.TRAP] = trap
    state[Field.TRAP_ADDRESS] = trap_address
    state[Field.SHARED_COUNT_MAX] = shared_count_max
    return is_there
