"""Which loops of the coordinator are compiled: the declaration of its one library.

As in `dsm/kernels.py`: free functions on arrays and integers that allocate nothing, and use no
negative index. They see tables as words, a row of int64 for each record (`dsm.rows`), and count
columns by the names below.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dvm_mpi.native.library import Library

_FOLDER: Final = Path(__file__).parent
_MODULES: Final = (
    "birth_loops", "column_loops", "instance_loops", "record_loops", "row_loops",
)  # fmt: skip
#: Where records of outcomes and tokens are described.
_INTERFACES: Final = (
    _FOLDER.parent / "engine" / "interface.py",
    _FOLDER.parent / "dsm" / "messages.py",
)

LIBRARY: Final = Library(
    "coordinator",
    declared_in=__name__,
    modules=[f"dvm_mpi.control.{name}" for name in _MODULES],
    sources=[
        *(_FOLDER / f"{name}.py" for name in (*_MODULES, "messages", "kernels")),
        *_INTERFACES,
    ],
    counts_forwards=True,
)

kernel = LIBRARY.kernel
entry_kernel = LIBRARY.entry
