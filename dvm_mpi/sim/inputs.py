"""What a record can tell of memory that was loaded from files: what somebody saw of it.

A record does not hold the inputs of a run. A byte of theirs that an attempt loaded before anybody
had stored it, or that nobody ever stored, is known by that; the others never mattered.
"""

from __future__ import annotations

from collections.abc import Iterable

from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.sim.history import History, Span


class _Masked:
    """Bytes of some pages, as far as they are known."""

    def __init__(self) -> None:
        self.content: dict[int, bytearray] = {}
        #: One byte for each byte of the page, 1 where it is known.
        self.known: dict[int, bytearray] = {}

    def learn(self, page: int, offset: int, data: bytes, stored: bytearray) -> None:
        """Take bytes that are neither known nor `stored` (1 where they are)."""
        content = self.content.setdefault(page, bytearray(PAGE_BYTES))
        known = self.known.setdefault(page, bytearray(PAGE_BYTES))
        for at, value in enumerate(data, offset):
            if not known[at] and not stored[at]:
                content[at], known[at] = value, 1


def learn_inputs(history: History, spans: Iterable[Span]) -> tuple[tuple[int, bytes], ...]:
    """Return `(address, bytes)` of what the run shows of the memory that was loaded into `spans`.

    Where two attempts disagree the one with the older snapshot counts, and the replay tells the
    other. `spans` begin with a page.
    """
    ends = [(start, start + length) for start, length in spans]
    learned = _Masked()
    stored: dict[int, bytearray] = {}
    orders = iter(history.orders)
    upcoming = next(orders, None)

    def is_input(page: int) -> bool:
        return any(start <= page * PAGE_BYTES < end for start, end in ends)

    def store_until(epoch: float) -> None:
        nonlocal upcoming
        while upcoming is not None and upcoming[1] <= epoch:
            for start, length, _ in history.ended[upcoming[0]].stores:
                for page, offset, _, count in _pieces(start, length):
                    mask = stored.setdefault(page, bytearray(PAGE_BYTES))
                    mask[offset : offset + count] = b"\1" * count
            upcoming = next(orders, None)

    untouched = bytearray(PAGE_BYTES)
    by_snapshot = sorted(
        (history.given[number].snapshot, number)
        for number in history.ended
        if number in history.given
    )
    for snapshot, number in by_snapshot:
        store_until(snapshot)
        for start, length, data in history.ended[number].loads:
            for page, offset, first, count in _pieces(start, length):
                if data is not None and is_input(page):
                    part = data[first : first + count]
                    learned.learn(page, offset, part, stored.get(page, untouched))
    store_until(float("inf"))
    for page, content in history.pages.items():
        if is_input(page):
            learned.learn(page, 0, content, stored.get(page, untouched))
    return tuple(
        (page * PAGE_BYTES, bytes(content)) for page, content in sorted(learned.content.items())
    )


def _pieces(start: int, length: int) -> Iterable[tuple[int, int, int, int]]:
    """Cut a range at pages: `(page, offset in it, offset in the range, length)`."""
    done = 0
    while done < length:
        page, offset = divmod(start + done, PAGE_BYTES)
        count = min(PAGE_BYTES - offset, length - done)
        yield page, offset, done, count
        done += count
