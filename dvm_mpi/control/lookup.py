"""Pages that a worker has asked a home for, and what it says of them when that takes long."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
