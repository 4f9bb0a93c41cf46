"""Libraries of compiled functions: what is declared in Python, loaded when first called.

A module that is compiled declares a `Library`; its functions are *kernels*, which compiled code
calls, and *entries*, which Python calls. Loading needs neither numba nor a compiler: the code is a
shared library in the cache (store.py). Where it is missing, the first call compiles it and waits;
who must not wait (a rank that serves others) has it compiled beforehand (compilation.py).
The invariant to remember: arrays are passed by their header and checked there, so an entry either
gets what its signature says or raises `AssertionError` and has done nothing.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from dvm_mpi.native import headers, store
from dvm_mpi.native.compilation import Compilation, Target

Function = TypeVar("Function", bound=Callable[..., Any])

_SIGNATURE: Final = re.compile(r"(void|int64|boolean)\((.*)\)")
_PARAMETER: Final = re.compile(r"(?:int64|uint8|boolean)\[(?:: ?, )*::1\]|int64")
_RESULTS: Final[dict[str, Any]] = {
    "void": ctypes.c_int64,
    "int64": ctypes.c_int64,
    "boolean": ctypes.c_bool,
}


class Entry:
    """A compiled function that Python calls, with integers and arrays, on one thread at a time.

    `signature` is written as numba writes it, for example "int64(int64[:, ::1], int64)".
    """

    def __init__(self, library: Library, module: str, name: str, signature: str) -> None:
        matched = _SIGNATURE.fullmatch(signature)
        assert matched, signature
        self.module = module
        self.name = name
        self.signature = signature
        #: The signature's parts: the result, and the parameters in order.
        self.result = matched[1]
        self.parameters = _PARAMETER.findall(matched[2])
        assert ", ".join(self.parameters) == matched[2], signature
        self._library = library
        self._call: Callable[..., Any] = self._load_and_call

    @property
    def symbol(self) -> str:
        """The function's name in the library."""
        return f"dvm_{self.module.rpartition('.')[2]}_{self.name}"

    def __call__(self, *arguments: Any) -> Any:
        """Call the function, which is loaded if it has not been."""
        return self._call(*arguments)

    def _load_and_call(self, *arguments: Any) -> Any:
        self._call = self._bind(self._library.address_of(self.symbol))
        return self._call(*arguments)

    def _bind(self, address: int) -> Callable[..., Any]:
        """Make a Python function of the compiled one.

        Compiled functions follow numba's convention: the result goes to a place that is given, as
        does the description of an error, and what is returned is 0 if all went well.
        """
        are_arrays = tuple("[" in parameter for parameter in self.parameters)
        native = _prototype(are_arrays)(address)
        result = _RESULTS[self.result]()
        error = ctypes.c_void_p()
        result_at, error_at = ctypes.addressof(result), ctypes.addressof(error)
        # `error_at` is good as long as `error` is: both live as long as the function below.
        kept = (result, error)
        is_void = self.result == "void"
        count = len(are_arrays)

        def call(*arguments: Any) -> Any:
            # Left to itself, ctypes passes on whatever comes after the last parameter.
            if len(arguments) != count or native(result_at, error_at, *arguments):
                shown = ", ".join(map(_shown, arguments))
                raise AssertionError(f"{self.name}({shown}) is not {self.signature}, or failed")
            return None if is_void else kept[0].value

        return call


@cache
def _prototype(are_arrays: tuple[bool, ...]) -> Callable[[int], Callable[..., int]]:
    """Return what makes a Python function of the address of one with these parameters."""
    types: list[Any] = [ctypes.py_object if each else ctypes.c_int64 for each in are_arrays]
    return ctypes.PYFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *types)


def _shown(argument: Any) -> str:
    dtype = getattr(argument, "dtype", None)
    return repr(argument) if dtype is None else f"{dtype}{list(argument.shape)}"


class Library:
    """Functions that are compiled together into one file.

    `declared_in` is the module that holds this library under the name LIBRARY; `modules` are those
    that hold the functions; `sources`, all files whose change changes the code.
    `counts_forwards`: no index of an array is negative, so none has to be looked at.
    """

    def __init__(
        self,
        name: str,
        declared_in: str,
        modules: Iterable[str],
        sources: Iterable[Path],
        *,
        counts_forwards: bool = False,
    ) -> None:
        self.name = name
        self.declared_in = declared_in
        self.modules = tuple(modules)
        self.sources = tuple(sources)
        self.counts_forwards = counts_forwards
        #: Of the modules that have been imported.
        self.kernels: list[Callable[..., Any]] = []
        self.entries: list[Entry] = []
        #: Functions behind entries, where Python has them.
        self.functions: dict[str, Callable[..., Any]] = {}

    @cached_property
    def target(self) -> Target:
        """The file that holds the compiled code, or will."""
        stem = store.choose_folder().path / f"dvm-{self.name}-{store.digest_of(self.sources)}"
        return Target(self.name, self.declared_in, stem)

    # --- declarations -------------------------------------------------------------------------
    def kernel(self, function: Function) -> Function:
        """Declare a function that other functions of the library call."""
        self.kernels.append(function)
        return function

    def entry(self, signature: str) -> Callable[[Function], Function]:
        """Declare a function that Python calls; see `Entry`."""

        def declare(function: Function) -> Function:
            declared = self.entry_of(function.__module__, function.__name__, signature)
            self.functions[declared.symbol] = function
            return cast("Function", declared)

        return declare

    def entry_of(self, module: str, name: str, signature: str) -> Entry:
        """Declare a function of a module that only the compiler imports."""
        declared = Entry(self, module, name, signature)
        self.entries.append(declared)
        return declared

    # --- compiled code ------------------------------------------------------------------------
    def address_of(self, symbol: str) -> int:
        """Return where a compiled function is; the library is compiled and loaded if need be."""
        return self._find(symbol)

    @cached_property
    def _find(self) -> Callable[[str], int]:
        headers.check()
        _show_mathematics()
        if self.target.path is None:
            Compilation([self.target]).wait()
        path = self.target.path
        assert path is not None, "compiled, but not there"
        return _open_shared(path) if path.suffix == store.SHARED else _open_object(path)


def _show_mathematics() -> None:
    """Have the square root where libraries look for it; Python itself usually sees to that."""
    if not hasattr(ctypes.CDLL(None), "sqrt"):
        ctypes.CDLL("libm.so.6", mode=ctypes.RTLD_GLOBAL)


def _open_shared(path: Path) -> Callable[[str], int]:
    library = ctypes.PyDLL(str(path))

    def find(symbol: str) -> int:
        address = ctypes.cast(library[symbol], ctypes.c_void_p).value
        assert address is not None, symbol
        return address

    return find


def _open_object(path: Path) -> Callable[[str], int]:
    """Load an object file: slower, and only where the compiler found no linker."""
    from llvmlite import binding  # noqa: PLC0415, most runs never need it

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine()
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
    engine.add_object_file(binding.ObjectFileRef.from_path(str(path)))
    engine.finalize_object()

    def find(symbol: str) -> int:
        address: int = engine.get_function_address(symbol)
        assert address, symbol
        return address

    return find
