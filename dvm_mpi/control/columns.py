"""Tables of int64 as few bytes: columns that count regularly are a base and a stride.

Runners that one loop creates have equal entries and sizes, and ids and stacks at equal distances.
Of such a column only two words travel, whatever its length; of another one the distances from its
smallest value, as narrow as they fit. Exact for every table. Knows nothing of what columns mean.

The form: `row_count`, `column_count` (int64); the width of each column (one byte each, filled up to
whole words); base and stride of each column; then for each width, 1, 2, 4 and 8 bytes, the columns
that have it, column after column, filled up to whole words.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import PACKED_ROWS_MAX, PACKED_ROWS_MIN
from dvm_mpi.control import column_loops
from dvm_mpi.control.column_loops import CUT_OFF, HEADER_WORDS, PLAN_ROWS

Bytes = NDArray[np.uint8]
Table = NDArray[np.int64]

_WORD: Final = np.dtype("<i8")


class ColumnsError(AssertionError):
    """Bytes that `pack` does not make."""


def pack(table: Table) -> Bytes | None:
    """Return a table as bytes, whole words and fewer of them; None if that would save nothing.

    `table`: (row_count, column_count), contiguous rows.
    """
    row_count, column_count = table.shape
    if not PACKED_ROWS_MIN <= row_count <= PACKED_ROWS_MAX:
        return None
    plan = np.empty((PLAN_ROWS, column_count), np.int64)
    end = column_loops.lay_out(table, plan)
    if end == CUT_OFF:
        return None
    words = np.zeros(end, np.int64)
    content = words.view(np.uint8)
    column_loops.write(table, plan, words, content)
    return content


def unpack(packed: Bytes) -> Table:
    """Undo `pack`: a table of the caller's own.

    Raises
    ------
    ColumnsError
        The bytes are none that `pack` makes.
    """
    if packed.size % _WORD.itemsize or packed.size < HEADER_WORDS * _WORD.itemsize:
        raise ColumnsError("a table without a header")
    words = packed.view(_WORD)
    row_count, column_count = words[:HEADER_WORDS].tolist()
    if not 0 < row_count <= PACKED_ROWS_MAX or not 0 < column_count <= words.size:
        raise ColumnsError(f"a table of {row_count} rows and {column_count} columns")
    table = np.empty((row_count, column_count), np.int64)
    plan = np.empty((PLAN_ROWS, column_count), np.int64)
    end = column_loops.read(table, plan, words, packed)
    if end == CUT_OFF:
        raise ColumnsError("a table whose columns or rows are cut off")
    if end != words.size:
        raise ColumnsError("a table with widths or bytes that are none")
    return table
