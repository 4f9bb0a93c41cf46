from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dvm_mpi.io.blocks import ByteStream, regroup, slab_shape, slabs

shapes = st.lists(st.integers(0, 7), min_size=0, max_size=4).map(tuple)


@settings(max_examples=60)
@given(shapes, st.integers(8, 400))
@example((2, 3), 16)
@example((2, 3), 23)
def test_slabs_are_the_array_in_c_order(shape: tuple[int, ...], bytes_max: int) -> None:
    array = np.arange(int(np.prod(shape, dtype=int)), dtype=np.int64).reshape(shape)
    pieces = []
    for index in slabs(shape, 8, bytes_max):
        piece = array[index]
        assert piece.shape == slab_shape(shape, index)
        assert 0 < piece.nbytes <= bytes_max
        pieces.append(np.asarray(piece).ravel())
    joined = np.concatenate(pieces) if pieces else np.empty(0)
    np.testing.assert_array_equal(joined, array.ravel())


def test_slabs_are_not_smaller_than_they_need_to_be() -> None:
    assert len(list(slabs((100, 3), 8, 24 * 10))) == 10
    assert list(slabs((2, 3), 8, 1000)) == [(slice(0, 2),)]


def test_a_slab_must_hold_an_element() -> None:
    with pytest.raises(AssertionError, match="one element must fit"):
        list(slabs((4,), 8, 7))


def _pieces(data: bytes, cuts: list[int]) -> list[NDArray[np.uint8]]:
    whole = np.frombuffer(data, np.uint8)
    return np.split(whole, sorted(cut % (len(data) + 1) for cut in cuts))


@settings(max_examples=60)
@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6), st.integers(1, 20))
def test_regroup_gives_equal_chunks(data: bytes, cuts: list[int], chunk_bytes: int) -> None:
    chunks = [(at, bytes(c)) for at, c in regroup(_pieces(data, cuts), chunk_bytes)]
    assert b"".join(c for _, c in chunks) == data
    assert [at for at, _ in chunks] == list(range(0, len(data), chunk_bytes))
    assert all(len(c) == chunk_bytes for _, c in chunks[:-1])


@settings(max_examples=60)
@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6), st.integers(1, 20))
def test_a_stream_gives_what_is_asked_for(data: bytes, cuts: list[int], take: int) -> None:
    stream = ByteStream(_pieces(data, cuts))
    taken = b""
    while len(taken) < len(data):
        target = np.zeros(min(take, len(data) - len(taken)), np.uint8)
        stream.fill(target)
        taken += target.tobytes()
    assert taken == data
    stream.check_ended()


def test_a_stream_tells_too_few_and_too_many_bytes() -> None:
    stream = ByteStream([np.zeros(3, np.uint8)])
    with pytest.raises(AssertionError, match="2 bytes short"):
        stream.fill(np.zeros(5, np.uint8))
    stream = ByteStream([np.zeros(3, np.uint8)])
    stream.fill(np.zeros(2, np.uint8))
    with pytest.raises(AssertionError, match="more bytes"):
        stream.check_ended()
