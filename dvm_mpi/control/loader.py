"""Puts a program's data and its input arrays into the homes, before the first runner starts.

Everything that is loaded has the epoch LOADED_EPOCH. Whole pages of an array go straight to their
homes, so that they lie in contiguous frames; pages that several pieces share are composed first.
The text is not loaded here: every engine holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.disa.image import Image
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import Home
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT, whole_pages

#: The epoch of the loaded program: the first one that is visible.
LOADED_EPOCH: Final = 1


class Loader:
    """Writes bytes at addresses; later writes win. `finish` must be called once, at the end."""

    def __init__(self, geometry: Geometry, homes: Sequence[Home]) -> None:
        self._geometry = geometry
        self._homes = homes
        #: Pages that are not complete yet, by page number; (PAGE_BYTES,) uint8 each.
        self._partial: dict[int, NDArray[np.uint8]] = {}
        #: Bytes that were written.
        self.loaded_bytes = 0

    def load_image(self, image: Image) -> None:
        """Write the image's initialised sections."""
        for section in image.sections:
            self._compose(section.start, np.frombuffer(section.data, dtype=np.uint8))

    def write(self, start: int, data: NDArray[np.uint8]) -> None:
        """Write `data` at `start`; its whole pages go to their homes at once.

        A page that went to its home must not be written again; arrays are page-aligned and come
        in pieces of whole pages, so that only their last page is kept until `finish`.
        """
        self.loaded_bytes += len(data)
        whole_start = whole_pages(start)
        whole_end = (start + len(data)) // PAGE_BYTES * PAGE_BYTES
        if whole_end <= whole_start:
            self._compose(start, data)
            return
        self._compose(start, data[: whole_start - start])
        self._compose(whole_end, data[whole_end - start :])
        whole = data[whole_start - start : whole_end - start].reshape(-1, PAGE_BYTES)
        self._send(whole_start >> PAGE_SHIFT, whole)

    def _compose(self, start: int, data: NDArray[np.uint8]) -> None:
        """Overlay bytes on pages that stay here until `finish`."""
        done = 0
        while done < len(data):
            page, offset = divmod(start + done, PAGE_BYTES)
            length = min(PAGE_BYTES - offset, len(data) - done)
            content = self._partial.setdefault(page, np.zeros(PAGE_BYTES, dtype=np.uint8))
            content[offset : offset + length] = data[done : done + length]
            done += length

    def _send(self, first_page: int, content: NDArray[np.uint8]) -> None:
        for page in range(first_page, first_page + len(content)):
            self._partial.pop(page, None)
        block = self._geometry.block_pages
        done = 0
        while done < len(content):
            page = first_page + done
            count = min(block - page % block, len(content) - done)
            home = int(self._geometry.home_of(np.array([page]))[0])
            self._homes[home].load(LOADED_EPOCH, page, content[done : done + count].reshape(-1))
            done += count

    def finish(self) -> None:
        """Send the pages that were composed here; pages that are all zero need no frame."""
        pages, self._partial = self._partial, {}
        for page in sorted(pages):
            if pages[page].any():
                self._send(page, pages[page].reshape(1, PAGE_BYTES))
