"""The row queue beside `collections.deque`."""

from __future__ import annotations

from collections import deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dvm_mpi.control.queue import RowQueue

#: Positive: push so many rows; negative or zero: pop so many, then peek.
STEPS = st.lists(st.integers(-40, 40), min_size=15, max_size=60)


@given(steps=STEPS, capacity=st.integers(1, 8))
def test_agrees_with_a_deque(steps: list[int], capacity: int) -> None:
    """Small capacities make the ring wrap and grow, also while it is wrapped."""
    queue, naive = RowQueue(capacity), deque[int]()
    pushed = 0
    for step in steps:
        if step > 0:
            queue.push(np.arange(pushed, pushed + step))
            naive.extend(range(pushed, pushed + step))
            pushed += step
        else:
            taken = [naive.popleft() for _ in range(min(-step, len(naive)))]
            assert queue.pop(-step).tolist() == taken
        assert len(queue) == len(naive)
        assert queue.peek(7).tolist() == list(naive)[:7]


@given(steps=STEPS, capacity=st.integers(1, 8), in_order_max=st.integers(0, 60))
def test_a_long_queue_gives_the_last_ones_first(
    steps: list[int], capacity: int, in_order_max: int
) -> None:
    """As long as it is long when it is asked; what it shows is what it gives."""
    queue, naive = RowQueue(capacity, in_order_max), deque[int]()
    pushed = 0
    for step in steps:
        if step > 0:
            queue.push(np.arange(pushed, pushed + step))
            naive.extend(range(pushed, pushed + step))
            pushed += step
        else:
            take = naive.pop if len(naive) > in_order_max else naive.popleft
            taken = [take() for _ in range(min(-step, len(naive)))]
            assert queue.peek(-step).tolist() == taken
            assert queue.peek(3).tolist()[: len(taken)] == taken[:3]
            assert queue.pop(-step).tolist() == taken
        assert len(queue) == len(naive)


def test_what_was_taken_is_the_takers_own() -> None:
    queue = RowQueue()
    queue.push(np.array([1, 2, 3]))
    queue.peek(2)[:] = 9
    taken = queue.pop(2)
    queue.push(np.array([4, 5]))
    assert taken.tolist() == [1, 2]
    assert queue.pop(9).tolist() == [3, 4, 5]
