"""Stretches of an array in C order, as boxes that can be read from a file with one index each.

The machine knows arrays as bytes in a row, files know them by their axes; this stands between. It
knows no file format.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

#: One box: leading axes fixed, at most one axis cut, the others whole.
Index = tuple[int | slice, ...]


def boxes(shape: tuple[int, ...], start: int, stop: int) -> Iterator[Index]:
    """Cut elements `start` to below `stop`, counted in C order, into boxes.

    Together the boxes are these elements, each once, in order. There are at most two for each axis
    but the first, and one in the middle: the stretch begins within a row, within a row of rows and
    so on, and ends likewise. The array of shape `()` has one element, and its box is empty.
    """
    assert 0 <= start
    assert stop <= int(np.prod(shape, dtype=np.int64)), "beyond the array"
    if start >= stop:
        return
    if not shape:
        yield ()
        return
    row = int(np.prod(shape[1:], dtype=np.int64))
    first, begun = divmod(start, row)
    end, rest = divmod(stop, row)
    if first == end:
        yield from _below(first, shape, begun, rest)
        return
    if begun:
        yield from _below(first, shape, begun, row)
        first += 1
    if first < end:
        yield (slice(first, end),)
    yield from _below(end, shape, 0, rest)


def _below(position: int, shape: tuple[int, ...], start: int, stop: int) -> Iterator[Index]:
    """Cut a part of one row, which is an array of its own."""
    for index in boxes(shape[1:], start, stop) if start < stop else ():
        yield (position, *index)


def box_shape(shape: tuple[int, ...], index: Index) -> tuple[int, ...]:
    """Return the shape of `array[index]` for an index that `boxes` gave."""
    cut = tuple(part.stop - part.start for part in index if isinstance(part, slice))
    return cut + shape[len(index) :]
