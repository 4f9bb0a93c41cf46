"""The rank's view of memory: 64 TiB of virtual memory at a fixed host address.

DISA address A is host address VIEW + A, so that a checked access is an addition. Beside the view
lie a flag byte for each page, a mask byte for each eight bytes (which of them were stored), the
epochs of each cached page, the number of the note that it is held by and, for engines that track
loads, a second mask and a byte for each page. All are reserved, not committed: a page takes memory
when it is first touched. One process has one view; engines that share it take turns (`claim`).

The addresses lie below the kernel's places for libraries and position-independent programs, and
are fixed because a floating reservation of this size pushes mappings too far apart for linkers.
The invariant to remember: where no flag is set, the view reads as zero and the masks of
stored bytes are zero; the masks of loaded bytes are zero where `LOADED` is.
"""

from __future__ import annotations

import ctypes
import errno
import os
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.errors import LimitError
from dvm_mpi.layout import PAGE_BYTES, SR_END, STACKS_END, STACKS_START, TEXT_START, WORD_BYTES

PAGE_COUNT: Final = SR_END // PAGE_BYTES
MASK_BYTES: Final = PAGE_BYTES // WORD_BYTES

#: Host addresses of the parts.
FLAGS: Final = 0x0100_0000_0000
LOADED: Final = 0x0120_0000_0000
EPOCHS: Final = 0x0140_0000_0000
SERIALS: Final = 0x0190_0000_0000
MASKS: Final = 0x0200_0000_0000
LOAD_MASKS: Final = 0x0B00_0000_0000
VIEW: Final = 0x1400_0000_0000
EPOCH_ROW_BYTES: Final = 2 * WORD_BYTES
#: Pages of a huge page of the processor; such a stretch begins at a multiple of it.
WIDE_PAGES: Final = (2 << 20) // PAGE_BYTES
assert VIEW // PAGE_BYTES % WIDE_PAGES == 0

#: (host address, bytes, name). One page more than needed at the end of the masks: the mask of
#: an access is written as two bytes.
_PARTS: Final = (
    (FLAGS, PAGE_COUNT, "page flags"),
    (LOADED, PAGE_COUNT, "notes of loaded pages"),
    (EPOCHS, PAGE_COUNT * EPOCH_ROW_BYTES, "page epochs"),
    (SERIALS, PAGE_COUNT * WORD_BYTES, "when pages were installed"),
    (MASKS, SR_END // WORD_BYTES + PAGE_BYTES, "masks of stored bytes"),
    (LOAD_MASKS, SR_END // WORD_BYTES, "masks of loaded bytes"),
    (VIEW, SR_END, "the shared and private regions"),
)
assert all(a + n <= b for (a, n, _), (b, _, _) in pairwise(_PARTS))

#: What automatic stacks may have touched: host address, and bytes of the view for each byte there.
_PARTS_OF_STACKS: Final = (
    (FLAGS, PAGE_BYTES),
    (LOADED, PAGE_BYTES),
    (MASKS, WORD_BYTES),
    (LOAD_MASKS, WORD_BYTES),
    (VIEW, 1),
)
assert all(edge // PAGE_BYTES % PAGE_BYTES == 0 for edge in (STACKS_START, STACKS_END))

# Flags of a page.
#: The running attempt may load here; may store here; its stores here are marked in the mask.
READ: Final = 1
WRITE: Final = 2
TRACK: Final = 4
#: The page holds a frame as of its epochs.
CACHED: Final = 8
#: The running attempt has stored here: the content before is saved aside.
DIRTY: Final = 16
#: It belongs to the automatic stack of a child that the running attempt created.
CHILD: Final = 32
#: It is on the list of pages that the running attempt touched.
LISTED: Final = 64
#: A private page that instructions name directly: never checked, always zeroed.
STATIC: Final = 128
#: A shared page, while loads are tracked: the attempt may load here, and each load is noted. It
#: stands in for READ, so that the fast path of loads knows nothing of it.
NOTED: Final = STATIC

_BYTE: Final = np.dtype("u1")
_WORD: Final = np.dtype("<i8")
_PROT_READ_WRITE: Final = 1 | 2
_MAP_PRIVATE: Final = 0x2
_MAP_ANONYMOUS: Final = 0x20
_MAP_NORESERVE: Final = 0x4000
_MAP_FIXED: Final = 0x10
_MAP_FIXED_NOREPLACE: Final = 0x100000
_MADV_DONTNEED: Final = 4
_MADV_HUGEPAGE: Final = 14
_MADV_NOHUGEPAGE: Final = 15
_MADV_POPULATE_WRITE: Final = 23


class Tenant(Protocol):
    """An engine that may have to leave the view to another."""

    def vacate(self) -> None:
        """Set aside everything in the view and leave it zero, without any flag."""


class AddressSpace:
    """The reservation; `AddressSpace.shared()` makes it when it is first needed."""

    _instance: AddressSpace | None = None

    def __init__(self) -> None:
        self._libc = _open_libc()
        for address, length, name in _PARTS:
            self._reserve(address, length, name)
        #: (PAGE_COUNT, PAGE_BYTES) uint8.
        self.pages = _array(VIEW, SR_END, _BYTE).reshape(PAGE_COUNT, PAGE_BYTES)
        #: (PAGE_COUNT,) uint8.
        self.flags = _array(FLAGS, PAGE_COUNT, _BYTE)
        #: (PAGE_COUNT, MASK_BYTES) uint8.
        self.masks = _array(MASKS, SR_END // WORD_BYTES, _BYTE).reshape(PAGE_COUNT, MASK_BYTES)
        #: (PAGE_COUNT,) uint8: 1 where the running attempt has loaded bytes that count.
        self.loaded = _array(LOADED, PAGE_COUNT, _BYTE)
        #: (PAGE_COUNT, MASK_BYTES) uint8: which bytes those are.
        self.load_masks = _array(LOAD_MASKS, SR_END // WORD_BYTES, _BYTE).reshape(
            PAGE_COUNT, MASK_BYTES
        )
        #: (PAGE_COUNT, 2) int64: version, known unchanged until.
        self.epochs = _array(EPOCHS, PAGE_COUNT * EPOCH_ROW_BYTES, _WORD).reshape(PAGE_COUNT, 2)
        #: (PAGE_COUNT,) int64: by which installation a page came; 0 where none is cached.
        self.serials = _array(SERIALS, PAGE_COUNT * WORD_BYTES, _WORD)
        self._tenant: Tenant | None = None
        #: The text that is in the view: the same for all engines of a machine.
        self._text = b""

    @classmethod
    def shared(cls) -> AddressSpace:
        """Return the process's only view.

        Raises
        ------
        LimitError
            The process may not reserve so much, or something else lies at its addresses.
        """
        if cls._instance is None:
            cls._instance = cls()
        return cls._instance

    def claim(self, tenant: Tenant) -> bool:
        """Make `tenant` the one whose pages are in the view; return whether that is new."""
        if self._tenant is tenant:
            return False
        if self._tenant is not None:
            self._tenant.vacate()
        self._tenant = tenant
        return True

    def leave(self, tenant: Tenant) -> None:
        """Note that `tenant`, if it is in the view, has vacated it for good."""
        if self._tenant is tenant:
            self._tenant = None

    def holds(self, tenant: Tenant) -> bool:
        """Return whether the pages in the view are those of `tenant`."""
        return self._tenant is tenant

    def show_text(self, text: bytes) -> None:
        """Make `text` the bytes at TEXT_START."""
        if text is not self._text:
            first = TEXT_START // PAGE_BYTES
            self.release(np.arange(first, first - -len(self._text) // PAGE_BYTES))
            flat = self.pages.reshape(-1)
            flat[TEXT_START : TEXT_START + len(text)] = np.frombuffer(text, dtype=np.uint8)
            self._text = text

    def peek(self, address: int, length: int) -> bytes:
        """Return bytes of the view, whoever may see them."""
        return self.pages.reshape(-1)[address : address + length].tobytes()

    def release(self, pages: NDArray[np.int64]) -> None:
        """Give back the memory of pages without flags; they read as zero. `pages` is sorted."""
        self._give_back(VIEW, pages)
        # The masks of eight neighbours share a page, which must stay while one of them is in use.
        groups = pages // (PAGE_BYTES // MASK_BYTES)
        groups = groups[np.diff(groups, prepend=-1) != 0]
        is_dirty = (self.flags.reshape(-1, PAGE_BYTES // MASK_BYTES)[groups] & DIRTY).any(axis=1)
        self._give_back(MASKS, groups[~is_dirty])
        is_loaded = self.loaded.reshape(-1, PAGE_BYTES // MASK_BYTES)[groups].any(axis=1)
        self._give_back(LOAD_MASKS, groups[~is_loaded])

    def widen(self, first: int) -> None:
        """Have memory for WIDE_PAGES pages from one on, in a huge page where the system has one.

        The wish is taken back at once. A system that refuses says nothing. `widening.widen` asks
        for the same where compiled code stores. That cannot call this, and is made of this module,
        so that it cannot be called from here; nor would a call for 2 MiB be worth an entry.
        """
        address, length = VIEW + first * PAGE_BYTES, WIDE_PAGES * PAGE_BYTES
        for advice in (_MADV_HUGEPAGE, _MADV_POPULATE_WRITE, _MADV_NOHUGEPAGE):
            self._libc.madvise(address, length, advice)

    def forget_stacks(self) -> None:
        """Give back all that automatic stacks have taken, while no attempt is in the view.

        The system's own tables go as well, which they do not where pages are only released: every
        stack has an address of its own, and a million of them leave 24 MB of tables behind.
        """
        for base, address_bytes in _PARTS_OF_STACKS:
            start = base + STACKS_START // address_bytes
            length = (STACKS_END - STACKS_START) // address_bytes
            is_mapped = self._map(start, length, _MAP_FIXED)
            assert is_mapped, os.strerror(ctypes.get_errno())

    def _give_back(self, base: int, pages: NDArray[np.int64]) -> None:
        """Release pages counted from a host address, neighbours in one call."""
        if len(pages) == 0:
            return
        breaks = np.flatnonzero(np.diff(pages) != 1) + 1
        firsts = pages[np.concatenate([[0], breaks])]
        ends = pages[np.concatenate([breaks, [len(pages)]]) - 1] + 1
        for first, end in zip(firsts.tolist(), ends.tolist(), strict=True):
            result = self._libc.madvise(
                base + first * PAGE_BYTES, (end - first) * PAGE_BYTES, _MADV_DONTNEED
            )
            assert result == 0, os.strerror(ctypes.get_errno())

    def _reserve(self, address: int, length: int, name: str) -> None:
        if not self._map(address, length, _MAP_FIXED_NOREPLACE):
            code = ctypes.get_errno()
            raise LimitError(
                f"cannot reserve {length >> 30} GiB of virtual memory for {name} at "
                f"{address:#x}: {os.strerror(code)}. {_remedy(code)}"
            )

    def _map(self, address: int, length: int, placing: int) -> bool:
        """Map memory that reads as zero; return whether it is where it should be."""
        flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE | placing
        got = self._libc.mmap(address, length, _PROT_READ_WRITE, flags, -1, 0)
        is_mapped: bool = got == address
        if is_mapped:
            # With huge pages one stored word would take 2 MiB.
            self._libc.madvise(address, length, _MADV_NOHUGEPAGE)
        return is_mapped


def _remedy(code: int) -> str:
    if code == errno.EEXIST:
        return "Something else in this process lies there already."
    return (
        "DVM needs 81 TiB of address space (not of memory): run without 'ulimit -v', and with "
        "the kernel's vm.overcommit_memory at 0 or 1."
    )


def _open_libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (
        ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
    )  # fmt: skip
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return libc


def _array(address: int, length: int, element: np.dtype[Any]) -> NDArray[Any]:
    memory = memoryview((ctypes.c_uint8 * length).from_address(address))
    return np.frombuffer(memory, dtype=element)
