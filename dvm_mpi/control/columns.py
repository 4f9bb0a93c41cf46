"""Tables of int64 as few bytes: columns that count regularly are a base and a stride.

Runners that one loop creates have equal entries and sizes, and ids and stacks at equal distances.
Of such a column only two words travel, whatever its length; of another one the distances from its
smallest value, as narrow as they fit. Exact for every table. Knows nothing of what columns mean.

The form: `row_count`, `column_count` (int64); the width of each column (one byte each, filled up to
whole words); base and stride of each column; then for each width, 1, 2, 4 and 8 bytes, the columns
that have it, column after column, filled up to whole words.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import PACKED_ROWS_MAX, PACKED_ROWS_MIN

Bytes = NDArray[np.uint8]
Table = NDArray[np.int64]

_WORD: Final = np.dtype("<i8")
#: What columns are kept as that do not count regularly, by width; distances wrap around.
_NARROW: Final[dict[int, np.dtype[Any]]] = {width: np.dtype(f"<u{width}") for width in (1, 2, 4, 8)}
_WIDTHS: Final = np.array([1, 2, 4, 8], np.uint8)
#: The largest distances that fit into all widths but the last.
_REACHES: Final = np.array([0xFF, 0xFFFF, 0xFFFF_FFFF], np.uint64)
#: Row and column count.
_HEADER_WORDS: Final = 2
#: Rows that are looked at as one long row.
_ROWS_AT_ONCE: Final = 32
#: Base and stride.
_COLUMN_WORDS: Final = 2


class ColumnsError(AssertionError):
    """Bytes that `pack` does not make."""


def pack(table: Table) -> Bytes | None:
    """Return a table as bytes, whole words; None if that would save nothing.

    `table`: (row_count, column_count), contiguous rows.
    """
    row_count, column_count = table.shape
    if not PACKED_ROWS_MIN <= row_count <= PACKED_ROWS_MAX:
        return None
    bases, strides = table[0].copy(), table[1] - table[0]
    widths = np.zeros(_up_to_words(column_count), np.uint8)
    parts: list[Bytes] = []
    others = _irregular(table)
    if len(others):
        values = np.ascontiguousarray(table[:, others].T)
        lows = values.min(axis=1)
        reaches = (values.max(axis=1) - lows).view(np.uint64)
        own = _WIDTHS[np.searchsorted(_REACHES, reaches)]
        bases[others], strides[others], widths[others] = lows, 0, own
        if own.min() == _WORD.itemsize and len(others) == column_count:
            return None
        parts = [_narrowed(values, lows, own, width) for width in _NARROW if (own == width).any()]
    header = np.concatenate([[row_count, column_count], widths.view(_WORD), bases, strides])
    return np.concatenate([header.view(np.uint8), *parts])


def _irregular(table: Table) -> NDArray[np.intp]:
    """Return the columns whose steps from row to row are not all the same."""
    column_count = table.shape[1]
    # Over all words in one go: numpy is slow where rows are as short as these.
    words = table.reshape(-1)
    steps = words[column_count:] - words[:-column_count]
    changes = steps[column_count:] ^ steps[:-column_count]
    if not changes.any():
        return np.flatnonzero([])
    rows = len(changes) // column_count
    whole = rows - rows % _ROWS_AT_ONCE
    first = changes[: whole * column_count].reshape(-1, _ROWS_AT_ONCE * column_count)
    joined = np.bitwise_or.reduce(first, axis=0)
    rest = np.concatenate([joined, changes[whole * column_count :]])
    return np.flatnonzero(np.bitwise_or.reduce(rest.reshape(-1, column_count), axis=0))


def _narrowed(values: Table, lows: Table, widths: Bytes, width: int) -> Bytes:
    """Return the columns of one width (as rows here), filled up to whole words."""
    chosen = widths == width
    distances = values[chosen] - lows[chosen][:, np.newaxis]
    content = distances.astype(_NARROW[width]).reshape(-1).view(np.uint8)
    return np.concatenate([content, np.zeros(-content.size % _WORD.itemsize, np.uint8)])


def unpack(packed: Bytes) -> Table:
    """Undo `pack`: a table of the caller's own.

    Raises
    ------
    ColumnsError
        The bytes are none that `pack` makes.
    """
    if packed.size % _WORD.itemsize or packed.size < _HEADER_WORDS * _WORD.itemsize:
        raise ColumnsError("a table without a header")
    words = packed.view(_WORD)
    row_count, column_count = words[:_HEADER_WORDS].tolist()
    if not 0 < row_count <= PACKED_ROWS_MAX or not 0 < column_count <= words.size:
        raise ColumnsError(f"a table of {row_count} rows and {column_count} columns")
    width_words = _up_to_words(column_count) // _WORD.itemsize
    end = _HEADER_WORDS + width_words + _COLUMN_WORDS * column_count
    if end > words.size:
        raise ColumnsError("a table whose columns are cut off")
    widths = words[_HEADER_WORDS : _HEADER_WORDS + width_words].view(np.uint8)[:column_count]
    bases = words[end - 2 * column_count : end - column_count]
    strides = words[end - column_count : end]
    table = _regular(row_count, bases, strides)
    position = end * _WORD.itemsize
    known = widths == 0
    for width, narrow in _NARROW.items():
        own = np.flatnonzero(widths == width)
        if len(own) == 0:
            continue
        known[own] = True
        length = len(own) * row_count * width
        if length > packed.size - position:
            raise ColumnsError("a table whose rows are cut off")
        values = packed[position : position + length].view(narrow).reshape(len(own), row_count)
        table[:, own] += values.T.astype(_WORD)
        position += _up_to_words(length)
    if not known.all() or position != packed.size:
        raise ColumnsError("a table with widths or bytes that are none")
    return table


def _regular(row_count: int, bases: Table, strides: Table) -> Table:
    """Return the table whose columns all count regularly."""
    block = np.multiply.outer(np.arange(_ROWS_AT_ONCE), strides)
    block += bases
    blocks = -(-row_count // _ROWS_AT_ONCE)
    ahead = np.tile(strides * _ROWS_AT_ONCE, _ROWS_AT_ONCE)
    table = np.multiply.outer(np.arange(blocks), ahead)
    table += block.reshape(-1)
    return table.reshape(-1, len(bases))[:row_count]


def _up_to_words(byte_count: int) -> int:
    return byte_count + -byte_count % _WORD.itemsize
