"""What a program is sure to fill, page by page, and the refusal of what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvm_mpi.config import BLOCKS_PER_HOME, GIB, HOME_BLOCK_PAGES, HOME_BLOCK_PAGES_MAX, MIB
from dvm_mpi.control.capacity import check_fits, geometry_of, needed_pages
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.disa.image import ArrayDeclaration, Image, Section
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.errors import ExitCode, LimitError
from dvm_mpi.layout import DATA_START, PAGE_BYTES, PAGE_SHIFT, RANGE, TEXT_START

PAGES = 40


def image_of(sections: list[tuple[int, bytes]], arrays: list[tuple[int, int]]) -> Image:
    """Build an image of sections (offset, data) and arrays (page, byte count)."""
    return Image(
        TEXT_START,
        b"",
        tuple(Section(DATA_START + offset, data) for offset, data in sections),
        np.zeros(0, RANGE),
        arrays={
            str(number): ArrayDeclaration(
                str(number), DATA_START + page * PAGE_BYTES, "ub", (count,)
            )
            for number, (page, count) in enumerate(arrays)
        },
    )


sections = st.lists(
    st.tuples(st.integers(0, 20 * PAGE_BYTES), st.integers(0, 3 * PAGE_BYTES), st.integers(0, 5)),
    max_size=4,
)
arrays = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9 * PAGE_BYTES)), max_size=4)


@settings(max_examples=60)
@given(sections, arrays, st.integers(1, 4), st.integers(1, 5))
def test_pages_are_counted_once_each(
    given_sections: list[tuple[int, int, int]],
    given_arrays: list[tuple[int, int]],
    home_count: int,
    block_pages: int,
) -> None:
    """Sections are zeros with a byte here and there: pages of zeros need no frame."""
    random = np.random.default_rng(len(given_sections))
    is_filled = np.zeros(PAGES, bool)
    data_of_sections = []
    for offset, length, marks in given_sections:
        data = np.zeros(length, np.uint8)
        if length:
            data[random.integers(0, length, marks)] = 1
        is_filled[np.unique((np.flatnonzero(data) + offset) >> PAGE_SHIFT)] = True
        data_of_sections.append((offset, data.tobytes()))
    for page, count in given_arrays:
        is_filled[page : page - (-count // PAGE_BYTES)] = True
    geometry = Geometry(home_count, block_pages)
    pages = np.flatnonzero(is_filled) + (DATA_START >> PAGE_SHIFT)
    expected = np.bincount(geometry.home_of(pages), minlength=home_count)
    found = needed_pages(image_of(data_of_sections, given_arrays), geometry)
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("pages", "homes", "block_pages"),
    [
        (0, 64, HOME_BLOCK_PAGES),
        (HOME_BLOCK_PAGES * BLOCKS_PER_HOME * 64 * 2 - 1, 64, HOME_BLOCK_PAGES),
        (HOME_BLOCK_PAGES * BLOCKS_PER_HOME * 64 * 2, 64, 2 * HOME_BLOCK_PAGES),
        (HOME_BLOCK_PAGES * BLOCKS_PER_HOME * 64 * 5, 64, 4 * HOME_BLOCK_PAGES),
        (HOME_BLOCK_PAGES * BLOCKS_PER_HOME * 64 * 5, 640, HOME_BLOCK_PAGES),
        # Of few homes each is asked once, however small the blocks are.
        (1 << 20, 2 * HOME_BLOCK_PAGES - 1, HOME_BLOCK_PAGES),
        (1 << 20, 2 * HOME_BLOCK_PAGES, 2 * HOME_BLOCK_PAGES),
        (1 << 24, 4 * HOME_BLOCK_PAGES_MAX, HOME_BLOCK_PAGES_MAX),
    ],
    ids=[
        "nothing",
        "not yet twice as much",
        "twice",
        "five times",
        "on more homes",
        "on few homes",
        "as many pages as homes",
        "very much",
    ],
)
def test_blocks_grow_with_what_a_program_fills(pages: int, homes: int, block_pages: int) -> None:
    image = image_of([], [(0, pages * PAGE_BYTES)])
    assert geometry_of(image, homes) == Geometry(homes, block_pages)
    # No home has much more than its share of it.
    share = -(-pages // homes)
    most = int(needed_pages(image, geometry_of(image, homes)).max())
    assert most <= max(share + share // BLOCKS_PER_HOME, share + HOME_BLOCK_PAGES) + 1


def test_what_does_not_fit_is_refused_with_the_sizes() -> None:
    image = assemble_text(
        "        .array big, fd, 1024, 1024, 1024\n"
        "        .array small, sd, 100\n"
        "        .array other, sq, 1024\n"
        "        .data\nx:      .quad 7\n        .text\nmain:   exit:c\n",
        "big.dasm",
        {},
    )
    check_fits(image, Geometry(4), 2 * GIB + MIB)
    with pytest.raises(LimitError) as caught:
        check_fits(image, Geometry(4), 2 * GIB - MIB)
    assert caught.value.exit_code is ExitCode.LIMIT
    text = str(caught.value)
    assert "each of the 4 homes needs 2,048.0 MiB and has 2,047.0 MiB" in text
    assert "  arrays       big 8.0 GiB, other 8.0 KiB, small 400 bytes\n" in text
    assert "  other data   4.0 KiB\n" in text
    assert "--memory" in text


def test_a_long_list_of_arrays_is_cut() -> None:
    image = image_of([], [(10 * n, (n + 1) * MIB) for n in range(7)])
    with pytest.raises(LimitError, match=r"3 4\.0 MiB, 2 3\.0 MiB, 2 more 3\.0 MiB") as caught:
        check_fits(image, Geometry(1), PAGE_BYTES)
    assert "the one home needs" in str(caught.value)


def test_memory_that_is_only_reserved_is_not_refused() -> None:
    image = assemble_text(
        "        .bss\nspace:  .space 1 << 40\n        .text\nmain:   exit:c\n", "space.dasm", {}
    )
    check_fits(image, Geometry(1), PAGE_BYTES)
