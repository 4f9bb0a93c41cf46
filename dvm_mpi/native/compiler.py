"""The compiler: from Python functions, through numba, to one library of native code.

Runs in a process of its own (`python -m dvm_mpi.native`), so that numba is never loaded where
programs run. The code may call a few functions of the C library and nothing else: no Python, no
allocation, no output. So a library works in any process, and loads in a millisecond.
"""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numba
from llvmlite import binding
from numba import types
from numba.core import sigutils
from numba.core.dispatcher import Dispatcher
from numba.core.registry import cpu_target
from numba.cpython import slicing
from numba.extending import intrinsic
from numba.np import arrayobj, numpy_support

from dvm_mpi.native import headers, linking
from dvm_mpi.native.library import Entry, Library

#: Lower than the ranks', which go on serving meanwhile.
_NICENESS: Final = 5
_WORD_BYTES: Final = 8
_OPTIONS: Final[dict[str, Any]] = {
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "_nrt": False,
}


def main(arguments: list[str]) -> None:
    """Build the library that the module `arguments[0]` declares, as the file `arguments[1]`."""
    module, stem = arguments
    os.nice(_NICENESS)
    library: Library = importlib.import_module(module).LIBRARY
    linking.write(emit(library), Path(stem))


# --- from Python to an object file -------------------------------------------------------------


def _view_maker(array: Any) -> Any:
    """Return what makes, in compiled code, an array of a type from an array object's address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = context.get_value_type(types.int64)

        def words_at(address: Any) -> Callable[[int], Any]:
            start = builder.inttoptr(address, word.as_pointer())
            return lambda index: builder.load(builder.gep(start, [word(index)]))

        header = words_at(args[0])
        shape = words_at(header(headers.SHAPE))
        lengths = [shape(axis) for axis in range(array.ndim)]
        item_bytes = context.get_abi_sizeof(context.get_data_type(array.dtype))
        strides = [word(item_bytes)]
        for length in reversed(lengths[1:]):
            strides.insert(0, builder.mul(length, strides[0]))
        view = context.make_array(array)(context, builder)
        data = builder.inttoptr(header(headers.DATA), view.data.type)
        arrayobj.populate_array(view, data, lengths, strides, item_bytes, meminfo=None)
        return view._getvalue()

    def typed(typingctx: Any, address: Any) -> Any:
        return array(types.int64), codegen

    return intrinsic(typed)


@intrinsic
def _word_at(typingctx: Any, address: Any) -> Any:
    """Return the word at an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], args[0].type.as_pointer()))

    return types.int64(types.int64), codegen


@numba.njit(**_OPTIONS)
def _check(address: int, ndim: int, number: int) -> None:
    """Assert that an array object has the dimensions and the type that it should have."""
    flags = _word_at(address + _WORD_BYTES * headers.FLAGS)
    assert flags & headers.FLAGS_NEEDED == headers.FLAGS_NEEDED
    assert _word_at(address + _WORD_BYTES * headers.NDIM) & headers.LOW_HALF == ndim
    description = _word_at(address + _WORD_BYTES * headers.DESCRIPTION)
    kind = _word_at(description + _WORD_BYTES * headers.TYPE)
    assert kind >> headers.HALF_BITS == number
    assert kind >> headers.ORDER_SHIFT & headers.ORDER_MASK != headers.SWAPPED


def _function_of(entry: Entry, function: Dispatcher) -> Any:
    """Return what Python calls: takes array objects by address, passes arrays on."""
    argument_types, result = sigutils.normalize_signature(entry.signature)
    names = [f"a{position}" for position in range(len(argument_types))]
    scope: dict[str, Any] = {"function": function, "check": _check}
    checks, passed = [], []
    for name, argument in zip(names, argument_types, strict=True):
        if isinstance(argument, types.Array):
            number = numpy_support.as_dtype(argument.dtype).num
            checks.append(f"    check({name}, {argument.ndim}, {number})\n")
            scope[f"view_{name}"] = _view_maker(argument)
            passed.append(f"view_{name}({name})")
        else:
            passed.append(name)
    source = (
        f"def entry({', '.join(names)}):\n{''.join(checks)}"
        f"    return function({', '.join(passed)})\n"
    )
    exec(source, scope)
    dispatcher = numba.njit(**_OPTIONS)(scope["entry"])
    dispatcher.compile((types.int64,) * len(names))
    (compiled,) = dispatcher.overloads.values()
    returned = compiled.signature.return_type
    assert returned == result, f"{entry.name} returns {returned}, not {result}"
    return compiled


def _compile_kernels(library: Library) -> None:
    """Replace the library's Python functions, in all its modules, by compiled ones."""
    compiled: dict[int, Any] = {}

    def compiled_of(function: Callable[..., Any]) -> Any:
        return compiled.setdefault(id(function), numba.njit(**_OPTIONS)(function))

    modules = [importlib.import_module(name) for name in library.modules]
    kernels = {id(function) for function in library.kernels}
    for module in modules:
        for name, value in list(vars(module).items()):
            if isinstance(value, Entry) and value.symbol in library.functions:
                setattr(module, name, compiled_of(library.functions[value.symbol]))
            elif id(value) in kernels:
                setattr(module, name, compiled_of(value))


class _NothingRuns:
    """Stands where numba would make code executable.

    Nothing that is compiled here is run. And to make a function executable rewrites it in place,
    while its callers are still to take it in: the loop was a tenth slower for that.
    """

    def __init__(self) -> None:
        self._place = ctypes.c_int64()

    def add_module(self, module: Any) -> None:
        """Take a finished module; do nothing."""

    def finalize_object(self) -> None:
        """Make all modules executable; do nothing."""

    def is_symbol_defined(self, name: str) -> bool:
        """Tell that a symbol has no place."""
        return False

    def get_function_address(self, name: str) -> int:
        """Return the address of a function that will not be called."""
        return 0

    def get_global_value_address(self, name: str) -> int:
        """Return the address of a pointer to an environment, which nobody reads."""
        return ctypes.addressof(self._place)


@contextmanager
def _without_execution() -> Iterator[None]:
    codegen = cpu_target.target_context.codegen()
    engine = codegen._engine
    codegen._engine = _NothingRuns()
    try:
        yield
    finally:
        codegen._engine = engine


@contextmanager
def _counting_forwards(library: Library) -> Iterator[None]:
    """Let indices count from the front only, if the library says that its indices do.

    Else each index is looked at, and the length added to negative ones. It takes three instructions
    where one would do, and hides from LLVM that neighbours lie beside each other: entering ranges
    into the map of last writers took twice as long.
    """
    usual = slicing.fix_index
    if library.counts_forwards:
        slicing.fix_index = lambda builder, index, size: index
    try:
        yield
    finally:
        slicing.fix_index = usual


def emit(library: Library) -> bytes:
    """Compile a library; return it as an object file."""
    with _without_execution(), _counting_forwards(library):
        whole = _link(library)
    # Blocks that are jumped to begin at a multiple of 32 bytes, and jump tables hold differences
    # of 64 bits (the large code model): the loop takes 2.05 ns for an instruction of jobs/primes,
    # and 2.8 ns without either.
    binding.set_option("dvm", "-align-all-nofallthru-blocks=5")
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="large",
    )
    emitted: bytes = machine.emit_object(whole)
    linking.check(emitted)
    return emitted


def _link(library: Library) -> Any:
    """Return all entries of a library, and what they need, as one module."""
    _compile_kernels(library)
    whole = binding.parse_assembly("")
    for entry in library.entries:
        function = getattr(importlib.import_module(entry.module), entry.name)
        compiled = _function_of(entry, function)
        part = binding.parse_assembly(compiled.library.get_llvm_str())
        part.get_function(compiled.fndesc.llvm_func_name).name = entry.symbol
        whole.link_in(part)
    _keep_only(whole, {entry.symbol for entry in library.entries})
    return whole


def _keep_only(module: Any, symbols: set[str]) -> None:
    """Drop what the functions `symbols` do not need."""
    for value in (*module.functions, *module.global_variables):
        if not value.is_declaration and value.name not in symbols:
            value.linkage = "internal"
    machine = binding.Target.from_default_triple().create_target_machine()
    builder = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options())
    passes = binding.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, builder)
