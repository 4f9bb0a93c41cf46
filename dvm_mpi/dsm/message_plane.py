"""The data plane of transports without windows: all content travels in the messages.

Homes put pages into their answers, and workers put staged bytes into their parts. Nothing moves
beside the messages, so nothing needs the other side's memory; each byte is copied once more.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.dsm.snapshot import Content

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class MessagePlane:
    """`snapshot.DataPlane` that says no more than that there is none."""

    carries_content = True
    waits_for = ""

    def read_frames(self, home: int, frames: Ints, ticket: int) -> NoReturn:
        """Refuse: the content came with the answer."""
        raise AssertionError(f"ticket {ticket}: {frames.size} frames of home {home} to be read")

    def arrived(self) -> list[tuple[int, Content]]:
        """Return nothing: no read is owed."""
        return []

    def write_arena(self, home: int, offset: int, data: Bytes) -> NoReturn:
        """Refuse: the bytes travel with the part."""
        raise AssertionError(f"{data.size} bytes for the arena of home {home} at {offset}")
