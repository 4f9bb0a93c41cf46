"""Loads, stores and bulk operations on raw host addresses, for compiled code.

The view of memory is a reservation at a fixed address, not a numpy array that numba could index
with these widths and without alignment. Each function here is one LLVM instruction or one call.
Nothing is checked: the caller has made sure that the address may be touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from dvm_mpi.layout import PAGE_BYTES

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32, _F64 = ir.FloatType(), ir.DoubleType()
Loader: TypeAlias = Callable[[int], int]
Storer: TypeAlias = Callable[[int, int], None]
Binary: TypeAlias = Callable[[int, int], int]

#: Values of madvise's MADV_DONTNEED and MADV_POPULATE_WRITE on Linux.
_MADV_DONTNEED = 4
_MADV_HUGEPAGE = 14
_MADV_NOHUGEPAGE = 15
_MADV_POPULATE_WRITE = 23
#: What `stream_page` moves at a time: a line of the processor's caches.
_LINE = ir.VectorType(_I64, 8)
_LINE_BYTES = 64
#: How far ahead of its loads `stream_page` asks for bytes: processors that do so by themselves stop
#: at each page's end, and put them into caches where they are never looked for.
_ASKED_AHEAD_BYTES = 256


def _pointer(builder: Any, address: Any, element: Any) -> Any:
    return builder.inttoptr(address, element.as_pointer())


def _loader(element: Any, widen: Callable[[Any, Any], Any], result: Any) -> Any:
    """Make an intrinsic that loads `element` and widens it to `result`."""

    def typed(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            loaded = builder.load(_pointer(builder, args[0], element))
            loaded.align = 1
            return widen(builder, loaded)

        return result(types.int64), codegen

    return intrinsic(typed)


def _storer(element: Any, cut: Callable[[Any, Any], Any], source: Any) -> Any:
    """Make an intrinsic that cuts a value of type `source` to `element` and stores it."""

    def typed(typingctx: Any, address: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            pointer = _pointer(builder, args[0], element)
            builder.store(cut(builder, args[1]), pointer).align = 1
            return context.get_dummy_value()

        return types.void(types.int64, source), codegen

    return intrinsic(typed)


def _zero_extended(builder: Any, value: Any) -> Any:
    return builder.zext(value, _I64)


def _sign_extended(builder: Any, value: Any) -> Any:
    return builder.sext(value, _I64)


def _as_is(builder: Any, value: Any) -> Any:
    return value


#: `load_X(address)`: the value at a host address, widened to int64.
load_i64: Loader = _loader(_I64, _as_is, types.int64)
load_i32: Loader = _loader(_I32, _sign_extended, types.int64)
load_u32: Loader = _loader(_I32, _zero_extended, types.int64)
load_i16: Loader = _loader(_I16, _sign_extended, types.int64)
load_u16: Loader = _loader(_I16, _zero_extended, types.int64)
load_i8: Loader = _loader(_I8, _sign_extended, types.int64)
load_u8: Loader = _loader(_I8, _zero_extended, types.int64)
#: The binary32 value at a host address, exact in binary64.
load_f32: Callable[[int], float] = _loader(
    _F32, lambda builder, value: builder.fpext(value, _F64), types.float64
)

#: `store_X(address, value)`: the low bits of an int64 to a host address.
store_i64: Storer = _storer(_I64, _as_is, types.int64)
store_i32: Storer = _storer(_I32, lambda builder, value: builder.trunc(value, _I32), types.int64)
store_i16: Storer = _storer(_I16, lambda builder, value: builder.trunc(value, _I16), types.int64)
store_i8: Storer = _storer(_I8, lambda builder, value: builder.trunc(value, _I8), types.int64)
#: A binary64 value rounded once to binary32.
store_f32: Callable[[int, float], None] = _storer(
    _F32, lambda builder, value: builder.fptrunc(value, _F32), types.float64
)


def _conversion(source: Any, target: Any, element: Any) -> Any:
    """Make an intrinsic that reads the bits of one type as another's."""

    def typed(typingctx: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], element)

        return target(source), codegen

    return intrinsic(typed)


#: Binary64 values and their bits.
float_of: Callable[[int], float] = _conversion(types.int64, types.float64, _F64)
bits_of: Callable[[float], int] = _conversion(types.float64, types.int64, _I64)


def _binary(emit: Callable[[Any, Any, Any], Any], result: Any = types.int64) -> Any:
    """Make an intrinsic of two int64s."""

    def typed(typingctx: Any, left: Any, right: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return emit(builder, args[0], args[1])

        return result(types.int64, types.int64), codegen

    return intrinsic(typed)


#: Division that truncates toward zero; the divisor is neither 0 nor -1.
quotient: Binary = _binary(lambda builder, a, b: builder.sdiv(a, b))
#: Operations on int64s whose bits are read as unsigned numbers; the divisor is not 0.
unsigned_quotient: Binary = _binary(lambda builder, a, b: builder.udiv(a, b))
unsigned_remainder: Binary = _binary(lambda builder, a, b: builder.urem(a, b))
#: The count is below 64.
unsigned_shift: Binary = _binary(lambda builder, a, b: builder.lshr(a, b))
unsigned_less: Callable[[int, int], bool] = _binary(
    lambda builder, a, b: builder.icmp_unsigned("<", a, b), types.boolean
)


def _bulk(emit: Callable[[Any, Any], None], argument_count: int) -> Any:
    """Make an intrinsic that does something to bytes at host addresses."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit(builder, args)
        return context.get_dummy_value()

    signature = types.void(*(types.int64,) * argument_count)

    def typed2(typingctx: Any, first: Any, second: Any) -> Any:
        return signature, codegen

    def typed3(typingctx: Any, first: Any, second: Any, third: Any) -> Any:
        return signature, codegen

    return intrinsic(typed2 if argument_count == 2 else typed3)  # noqa: PLR2004


def _typed_call(
    typingctx: Any, function: Any, state: Any, entry: Any, fuel: Any
) -> tuple[Any, Callable[..., Any]]:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        unit = builder.inttoptr(args[0], ir.FunctionType(_I64, (_I64,) * 3).as_pointer())
        return builder.call(unit, args[1:])

    return types.int64(*(types.int64,) * 4), codegen


#: `call_unit(function, state, entry, fuel)`: enter translated code at one of its entries; returns
#: the DISA address at which the loop goes on.
call_unit: Callable[[int, int, int, int], int] = intrinsic(_typed_call)


def _emit_copy(builder: Any, args: Any) -> None:
    target, source = (_pointer(builder, a, _I8) for a in args[:2])
    cgutils.raw_memcpy(builder, target, source, args[2], 1)


def _emit_clear(builder: Any, args: Any) -> None:
    cgutils.memset(builder, _pointer(builder, args[0], _I8), args[1], 0)


def _emit_stream_page(builder: Any, args: Any) -> None:
    passing_by = builder.module.add_metadata([ir.Constant(_I32, 1)])
    prefetch_type = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
    prefetch = builder.module.declare_intrinsic("llvm.prefetch", [_I8.as_pointer()], prefetch_type)
    # To be loaded, to be used once, into the caches of data.
    how = [ir.Constant(_I32, choice) for choice in (0, 0, 1)]
    with cgutils.for_range(builder, ir.Constant(_I64, PAGE_BYTES // _LINE_BYTES)) as loop:
        offset = builder.mul(loop.index, ir.Constant(_I64, _LINE_BYTES))
        line = builder.add(args[1], offset)
        ahead = builder.add(line, ir.Constant(_I64, _ASKED_AHEAD_BYTES))
        builder.call(prefetch, [_pointer(builder, ahead, _I8), *how])
        taken = builder.load(_pointer(builder, line, _LINE))
        taken.align = 1
        stored = builder.store(taken, _pointer(builder, builder.add(args[0], offset), _LINE))
        stored.align = _LINE_BYTES
        stored.set_metadata("nontemporal", passing_by)


def _advice(number: int) -> Callable[[Any, Any], None]:
    """Return what emits `madvise` of an address and a length."""

    def emit(builder: Any, args: Any) -> None:
        madvise_type = ir.FunctionType(_I32, [_I8.as_pointer(), _I64, _I32])
        madvise = cgutils.get_or_insert_function(builder.module, madvise_type, "madvise")
        place = _pointer(builder, args[0], _I8)
        builder.call(madvise, [place, args[1], ir.Constant(_I32, number)])

    return emit


#: `copy(target, source, length)`: bytes between host addresses that do not overlap.
copy: Callable[[int, int, int], None] = _bulk(_emit_copy, 3)
#: `clear(address, length)`: set bytes to zero.
clear: Callable[[int, int], None] = _bulk(_emit_clear, 2)
#: `release(address, length)`: give whole pages back; they read as zero from now on.
release: Callable[[int, int], None] = _bulk(_advice(_MADV_DONTNEED), 2)
#: `populate(address, length)`: have memory for whole pages that will all be written, at less than
#: half the cost of touching each; a hint.
populate: Callable[[int, int], None] = _bulk(_advice(_MADV_POPULATE_WRITE), 2)
#: `prefer_huge(address, length)`, `prefer_small(address, length)`: which pages of the processor
#: memory is made of that is touched from now on; a hint.
prefer_huge: Callable[[int, int], None] = _bulk(_advice(_MADV_HUGEPAGE), 2)
prefer_small: Callable[[int, int], None] = _bulk(_advice(_MADV_NOHUGEPAGE), 2)
#: `stream_page(target, source)`: copy a page past the processor's caches; `target` is a page.
stream_page: Callable[[int, int], None] = _bulk(_emit_stream_page, 2)
