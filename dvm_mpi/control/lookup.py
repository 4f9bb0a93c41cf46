"""Pages that a worker has asked a home for, and what it says of them when that takes long."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import LOOKUP_PAGES_MAX
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.dsm.snapshot import Fetch
from dvm_mpi.io.report import counted
from dvm_mpi.layout import PAGE_SHIFT
from dvm_mpi.values import dataclass


@dataclass(slots=True)
class Lookup:
    """Pages that were asked for."""

    home: int
    snapshot: int
    pages: NDArray[np.int64]
    #: What the home was told of them; empty if it was told nothing.
    held: NDArray[np.int64]
    #: The pages that are being read, once the home has answered.
    reading: Fetch | None = None

    def __str__(self) -> str:
        first, end = int(self.pages.min()) << PAGE_SHIFT, (int(self.pages.max()) + 1) << PAGE_SHIFT
        step = "directory" if self.reading is None else "frames"
        return (
            f"{counted(len(self.pages), 'page')} in [{first:#x}, {end:#x}) "
            f"as of epoch {self.snapshot} ({step} of home {self.home})"
        )


def questions(
    geometry: Geometry, pages: NDArray[np.int64], snapshot: int
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield homes and those of `pages` that each is asked for at a time."""
    for home, positions in geometry.group_pages(pages, snapshot):
        for first in range(0, len(positions), LOOKUP_PAGES_MAX):
            yield home, pages[positions[first : first + LOOKUP_PAGES_MAX]]
