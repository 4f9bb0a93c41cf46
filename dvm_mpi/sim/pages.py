"""Shared memory the naive way: every version of every page, and who stored each byte last.

It shares nothing with `dsm`: pages are byte strings in dictionaries, epochs are looked up one by
one. Stores come in commit order.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT

_ZERO_PAGE: Final = bytes(PAGE_BYTES)


class VersionedPages:
    """Pages as of any epoch."""

    def __init__(self) -> None:
        #: Ascending epochs of each page's versions, and their contents.
        self._epochs: dict[int, list[int]] = {}
        self._contents: dict[int, list[bytearray]] = {}
        #: Epoch of the last store to each byte of a page.
        self._stored_at: dict[int, list[int]] = {}

    def pages(self) -> list[int]:
        """Return every page that was ever stored to, ascending."""
        return sorted(self._epochs)

    def read(self, page: int, epoch: int) -> bytes:
        """Return the page with every commit up to `epoch`."""
        at = bisect_right(self._epochs.get(page, []), epoch)
        return bytes(self._contents[page][at - 1]) if at else _ZERO_PAGE

    def store(self, epoch: int, start: int, data: bytes) -> None:
        """Store bytes by a commit of `epoch`, which is not older than any before it."""
        for page, offset, first, length in _pieces(start, len(data)):
            epochs = self._epochs.setdefault(page, [])
            contents = self._contents.setdefault(page, [])
            assert not epochs or epochs[-1] <= epoch, "stores come in commit order"
            if not epochs or epochs[-1] < epoch:
                contents.append(bytearray(contents[-1] if contents else _ZERO_PAGE))
                epochs.append(epoch)
            contents[-1][offset : offset + length] = data[first : first + length]
            stored_at = self._stored_at.setdefault(page, [0] * PAGE_BYTES)
            stored_at[offset : offset + length] = [epoch] * length

    def last_store(self, start: int, length: int) -> int:
        """Return the newest epoch of a store to any of these bytes, 0 if there was none."""
        newest = 0
        for page, offset, _, count in _pieces(start, length):
            stored_at = self._stored_at.get(page)
            if stored_at is not None:
                newest = max(newest, *stored_at[offset : offset + count])
        return newest


def _pieces(start: int, length: int) -> list[tuple[int, int, int, int]]:
    """Cut a range at pages: `(page, offset in it, offset in the range, length)`."""
    pieces = []
    done = 0
    while done < length:
        offset = (start + done) % PAGE_BYTES
        count = min(PAGE_BYTES - offset, length - done)
        pieces.append(((start + done) >> PAGE_SHIFT, offset, done, count))
        done += count
    return pieces
