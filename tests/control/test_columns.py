"""Packed tables: what goes in comes out, regular columns take no room, damage is refused."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.config import PACKED_ROWS_MAX, PACKED_ROWS_MIN
from dvm_mpi.control.columns import ColumnsError, pack, unpack
from tests.properties import tried

INT64 = st.integers(-(2**63), 2**63 - 1)
ROWS = 100


@st.composite
def columns(draw: st.DrawFn, row_count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Draw a column: regular, or regular but for some rows, or near to a base, or anything."""
    kind = draw(st.sampled_from(["regular", "broken", "near", "random"]))
    base = draw(INT64)
    rows = np.arange(row_count)
    if kind == "random":
        return np.array(draw(st.lists(INT64, min_size=row_count, max_size=row_count)), np.int64)
    if kind == "near":
        reach = draw(st.sampled_from([2, 255, 256, 65_535, 65_536, 2**32 - 1, 2**32]))
        random = np.random.default_rng(draw(st.integers(0, 9)))
        spread = random.integers(0, reach + 1, row_count)
        spread[draw(st.integers(0, row_count - 1))] = reach
        return np.int64(base) + spread
    column = rows * np.int64(draw(INT64)) + np.int64(base)
    if kind == "broken":
        column[draw(st.integers(0, row_count - 1))] = draw(INT64)
    return column


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Draw a table with columns of all sorts."""
    row_count = draw(st.integers(PACKED_ROWS_MIN, PACKED_ROWS_MIN + 9))
    drawn = [draw(columns(row_count)) for _ in range(draw(st.integers(1, 10)))]
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(np.stack(drawn, axis=1))


def laid_out(table: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> bytes | None:
    """Return a table in the form that the module describes, number by number."""
    widths, heads, content = bytearray(), bytearray(), dict.fromkeys((1, 2, 4, 8), b"")
    for column in table.T.tolist():
        steps = {(b - a) % 2**64 for a, b in pairwise(column)}
        width, base, stride = 0, column[0], (column[1] - column[0]) % 2**64
        if len(steps) > 1:
            base, stride = min(column), 0
            reach = max(column) - base
            width = next(w for w in (1, 2, 4, 8) if reach < 2 ** (8 * w))
            content[width] += b"".join((v - base).to_bytes(width, "little") for v in column)
        widths.append(width)
        heads += base.to_bytes(8, "little", signed=True) + stride.to_bytes(8, "little")
    words = np.frombuffer(bytes(heads), np.int64).reshape(-1, 2).T.tobytes()
    parts = [np.array(table.shape).tobytes(), bytes(widths), words, *content.values()]
    form = b"".join(part + bytes(-len(part) % 8) for part in parts)
    return form if len(form) < table.nbytes else None


@tried(60)
@given(table=tables())
def test_the_form_is_the_one_that_is_described(
    table: np.ndarray[tuple[int, int], np.dtype[np.int64]],
) -> None:
    packed, expected = pack(table), laid_out(table)
    if packed is None:
        # Whether so little would be saved is not always looked at.
        assert expected is None or len(expected) > 0.9 * table.nbytes
    else:
        assert packed.tobytes() == expected


@tried(300)
@given(table=tables())
def test_round_trip(table: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> None:
    packed = pack(table)
    if packed is None:
        assert table.size, "only a table in which nothing repeats is left as it is"
        return
    assert packed.size % 8 == 0
    back = unpack(packed)
    assert back.shape == table.shape
    assert back.flags.c_contiguous
    assert (back == table).all()


def test_regular_columns_are_two_words_each() -> None:
    rows = np.arange(5_000)
    table = np.stack([rows * 12_288 + 7, np.full(5_000, -3), -rows], axis=1)
    packed = pack(table)
    assert packed is not None
    assert packed.size == 8 * (2 + 1 + 2 * 3)
    assert (unpack(packed) == table).all()


@pytest.mark.parametrize(
    ("reach", "width"), [(255, 1), (256, 2), (65_535, 2), (65_536, 4), (2**32 - 1, 4), (2**32, 8)]
)
def test_others_are_as_narrow_as_they_fit(reach: int, width: int) -> None:
    table = np.zeros((ROWS, 2), np.int64)
    table[:, 0] = -(2**62)
    table[ROWS // 2, 0] += reach
    packed = pack(table)
    assert packed is not None
    assert packed.size == 8 * (2 + 1 + 2 * 2) + ROWS * width + -ROWS * width % 8
    assert (unpack(packed) == table).all()


def test_the_whole_reach_of_a_word_wraps_around() -> None:
    table = np.zeros((ROWS, 2), np.int64)
    table[0, 0], table[1, 0] = -(2**63), 2**63 - 1
    packed = pack(table)
    assert packed is not None
    assert (unpack(packed) == table).all()


def test_few_rows_and_what_does_not_repeat_stay_as_they_are() -> None:
    assert pack(np.zeros((PACKED_ROWS_MIN - 1, 4), np.int64)) is None
    random = np.random.default_rng(1)
    anything = random.integers(-(2**62), 2**62, (ROWS, 3))
    assert pack(anything) is None


def test_damage_is_refused_or_read_never_worse() -> None:
    """One damaged byte, at every place and several times: a table or `ColumnsError`."""
    table = np.zeros((40, 3), np.int64)
    table[:, 0], table[:, 1] = np.arange(40) ** 2, np.arange(40)
    packed = pack(table)
    assert packed is not None
    for place in range(packed.size):
        for value in (0, 1, 3, 8, 0x7F, 0xFF):
            damaged = packed.copy()
            damaged[place] = value
            try:
                read = unpack(damaged)
            except ColumnsError:
                continue
            assert read.shape[1] <= packed.size
    for length in range(packed.size):
        with pytest.raises(ColumnsError):
            unpack(packed[:length])


@pytest.mark.parametrize(
    "words", [[], [5], [0, 1, 0, 0, 0], [PACKED_ROWS_MAX + 1, 1, 0, 0, 0], [5, 0], [5, 1 << 40]]
)
def test_sizes_that_no_table_has_are_refused(words: list[int]) -> None:
    with pytest.raises(ColumnsError):
        unpack(np.array(words, np.int64).view(np.uint8))
