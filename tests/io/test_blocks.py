from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dvm_mpi.io.blocks import box_shape, boxes

shapes = st.lists(st.integers(0, 5), min_size=0, max_size=4).map(tuple)


@settings(max_examples=150)
@given(shapes, st.integers(0, 700), st.integers(0, 700))
@example((3, 4, 5), 7, 53)
@example((3, 4, 5), 0, 60)
@example((3, 4, 5), 21, 24)
@example((), 0, 1)
def test_boxes_are_the_stretch_in_c_order(shape: tuple[int, ...], one: int, other: int) -> None:
    array = np.arange(int(np.prod(shape, dtype=int)), dtype=np.int64).reshape(shape)
    start, stop = sorted(bound % (array.size + 1) for bound in (one, other))
    found = list(boxes(shape, start, stop))
    pieces = []
    for index in found:
        piece = np.asarray(array[index])
        assert piece.shape == box_shape(shape, index)
        assert piece.size
        pieces.append(piece.ravel())
    joined = np.concatenate(pieces) if pieces else np.empty(0)
    np.testing.assert_array_equal(joined, array.ravel()[start:stop])
    assert len(found) <= 2 * max(len(shape) - 1, 0) + 1


def test_boxes_are_not_smaller_than_they_need_to_be() -> None:
    assert list(boxes((2, 3), 0, 6)) == [(slice(0, 2),)]
    assert list(boxes((4, 3), 1, 11)) == [
        (0, slice(1, 3)),
        (slice(1, 3),),
        (3, slice(0, 2)),
    ]


def test_a_stretch_beyond_the_array_is_our_fault() -> None:
    with pytest.raises(AssertionError, match="beyond the array"):
        list(boxes((2, 3), 0, 7))
