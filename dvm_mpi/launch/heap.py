"""How the C library gives memory back: a rank's process keeps some, for the next message."""

from __future__ import annotations

import ctypes
from typing import Final

from dvm_mpi.config import HEAP_KEPT_BYTES, HEAP_PIECE_BYTES_MAX

#: Parameters of `mallopt`, of glibc.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> bool:
    """Let arrays of usual sizes reuse memory instead of taking new pages; say whether that works.

    Left alone, the C library takes new pages from the system for every array of more than 128 KiB,
    and touching them for the first time takes longer than most arithmetic on them.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(_TRIM_THRESHOLD, HEAP_KEPT_BYTES)
    return bool(mallopt(_MMAP_THRESHOLD, HEAP_PIECE_BYTES_MAX) and kept)
