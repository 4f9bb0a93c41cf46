"""The reference's memory: cached frames, and what one attempt sees of them and stores.

Pages are Python byte arrays in dicts. `FrameCache` holds snapshot pages as they were read from
their homes; `AttemptMemory` adds the attempt's own bytes on top and checks every access.
The invariant to remember: a frame is never changed by an attempt.

Rules that the contract leaves open, decided here for all engines:

- An access that spans two pages is checked page by page, the lower first; the address at fault is
  the access's first byte on the page at fault. An access past the end of the address space
  goes on at address 0, which is unmapped.
- A page with declared bytes must be known unchanged until the newest commit to it, as the ranges'
  `newest` tells; any other page until the snapshot.
- Only an operand that names exactly CELL_STDIN or CELL_CONSOLE has the effect of that cell
  (reference.py). Their bytes are otherwise plain private memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.engine.interface import TrapKind
from dvm_mpi.layout import (
    GUARD_BYTES,
    PAGE_BYTES,
    PAGE_SHIFT,
    PR_END,
    PR_START,
    SR_END,
    SR_START,
    STACKS_END,
    STACKS_START,
    TEXT_END,
    TEXT_START,
)

_MASK64: Final = (1 << 64) - 1
_ZERO_PAGE: Final = bytes(PAGE_BYTES)

#: A half-open byte range as `(start, length)`.
Span = tuple[int, int]


class FaultError(Exception):
    """The attempt traps; `address` is the one at fault, or -1."""

    def __init__(self, kind: TrapKind, address: int = -1) -> None:
        super().__init__(kind, address)
        self.kind = kind
        self.address = address


class MissedError(Exception):
    """A page is needed that the cache does not hold as of the snapshot."""

    def __init__(self, page: int) -> None:
        super().__init__(page)
        self.page = page


class Frame:
    """One cached page: read at epoch `version`, known unchanged up to epoch `until`."""

    __slots__ = ("data", "until", "version")

    def __init__(self, version: int, until: int, data: bytes) -> None:
        self.version = version
        self.until = until
        self.data = data


def needs_home(page: int) -> bool:
    """Return whether a page's bytes live at a home: not those of PR, text, automatic stacks."""
    address = page << PAGE_SHIFT
    return SR_START <= address and not (
        TEXT_START <= address < TEXT_END or STACKS_START <= address < STACKS_END
    )


class FrameCache:
    """Cached frames by page, the longest held first."""

    def __init__(self, cache_bytes: int) -> None:
        self._frames: dict[int, Frame] = {}
        self._frames_max = max(cache_bytes // PAGE_BYTES, 1)

    def get(self, page: int) -> Frame | None:
        """Return the frame cached for a page."""
        return self._frames.get(page)

    def holds(self, page: int, newest: int, snapshot: int) -> bool:
        """Return whether the cached frame is the page as of `snapshot`."""
        frame = self._frames.get(page)
        return (
            frame is not None and frame.version <= snapshot and frame.until >= min(newest, snapshot)
        )

    def put(self, page: int, frame: Frame) -> None:
        """Cache a frame in place of an older or newer one of its page."""
        self._frames.pop(page, None)
        self._frames[page] = frame

    def evict(self, keep: int) -> None:
        """Drop the longest held frames beyond the limit, but none of the `keep` newest."""
        surplus = len(self._frames) - max(self._frames_max, keep)
        for page in list(self._frames)[: max(surplus, 0)]:
            del self._frames[page]

    def versions(self, pages: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the version cached for each page, -1 where there is none."""
        frames = (self._frames.get(page) for page in pages.tolist())
        found = [-1 if frame is None else frame.version for frame in frames]
        return np.array(found, dtype=np.int64)


class Coverage:
    """Which bytes an attempt may touch, beside PR, text and automatic stacks."""

    def __init__(self, grants: list[tuple[int, int, int]], others: list[Span]) -> None:
        #: Declared ranges `(start, length, newest)`, sorted and disjoint.
        self._grants = grants
        #: Status page, explicit stacks (own and children's).
        self._others = others
        #: Blocks that `malloc` returned to this attempt.
        self.mallocs: list[Span] = []

    def add(self, span: Span) -> None:
        """Admit an explicit stack of a child."""
        self._others.append(span)

    def spans(self) -> Iterator[Span]:
        """Yield all ranges, grants first."""
        yield from ((start, length) for start, length, _ in self._grants)
        yield from self._others
        yield from self.mallocs

    def covers_page(self, page: int) -> bool:
        """Return whether any byte of the page is covered."""
        start = page << PAGE_SHIFT
        return any(_overlap(span, start, PAGE_BYTES) for span in self.spans())

    def is_malloc(self, page: int) -> bool:
        """Return whether the page is fresh memory of this attempt."""
        start = page << PAGE_SHIFT
        return any(_overlap(span, start, PAGE_BYTES) for span in self.mallocs)

    def newest(self, page: int, snapshot: int) -> int:
        """Return the epoch until which the page must be known unchanged."""
        start = page << PAGE_SHIFT
        return max(
            (newest for s, n, newest in self._grants if _overlap((s, n), start, PAGE_BYTES)),
            default=snapshot,
        )

    def first_uncovered(self, addresses: Iterable[int]) -> int | None:
        """Return the first of `addresses` that nothing covers."""
        for address in addresses:
            if not any(start <= address < start + length for start, length in self.spans()):
                return address
        return None


def _overlap(span: Span, start: int, length: int) -> int:
    """Return how many bytes two ranges share."""
    return max(min(span[0] + span[1], start + length) - max(span[0], start), 0)


class AttemptMemory:
    """Memory as one attempt sees it: its snapshot's pages under its own stores."""

    def __init__(
        self,
        frames: FrameCache,
        text: bytes,
        coverage: Coverage,
        snapshot: int,
        stack: Span,
        stack_bytes: int,
        allow_undeclared: bool,
        tracks_loads: bool,
        touched_pages_max: int = 0,
    ) -> None:
        """Make an attempt's memory, all private pages zero.

        `stack` is the own automatic stack, length 0 if there is none; `stack_bytes` the
        length of automatic stacks, in whole pages; `text` the bytes at TEXT_START;
        `touched_pages_max` how many pages of SR may be touched, 0 for any number.
        """
        self._frames = frames
        self._text = text
        self.coverage = coverage
        self._snapshot = snapshot
        self._stack = stack
        self._slot_bytes = GUARD_BYTES + stack_bytes
        self._allow_undeclared = allow_undeclared
        self._tracks_loads = tracks_loads
        self._touched_pages_max = touched_pages_max
        #: Pages of SR that were loaded from or stored to, text and automatic stacks left out.
        self._touched: set[int] = set()
        #: Automatic stacks of children created in this attempt, by each of their pages.
        self.child_stacks: dict[int, Span] = {}
        #: Pages of PR and of the own automatic stack.
        self._private: dict[int, bytearray] = {}
        #: Own versions of SR pages that were stored to, fresh ones included.
        self._changed: dict[int, bytearray] = {}
        #: Addresses of stored SR bytes, own automatic stack left out.
        self.stored: set[int] = set()
        #: Bytes of the snapshot that were loaded before they were stored, with their values.
        self.loaded: dict[int, int] = {}
        #: Accesses that only `allow_undeclared` admitted, in order; the engine takes them.
        self.undeclared: list[int] = []
        #: Pages that passed the check for loads, with their content; `forget` empties it.
        self._checked: dict[int, bytes | bytearray] = {}

    def load(self, address: int, width: int) -> int:
        """Return the unsigned little-endian value of `width` bytes; raise as `load_bytes`."""
        page, offset = address >> PAGE_SHIFT, address % PAGE_BYTES
        content = self._checked.get(page)
        if content is not None and offset + width <= PAGE_BYTES and not self._tracks_loads:
            return int.from_bytes(content[offset : offset + width], "little")
        return int.from_bytes(self.load_bytes(address, width), "little")

    def load_bytes(self, address: int, length: int) -> bytes:
        """Return `length` bytes; raise FaultError or MissedError."""
        data = self._look(address, length)
        if self._tracks_loads:
            self._note(address, data)
        return data

    def _look(self, address: int, length: int) -> bytes:
        parts = [self._readable(a)[a % PAGE_BYTES :][:n] for a, n in _pieces(address, length)]
        return b"".join(parts)

    def _note(self, address: int, data: bytes) -> None:
        """Note a load that took place, as far as its bytes came from the snapshot."""
        for start, length in _pieces(address, len(data)):
            page = start >> PAGE_SHIFT
            if needs_home(page) and not self.coverage.is_malloc(page):
                for place in range(start, start + length):
                    if place not in self.stored:
                        self.loaded[place] = data[place - address]

    def store(self, address: int, width: int, value: int) -> None:
        """Store the low `width` bytes of `value`; nothing is stored where a check fails."""
        pieces = list(_pieces(address, width))
        pages = [self._writable(a, n) for a, n in pieces]
        data = (value & (1 << 8 * width) - 1).to_bytes(width, "little")
        for (start, length), page in zip(pieces, pages, strict=True):
            offset = start % PAGE_BYTES
            page[offset : offset + length], data = data[:length], data[length:]
            if self._is_tracked(start):
                self.stored.update(range(start, start + length))

    def fill_stack(self, start: int, data: bytes) -> None:
        """Put the creator's bytes into the own automatic stack."""
        for address, length in _pieces(start, len(data)):
            offset = address % PAGE_BYTES
            page = self._private.setdefault(address >> PAGE_SHIFT, bytearray(PAGE_BYTES))
            page[offset : offset + length], data = data[:length], data[length:]

    def stored_byte(self, address: int) -> int:
        """Return a byte of `stored`."""
        return self._changed[address >> PAGE_SHIFT][address % PAGE_BYTES]

    def peek(self, address: int, width: int) -> int | None:
        """Return a value for a message, None where the attempt cannot see it now."""
        reported = len(self.undeclared)
        touched_pages_max, self._touched_pages_max = self._touched_pages_max, 0
        try:
            return int.from_bytes(self._look(address, width), "little")
        except (FaultError, MissedError):
            return None
        finally:
            del self.undeclared[reported:]
            self._touched_pages_max = touched_pages_max

    def forget(self) -> None:
        """Check pages anew from now on: frames were replaced or dropped."""
        self._checked.clear()

    def covered_or_private(self) -> Iterator[Span]:
        """Yield every range that the attempt may touch, for messages; PR and text left out."""
        yield self._stack
        yield from self.child_stacks.values()
        yield from self.coverage.spans()

    # --- checks -------------------------------------------------------------------------------
    def _readable(self, address: int) -> bytes | bytearray:
        page = address >> PAGE_SHIFT
        found = self._checked.get(page)
        if found is None:
            found, is_declared = self._load_check(page, address)
            if is_declared:
                self._checked[page] = found
        return found

    def _load_check(self, page: int, address: int) -> tuple[bytes | bytearray, bool]:
        """Return the page's content, and whether other accesses need no report."""
        _check_mapped(address)
        if address < PR_END or self._in_own_stack(address):
            return self._private.setdefault(page, bytearray(PAGE_BYTES)), True
        if TEXT_START <= address < TEXT_END:
            first = (page << PAGE_SHIFT) - TEXT_START
            return self._text[first : first + PAGE_BYTES].ljust(PAGE_BYTES, b"\0"), True
        is_declared = self._check_declared(page, address)
        return self._content(page), is_declared

    def _writable(self, address: int, length: int) -> bytearray:
        page = address >> PAGE_SHIFT
        if page in self._changed and not self._allow_undeclared:
            return self._changed[page]
        _check_mapped(address)
        if address < PR_END or self._in_own_stack(address):
            return self._private.setdefault(page, bytearray(PAGE_BYTES))
        if TEXT_START <= address < TEXT_END:
            raise FaultError(TrapKind.TEXT_STORE, address)
        if self._check_declared(page, address) and self._allow_undeclared:
            self._report_uncovered(address, length)
        if page not in self._changed:
            self._changed[page] = bytearray(self._content(page))
            self._checked.pop(page, None)
        return self._changed[page]

    def _check_declared(self, page: int, address: int) -> bool:
        """Check an SR access outside the text; return False if it is only admitted."""
        if STACKS_START <= address < STACKS_END:
            if page not in self.child_stacks:
                is_guard = (address - STACKS_START) % self._slot_bytes < GUARD_BYTES
                kind = TrapKind.STACK_OVERFLOW if is_guard else TrapKind.UNDECLARED
                raise FaultError(kind, address)
            return True
        is_covered = self.coverage.covers_page(page)
        if not is_covered and not self._allow_undeclared:
            raise FaultError(TrapKind.UNDECLARED, address)
        if page not in self._changed and not self.coverage.is_malloc(page):
            newest = self.coverage.newest(page, self._snapshot)
            if not self._frames.holds(page, newest, self._snapshot):
                raise MissedError(page)
        self._count(page, address)
        if not is_covered:
            self.undeclared.append(address)
        return is_covered

    def _count(self, page: int, address: int) -> None:
        """Count a page that is touched for the first time; FaultError if it is one too many."""
        if page not in self._touched and len(self._touched) == self._touched_pages_max > 0:
            raise FaultError(TrapKind.MEMORY_EXHAUSTED, address)
        self._touched.add(page)

    def _report_uncovered(self, address: int, length: int) -> None:
        if not STACKS_START <= address < STACKS_END:
            uncovered = self.coverage.first_uncovered(range(address, address + length))
            if uncovered is not None:
                self.undeclared.append(uncovered)

    def _content(self, page: int) -> bytes | bytearray:
        changed = self._changed.get(page)
        if changed is not None:
            return changed
        frame = None
        if page not in self.child_stacks and not self.coverage.is_malloc(page):
            frame = self._frames.get(page)
        return _ZERO_PAGE if frame is None else frame.data

    def _in_own_stack(self, address: int) -> bool:
        base, length = self._stack
        return base <= address < base + length

    def _is_tracked(self, address: int) -> bool:
        return address >= SR_START and not self._in_own_stack(address)


def _check_mapped(address: int) -> None:
    if not PR_START <= address < SR_END:
        raise FaultError(TrapKind.UNMAPPED, address)


def _pieces(address: int, length: int) -> Iterator[Span]:
    """Split an access at page boundaries, going round at the end of the address space."""
    while length > 0:
        taken = min(length, PAGE_BYTES - address % PAGE_BYTES)
        yield address, taken
        address = (address + taken) & _MASK64
        length -= taken
