"""Records moved as what they are: words.

numpy copies structured arrays field by field: to index one with positions, to join or copy some, or
to assign to a part takes ten times as long as the same with plain numbers. `take` of an array does
not do that, and for the rest there are these views. All fields are int64, in this order.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

_WORD: Final = np.dtype(np.int64)
_WORD_BYTES: Final = _WORD.itemsize
_BYTE: Final = np.dtype(np.uint8)
#: Of `mmap`: nothing is set aside for pages before they are touched. Linux on all processors but
#: Alpha, MIPS, PowerPC and SPARC; `mmap` has no name for it before Python 3.13.
_MAP_NORESERVE: Final = 0x4000


def words_of(rows: NDArray[Any]) -> NDArray[np.int64]:
    """Return records as (n, fields); a view where they lie back to back."""
    # A view of records in another type is made by way of Python, which takes four times as long.
    shape = len(rows), rows.dtype.itemsize // _WORD_BYTES
    return np.ndarray(shape, _WORD, np.ascontiguousarray(rows))


def raw(rows: NDArray[Any]) -> NDArray[np.uint8]:
    """Return rows of any type that lie back to back as their bytes; a view."""
    return np.ndarray((rows.nbytes,), _BYTE, rows)


def reserved(dtype: DTypeLike, count: int) -> NDArray[Any]:
    """Return `count` rows, all zero, that take memory where they are touched, page by page.

    So a table can grow in place, by a longer part of what it has reserved, without a copy.
    """
    item_bytes = np.dtype(dtype).itemsize
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    return np.frombuffer(mmap.mmap(-1, max(count * item_bytes, 1), flags=flags), dtype, count)


def joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the rows of all parts, which lie back to back and have one type, together."""
    if len(parts) == 1:
        return parts[0]
    whole = np.concatenate([raw(part) for part in parts])
    dtype = parts[0].dtype
    return np.ndarray((whole.size // dtype.itemsize,), dtype, whole)
