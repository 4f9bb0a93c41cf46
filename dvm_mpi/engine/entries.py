"""The compiled loop as Python calls it: the declaration of this package's one library.

What stands behind these names is in loop.py, which only the compiler imports: numba is not loaded
where programs run (see native/library.py).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from dvm_mpi.engine.page_cache import Fill
from dvm_mpi.engine.state import State
from dvm_mpi.native.library import Library

_LOOP: Final = "dvm_mpi.engine.loop"
_FILLING: Final = "dvm_mpi.engine.filling"

#: The modules that the loop and `filling` import, themselves included: what the compiled code
#: depends on. What Python does around it may change without a word to the compiler.
SOURCES: Final = tuple(
    Path(__file__).with_name(f"{module}.py")
    for module in (
        "access", "address_space", "calls", "compiled", "conversion", "elementary", "filling",
        "interface", "lifetime", "lists", "loads", "loop", "machine_words", "page_flags", "records",
        "stacks", "state", "widening",
    )
)  # fmt: skip

LIBRARY: Final = Library(
    "interpreter",
    declared_in=__name__,
    modules=[_LOOP, _FILLING],
    sources=SOURCES,
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
