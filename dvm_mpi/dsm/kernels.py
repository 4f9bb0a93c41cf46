"""Which loops of this package are compiled: the declaration of its one library.

A kernel is a free function on arrays and integers; an entry is one that Python calls, with arrays
in C order (see native/library.py). Kernels allocate nothing and return integers or nothing; no
index that they use is negative.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dvm_mpi.native.library import Library

_FOLDER: Final = Path(__file__).parent
_MODULES: Final = (
    "byte_copy", "dividing", "hashing", "holders", "last_writers", "moves", "page_loops",
    "range_leaves", "watch_tree",
)  # fmt: skip
#: Where constants in kernels come from.
_CONSTANTS: Final = ("messages",)

LIBRARY: Final = Library(
    "shared-memory",
    declared_in=__name__,
    modules=[f"dvm_mpi.dsm.{name}" for name in _MODULES],
    sources=[_FOLDER / f"{name}.py" for name in (*_MODULES, *_CONSTANTS, "kernels")],
    counts_forwards=True,
)

kernel = LIBRARY.kernel
entry_kernel = LIBRARY.entry
