"""Walk through arrays in pieces that are contiguous in C order, and regroup bytes.

Files want whole slabs of an array, the machine wants pieces of equal size that begin at page
boundaries; these functions stand between. They know no file format.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

#: One slab: leading axes fixed, one axis cut, the others whole.
Index = tuple[int | slice, ...]


def slabs(shape: tuple[int, ...], item_bytes: int, bytes_max: int) -> Iterator[Index]:
    """Cut an array into slabs of at most `bytes_max` bytes each, in C order.

    Together the slabs are the whole array, each element once. An array without elements has no
    slab; a scalar (shape `()`) has one, the empty index.
    """
    assert item_bytes <= bytes_max, "one element must fit into a slab"
    if 0 in shape:
        return
    axis = 0
    row_bytes = item_bytes * int(np.prod(shape[1:], dtype=np.int64))
    while row_bytes > bytes_max:
        axis += 1
        row_bytes //= shape[axis]
    if not shape:
        yield ()
        return
    rows = bytes_max // row_bytes
    for leading in np.ndindex(*shape[:axis]):
        for start in range(0, shape[axis], rows):
            yield (*leading, slice(start, min(start + rows, shape[axis])))


def slab_shape(shape: tuple[int, ...], index: Index) -> tuple[int, ...]:
    """Return the shape of `array[index]` for an index that `slabs` gave."""
    cut = tuple(part.stop - part.start for part in index if isinstance(part, slice))
    return cut + shape[len(index) :]


def regroup(
    pieces: Iterable[NDArray[np.uint8]], chunk_bytes: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Join and cut pieces of any length into chunks of `chunk_bytes`; the last may be shorter.

    Yields
    ------
    The offset of the chunk in the stream, and its bytes: one-dimensional, valid until the next
    chunk is asked for (the buffer is used again: fresh memory costs six times the copy).
    """
    buffer = np.empty(chunk_bytes, np.uint8)
    offset = filled = 0
    for piece in pieces:
        taken = 0
        while taken < len(piece):
            count = min(chunk_bytes - filled, len(piece) - taken)
            buffer[filled : filled + count] = piece[taken : taken + count]
            filled += count
            taken += count
            if filled == chunk_bytes:
                yield offset, buffer
                offset += chunk_bytes
                filled = 0
    if filled:
        yield offset, buffer[:filled]


class ByteStream:
    """Pieces of any length, taken as exact numbers of bytes."""

    def __init__(self, pieces: Iterable[NDArray[np.uint8]]) -> None:
        self._pieces = iter(pieces)
        #: What is left of the piece begun.
        self._rest = np.empty(0, np.uint8)

    def fill(self, target: NDArray[np.uint8]) -> None:
        """Fill `target` (one-dimensional) with the next bytes; the stream must hold enough."""
        filled = 0
        while filled < len(target):
            if not len(self._rest):
                piece = next(self._pieces, None)
                assert piece is not None, f"{len(target) - filled} bytes short of the array"
                self._rest = piece
                continue
            count = min(len(self._rest), len(target) - filled)
            target[filled : filled + count] = self._rest[:count]
            self._rest = self._rest[count:]
            filled += count

    def check_ended(self) -> None:
        """Assert that every byte has been taken."""
        assert not len(self._rest), "more bytes than the array holds"
        assert all(not len(piece) for piece in self._pieces), "more bytes than the array holds"
