"""Records as words, bytes, and rows that take memory when they are touched."""

from __future__ import annotations

import resource

import numpy as np
import pytest

from dvm_mpi.dsm.messages import RUN, TOKEN
from dvm_mpi.dsm.rows import joined, raw, reserved, words_of


def rows_of(count, dtype):
    return np.arange(count * len(dtype.names)).view(dtype)


@pytest.mark.parametrize("dtype", [RUN, TOKEN])
def test_words_are_the_fields_in_their_order(dtype):
    rows = rows_of(5, dtype)
    assert words_of(rows).tolist() == [list(row) for row in rows.tolist()]
    words_of(rows)[3, 1] = -4
    assert rows[3].tolist()[1] == -4, "a view"
    apart = words_of(rows[::2])
    assert apart.tolist() == [list(row) for row in rows[::2].tolist()]
    assert words_of(rows[:0]).shape == (0, len(dtype.names))


def test_joined_rows_are_those_of_numpy():
    parts = [rows_of(3, RUN), rows_of(2, RUN)[1:], rows_of(0, RUN)]
    assert joined(parts).dtype == RUN
    assert joined(parts).tolist() == np.concatenate(parts).tolist()
    assert joined(parts[:1]) is parts[0]
    assert raw(parts[0]).size == parts[0].nbytes


def test_reserved_rows_are_zero_and_take_no_memory():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rows = reserved(RUN, 1 << 27)
    assert len(rows) == 1 << 27
    rows["length"][[5, 1 << 26]] = 7
    assert rows["start"][5] == rows["length"][6] == 0
    assert rows["length"][1 << 26] == 7
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 64 << 10, "KiB, of 3 GiB"
