"""Puts a program's data and its input arrays into the homes, before the first runner starts.

Every rank loads the pages of its own homes, and skips those of others. Everything that is loaded
has the epoch LOADED_EPOCH. An array is read straight into contiguous frames; pages that several
pieces share are composed first. The text is not loaded here: every engine holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import FILE_CHUNK_BYTES
from dvm_mpi.disa.image import ArrayDeclaration, Image
from dvm_mpi.dsm import ranges
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import Home
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT, whole_pages

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]

#: The epoch of the loaded program: the first one that is visible.
LOADED_EPOCH: Final = 1

#: Fills its second argument with an array's bytes from an offset on.
ReadRange = Callable[[int, Bytes], None]


class Loader:
    """Loads the image, then the inputs; `finish` must be called once, at the end."""

    def __init__(self, geometry: Geometry, homes: Mapping[int, Home]) -> None:
        """Load the homes of this process, given by their numbers."""
        self._geometry = geometry
        self._homes = homes
        #: Pages that are not complete yet, by page number; (PAGE_BYTES,) uint8 each.
        self._partial: dict[int, Bytes] = {}
        #: Bytes of inputs that were read into homes of this process.
        self.loaded_bytes = 0

    def load_image(self, image: Image) -> None:
        """Write the image's initialised sections."""
        for section in image.sections:
            self._compose(section.start, np.frombuffer(section.data, dtype=np.uint8))

    def load_input(self, declaration: ArrayDeclaration, read_range: ReadRange) -> Iterator[int]:
        """Read an array; yield `loaded_bytes` so far, after every FILE_CHUNK_BYTES at most.

        What sections wrote there before is replaced. The array's pages lie in contiguous frames of
        each home, taken at once; `LimitError` if a home has not that many.
        """
        first_page = declaration.address >> PAGE_SHIFT
        page_count = whole_pages(declaration.byte_count) >> PAGE_SHIFT
        counts = self._geometry.pages_per_home(first_page, page_count).tolist()
        free = {number: home.pool.allocate(counts[number]) for number, home in self._homes.items()}
        batch_pages = FILE_CHUNK_BYTES // PAGE_BYTES
        for pages in self._geometry.pages_at(self._homes, first_page, page_count, batch_pages):
            for number, rows in self._geometry.group_pages(pages):
                frames, free[number] = np.split(free[number], [rows.size])
                self._fill(declaration, read_range, self._homes[number], pages[rows], frames)
                self._homes[number].enter(LOADED_EPOCH, pages[rows], frames)
            yield self.loaded_bytes
        assert not any(rest.size for rest in free.values()), "frames are left over"

    def _fill(
        self,
        declaration: ArrayDeclaration,
        read_range: ReadRange,
        home: Home,
        pages: Ints,
        frames: Ints,
    ) -> None:
        """Read pages of the array into frames, which lie together, stretch by stretch."""
        assert np.all(np.diff(frames) == 1), "frames were freed before anything ran"
        frame = int(frames[0])
        for page, count in np.transpose(ranges.join_consecutive(pages)).tolist():
            start = (page << PAGE_SHIFT) - declaration.address
            content = home.pool.memory[frame : frame + count].reshape(-1)
            length = min(content.size, declaration.byte_count - start)
            whole = length // PAGE_BYTES * PAGE_BYTES
            if whole:
                read_range(start, content[:whole])
            for replaced in range(page, page + whole // PAGE_BYTES):
                self._partial.pop(replaced, None)
            if whole < length:
                # Other data may begin where the array ends: the page is composed like theirs.
                content[whole:] = 0
                rest = np.empty(length - whole, np.uint8)
                read_range(start + whole, rest)
                self._compose(declaration.address + start + whole, rest)
            self.loaded_bytes += length
            frame += count

    def finish(self) -> None:
        """Send the pages that were composed here; pages that are all zero need no frame."""
        pages, self._partial = self._partial, {}
        kept = np.array(sorted(page for page in pages if pages[page].any()), np.int64)
        is_first = (np.diff(kept) != 1) | (kept[1:] % self._geometry.block_pages == 0)
        for stretch in np.split(kept, np.flatnonzero(is_first) + 1):
            if stretch.size:
                home = self._homes[int(self._geometry.home_of(stretch)[0])]
                content = np.concatenate([pages[page] for page in stretch.tolist()])
                home.load(LOADED_EPOCH, int(stretch[0]), content)

    def _compose(self, start: int, data: Bytes) -> None:
        """Overlay bytes on pages of homes of this process, which stay here until `finish`."""
        done = 0
        while done < len(data):
            page, offset = divmod(start + done, PAGE_BYTES)
            length = min(PAGE_BYTES - offset, len(data) - done)
            if page // self._geometry.block_pages % self._geometry.home_count in self._homes:
                content = self._partial.setdefault(page, np.zeros(PAGE_BYTES, dtype=np.uint8))
                content[offset : offset + length] = data[done : done + length]
            done += length
