"""Takes arrays out of the homes and writes them to files, after the last epoch is visible.

Every rank writes the pages of its own homes; `write_outputs` is all of it in one process. Both go
on piece by piece, so that a rank can serve others, or notice a signal, between two pieces.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import FILE_CHUNK_BYTES, RECORD_PAGES_MAX
from dvm_mpi.control.messages import PagesHeld
from dvm_mpi.disa.image import ArrayDeclaration
from dvm_mpi.dsm import ranges
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.home import Home
from dvm_mpi.io.outputs import (
    OutputPart,
    Place,
    drop_outputs,
    make_outputs,
    settle_outputs,
)
from dvm_mpi.io.specs import ArraySpec
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT, whole_pages


def written_blocks(
    declaration: ArrayDeclaration, geometry: Geometry, homes: Mapping[int, Home], snapshot: int
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Yield the parts of an array that these homes have as of `snapshot`, what moved here last.

    Each is `(offset in the array, bytes)`, one-dimensional, at most FILE_CHUNK_BYTES, and ends
    with a block of the geometry, with the array or with the piece. Pages that nobody wrote are
    zeros. All homes together give every byte once.
    """
    assert declaration.address % PAGE_BYTES == 0, "arrays are page-aligned"
    first_page = declaration.address >> PAGE_SHIFT
    page_count = whole_pages(declaration.byte_count) >> PAGE_SHIFT
    batch_pages = FILE_CHUNK_BYTES // PAGE_BYTES
    for pages in geometry.pages_at(homes, first_page, page_count, batch_pages, snapshot):
        content = np.empty((pages.size, PAGE_BYTES), np.uint8)
        for number, rows in geometry.group_pages(pages, snapshot):
            content[rows] = homes[number].read(pages[rows], snapshot)
        row = 0
        for first, count in zip(*ranges.join_consecutive(pages), strict=True):
            offset = (int(first) - first_page) << PAGE_SHIFT
            data = content[row : row + count].reshape(-1)
            yield offset, data[: declaration.byte_count - offset]
            row += count


def write_parts(
    places: Sequence[tuple[Place, ArrayDeclaration]],
    geometry: Geometry,
    homes: Mapping[int, Home],
    snapshot: int,
) -> Iterator[int]:
    """Write what these homes have of each output and flush it; yield the bytes written so far.

    Raises
    ------
    FileError
        A file cannot be opened or written here.
    """
    written = 0
    for place, declaration in places:
        with OutputPart(place) as part:
            for offset, data in written_blocks(declaration, geometry, homes, snapshot):
                part.write_range(offset, data)
                written += data.size
                yield written
            part.flush()


def write_outputs(
    outputs: Sequence[tuple[ArraySpec, ArrayDeclaration]],
    geometry: Geometry,
    homes: Mapping[int, Home],
    snapshot: int,
) -> Generator[int, None, None]:
    """Write all outputs from the homes of one process; yield the bytes written so far.

    Other datasets of an HDF5 file that exists are kept; a dataset of the same name is replaced.
    Nothing is in its place before the generator ends; if it is closed early nothing is left over.

    Raises
    ------
    FileError
        Something cannot be written; then no file has changed.
    """
    places = yield from make_outputs(outputs)
    try:
        declarations = [declaration for _, declaration in outputs]
        targets = list(zip(places, declarations, strict=True))
        yield from write_parts(targets, geometry, homes, snapshot)
        settle_outputs(places)
    finally:
        drop_outputs(places)


def told_pages(home: Home, snapshot: int) -> Iterator[PagesHeld]:
    """Yield what a home holds as of `snapshot`, for a record of the run; at least one message.

    Of more than RECORD_PAGES_MAX pages those with the highest addresses are left out.
    """
    pages = home.directory.pages()
    # Those that have left are told elsewhere.
    pages = pages[home.geometry.home_of(pages, snapshot) == home.index]
    left_out = max(len(pages) - RECORD_PAGES_MAX, 0)
    kept = pages[: len(pages) - left_out]
    batch_pages = FILE_CHUNK_BYTES // PAGE_BYTES
    for first in range(0, max(len(kept), 1), batch_pages):
        batch = kept[first : first + batch_pages]
        content = home.read(batch, snapshot).reshape(-1)
        yield PagesHeld(home.index, left_out, batch, content)
