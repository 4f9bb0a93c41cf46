"""HDF5 files: the only module that imports h5py, and only when a file is opened.

h5py's faults become `FileError` (on reading) or `OSError` (on writing, for the caller to name the
place); HDF5's own words stay in the text, in parentheses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import CHUNK_CACHE_BYTES
from dvm_mpi.errors import FileError
from dvm_mpi.io.blocks import Index
from dvm_mpi.values import dataclass

#: What h5py raises, by call and version, for a file that HDF5 cannot make sense of.
FAULTS = (OSError, RuntimeError, KeyError, ValueError, TypeError)

#: HDF5's words for a file that is being written, or whose writer was killed.
_NOT_CLOSED = "file consistency flags"


class Hdf5Source:
    """One dataset of an open file; any byte order, layout and filter that HDF5 reads."""

    def __init__(self, dataset: Any, path: Path, place: str) -> None:
        self._dataset = dataset
        self._path = path
        self._place = place
        self.dtype: np.dtype[Any] = dataset.dtype
        #: A dataset without a value ("null dataspace") has no shape; it counts as empty.
        self.shape: tuple[int, ...] = (0,) if dataset.shape is None else dataset.shape

    @property
    def offset(self) -> int | None:
        """Where the bytes lie in the file, if they lie there in a row; None if they do not."""
        try:
            offset: int | None = self._dataset.id.get_offset()
        except FAULTS:
            # Whoever reads it meets the damage again, and tells it.
            return None
        return offset

    def read(self, index: Index, target: NDArray[Any]) -> None:
        """Read a box; HDF5 converts the byte order."""
        try:
            self._dataset.read_direct(target, index)
        except FAULTS as error:
            raise FileError(
                f"{self._place}: '{self._path}' is damaged: its data cannot be read "
                f"({reason(error)}); make it again"
            ) from error

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._dataset:
            self._dataset.file.close()


class Hdf5File:
    """A file open for reading; a context manager."""

    def __init__(self, file: Any, path: Path, place: str) -> None:
        self._file = file
        self._path = path
        self._place = place

    def __enter__(self) -> Hdf5File:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and every dataset found in it; idempotent."""
        self._file.close()

    def find(self, name: str) -> Hdf5Source | None:
        """Return the dataset of that path; None if there is none or it is something else.

        The source owns the file from now on.
        """
        import h5py

        try:
            item = self._file.get(name)
        except FAULTS as error:
            self.close()
            raise damaged(self._place, self._path, error) from error
        return Hdf5Source(item, self._path, self._place) if isinstance(item, h5py.Dataset) else None

    def datasets(self, count_max: int) -> list[tuple[str, str]]:
        """List up to `count_max` datasets: path, and type with shape."""
        import h5py

        found: list[tuple[str, str]] = []

        def visit(name: str, item: object) -> bool | None:
            if isinstance(item, h5py.Dataset):
                found.append((name, f"{item.dtype.name} {item.shape}"))
            return True if len(found) >= count_max else None

        try:
            self._file.visititems(visit)
        except FAULTS as error:
            self.close()
            raise damaged(self._place, self._path, error) from error
        return found

    def check_place(self, name: str) -> None:
        """Check that a dataset of that path can be made or replaced."""
        import h5py

        parts = name.split("/")
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            if isinstance(self._file.get(above), h5py.Dataset):
                raise FileError(
                    f"{self._place}: '{above}' in '{self._path}' is a dataset, so nothing can be "
                    "put below it; choose another path"
                )
        if isinstance(self._file.get(name), h5py.Group):
            raise FileError(
                f"{self._place}: '{name}' in '{self._path}' is a group, which would be lost; "
                "choose another dataset name"
            )

    def holds_others(self, replaced: set[str]) -> bool:
        """Whether there is anything besides the datasets `replaced` and the groups above them."""
        above = {"/".join(n.split("/")[:d]) for n in replaced for d in range(1, n.count("/") + 1)}
        others: list[str] = []
        self._file.visit_links(
            lambda name: others.append(name) if name not in replaced | above else None
        )
        return bool(others) or bool(self._file.attrs)


def open_file(path: Path, place: str) -> Hdf5File:
    """Open a file for reading; `place` heads the message.

    Raises
    ------
    FileError
        It cannot be read, is shorter than HDF5 knows it to be, damaged, or not HDF5 at all.
    """
    import h5py

    try:
        with path.open("rb") as probe:
            probe.read(1)
        if not h5py.is_hdf5(path):
            raise FileError(
                f"{place}: '{path}' is not an HDF5 file; give one, or an array in a .npy file"
            )
        return Hdf5File(h5py.File(path, "r", rdcc_nbytes=CHUNK_CACHE_BYTES), path, place)
    except PermissionError as error:
        raise FileError(f"{place}: cannot read '{path}': {error.strerror}") from error
    except FAULTS as error:
        raise damaged(place, path, error) from error


def open_grown_file(path: Path, place: str) -> Any:
    """Open a file that grows, or that a killed process left behind; of h5py's own kind.

    Raises
    ------
    FileError
        It cannot be read, is damaged, or not HDF5 at all.
    """
    import h5py

    try:
        with path.open("rb") as probe:
            probe.read(1)
        if not h5py.is_hdf5(path):
            raise FileError(f"{place}: '{path}' is not an HDF5 file")
        try:
            return h5py.File(path, "r")
        except OSError as error:
            if _NOT_CLOSED not in str(error):
                raise
            # Readers of growing files try damaged places again and again: not for other faults.
            return h5py.File(path, "r", swmr=True)
    except FileNotFoundError as error:
        raise FileError(f"{place}: there is no file '{path}'") from error
    except PermissionError as error:
        raise FileError(f"{place}: cannot read '{path}': {error.strerror}") from error
    except FAULTS as error:
        raise damaged(place, path, error) from error


def damaged(place: str, path: Path, error: BaseException) -> FileError:
    """Return what to tell of a file that HDF5 cannot make sense of."""
    return FileError(
        f"{place}: '{path}' is truncated or damaged ({reason(error)}); copy or make it again"
    )


def reason(error: BaseException) -> str:
    """Return HDF5's words in one line."""
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True, slots=True)
class Entry:
    """One dataset to make room for."""

    dataset: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def keeps_others(existing: Path, names: set[str], place: str) -> bool:
    """Whether a file is there that holds more than the datasets `names`, which will be replaced.

    Raises
    ------
    FileError
        What exists is not an HDF5 file, or has something else in a dataset's place.
    """
    if not existing.exists():
        return False
    with open_file(existing, place) as old:
        for name in names:
            old.check_place(name)
        return old.holds_others(names)


def allocate(part: Path, entries: Sequence[Entry]) -> list[int]:
    """Make the datasets, contiguous and not filled, and return where the bytes of each begin.

    `part` is made if it is not there; datasets of these names that it has are replaced.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    import h5py

    try:
        # HDF5 uses the space of deleted datasets again while the file is open, so that a file
        # does not grow from run to run.
        with h5py.File(part, "r+" if part.exists() else "x") as file:
            for entry in entries:
                if entry.dataset in file:
                    del file[entry.dataset]
            return [_allocate_dataset(file, entry) for entry in entries]
    except RuntimeError as error:
        # What fails while the file is closed: a full disk, with the number in HDF5's words.
        number = re.search(r"errno = (\d+)", str(error))
        raise OSError(int(number[1]) if number else 0, reason(error)) from error


def _allocate_dataset(file: Any, entry: Entry) -> int:
    import h5py

    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.CONTIGUOUS)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    dataset = file.create_dataset(entry.dataset, shape=entry.shape, dtype=entry.dtype, dcpl=plan)
    offset = dataset.id.get_offset()
    assert (offset is None) == (dataset.size == 0), "a dataset has no place in its file"
    return offset or 0
