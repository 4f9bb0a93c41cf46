"""The loop that counts, as Python calls it: a library that only profiles need; see entries.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from dvm_mpi.engine.entries import SOURCES
from dvm_mpi.engine.page_cache import Fill
from dvm_mpi.engine.state import State
from dvm_mpi.native.library import Library

_LOOP: Final = "dvm_mpi.engine.counting_loop"
_FILLING: Final = "dvm_mpi.engine.filling"

LIBRARY: Final = Library(
    "profiling-interpreter",
    declared_in=__name__,
    modules=[_LOOP, _FILLING],
    sources=[*SOURCES, Path(__file__).with_name("counting_loop.py")],
)

#: See the functions of the same names in loop.py.
run: Callable[[State, int], int] = LIBRARY.entry_of(_LOOP, "run", "int64(int64[::1], int64)")
clear: Callable[[State], None] = LIBRARY.entry_of(_LOOP, "clear", "void(int64[::1])")
settle: Callable[[State], int] = LIBRARY.entry_of(_LOOP, "settle", "int64(int64[::1])")
look: Callable[[State, int, int], bool] = LIBRARY.entry_of(
    _LOOP, "look", "boolean(int64[::1], int64, int64)"
)
#: See filling.py.
fill: Fill = LIBRARY.entry_of(
    _FILLING, "fill", "int64(int64[::1], int64[::1], int64[::1], int64[::1], int64, int64)"
)
