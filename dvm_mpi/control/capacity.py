"""How a program's memory is dealt to the homes, and whether it fits: before anything is loaded.

What counts is what a program is sure to fill: its arrays, which are declared to be filled, and its
initialised data. Other memory, from `.space` to `malloc`, takes pages where it is stored to, and
nobody knows beforehand where that will be.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import (
    BLOCKS_PER_HOME,
    HOME_BLOCK_PAGES,
    HOME_BLOCK_PAGES_MAX,
    LISTED_ARRAYS_MAX,
    MIB,
)
from dvm_mpi.disa.image import ArrayDeclaration, Image, Section
from dvm_mpi.dsm import ranges
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.errors import LimitError
from dvm_mpi.launch.memory import in_units
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT

Ints = NDArray[np.int64]


def geometry_of(image: Image, home_count: int) -> Geometry:
    """Return how the pages of a program's memory are dealt to homes: the same on every rank.

    In blocks that grow with what the program is sure to fill: who fetches a part of a large array
    asks a home for each block of it, and a message costs as much as many pages. Where homes are
    few it asks each of them once anyway, and small arrays had best not all have the same one.
    """
    pages = ranges.total_bytes(_filled(image)) >> PAGE_SHIFT
    wanted = min(pages // (home_count * BLOCKS_PER_HOME), home_count, HOME_BLOCK_PAGES_MAX)
    # A power of two, so that what begins on a round address begins a block.
    return Geometry(home_count, max(1 << wanted.bit_length() >> 1, HOME_BLOCK_PAGES))


def needed_pages(image: Image, geometry: Geometry) -> Ints:
    """Return how many pages a program is sure to fill at each home: (home_count,)."""
    total = np.zeros(geometry.home_count, np.int64)
    for start, length in _filled(image).tolist():
        total += geometry.pages_per_home(start >> PAGE_SHIFT, length >> PAGE_SHIFT)
    return total


def check_fits(image: Image, geometry: Geometry, memory_bytes: int) -> None:
    """Check that every home has room for what the program is sure to fill, each page once.

    Parameters
    ----------
    memory_bytes
        For the frames of one home; the least, if they differ.

    Raises
    ------
    LimitError
        It has not; the text gives the sizes.
    """
    needed_bytes = int(needed_pages(image, geometry).max()) * PAGE_BYTES
    if needed_bytes <= memory_bytes:
        return
    homes = geometry.home_count
    place = "the one home" if homes == 1 else f"each of the {homes} homes"
    raise LimitError(
        f"the program does not fit: {place} needs {needed_bytes / MIB:,.1f} MiB and has "
        f"{memory_bytes / MIB:,.1f} MiB\n"
        f"  arrays       {listed(image.arrays.values())}\n"
        f"  other data   {in_units(data_bytes(image))}\n"
        "  what helps: more --memory ('estimate' in place of the program's name says how much), "
        "more ranks,\n"
        "  or, for memory that stays mostly untouched, .space in .bss instead of .array"
    )


def _filled(image: Image) -> NDArray[Any]:
    """Return the pages that a program fills, as a normal set of bytes in whole pages."""
    arrays = list(image.arrays.values())
    starts = np.array([array.address for array in arrays], np.int64)
    counts = np.array([array.byte_count for array in arrays], np.int64)
    parts = [ranges.from_bounds(starts, starts + counts), *map(_content, image.sections)]
    return ranges.normalise(ranges.round_to_pages(np.concatenate(parts)))


def _content(section: Section) -> NDArray[Any]:
    """Return the pages of a section that are not all zero, which need no frame."""
    data = np.frombuffer(section.data, np.uint8)
    end = section.start + data.size
    first_page = section.start >> PAGE_SHIFT
    pages = np.arange(first_page, ((end - 1) >> PAGE_SHIFT) + 1)
    begins = np.maximum((pages << PAGE_SHIFT) - section.start, 0)
    largest = np.maximum.reduceat(data, begins) if data.size else np.empty(0, np.uint8)
    kept = pages[: largest.size][largest > 0] << PAGE_SHIFT
    return ranges.from_bounds(kept, kept + PAGE_BYTES)


def data_bytes(image: Image) -> int:
    """Return the bytes of the pages of initialised data that are not all zero."""
    return sum(ranges.total_bytes(_content(section)) for section in image.sections)


def listed(arrays: Iterable[ArrayDeclaration]) -> str:
    """Return the largest arrays with their sizes, and how many more there are."""
    by_size = sorted(arrays, key=lambda array: (-array.byte_count, array.name))
    shown = [f"{a.name} {in_units(a.byte_count)}" for a in by_size[:LISTED_ARRAYS_MAX]]
    if len(by_size) > len(shown):
        rest = sum(array.byte_count for array in by_size[LISTED_ARRAYS_MAX:])
        shown.append(f"{len(by_size) - len(shown)} more {in_units(rest)}")
    return ", ".join(shown) if shown else "none"
