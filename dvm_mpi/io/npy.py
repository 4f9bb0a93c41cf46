"""`.npy` files: one array without a name. Objects (pickles) are never read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.errors import FileError
from dvm_mpi.io.blocks import Index

_MAGIC: Final = b"\x93NUMPY"


class NpySource:
    """An array in a file, mapped and read piece by piece; C or Fortran order."""

    def __init__(self, array: NDArray[Any]) -> None:
        self._array: NDArray[Any] | None = array
        self.dtype: np.dtype[Any] = array.dtype
        self.shape: tuple[int, ...] = array.shape

    @property
    def offset(self) -> int | None:
        """Where the bytes lie in the file, if they lie there in C order; None if they do not."""
        assert self._array is not None, "asked after close"
        if isinstance(self._array, np.memmap) and self._array.flags.c_contiguous:
            return int(self._array.offset)
        return None

    def read(self, index: Index, target: NDArray[Any]) -> None:
        """Read a box; only the byte order is converted."""
        assert self._array is not None, "read after close"
        np.copyto(target, self._array[index], casting="equiv")

    def close(self) -> None:
        """Give the mapping back; idempotent."""
        self._array = None


def open_array(path: Path, place: str) -> NpySource:
    """Open an `.npy` file; `place` heads the message.

    Raises
    ------
    FileError
        The file cannot be read, is shorter than its header says, or is none.
    """
    try:
        with path.open("rb") as file:
            is_npy = file.read(len(_MAGIC)) == _MAGIC
        if not is_npy:
            raise FileError(f"{place}: '{path}' is not an .npy file; write it with numpy.save")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise FileError(f"{place}: cannot read '{path}': {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise FileError(
            f"{place}: '{path}' is truncated, damaged or holds objects ({error}); "
            "write it again with numpy.save"
        ) from error
    return NpySource(array)


def allocate(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> int:
    """Make a new file of the array's size; return where its bytes begin; `OSError` if it cannot."""
    header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
    with path.open("xb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        offset = file.tell()
        file.truncate(offset + dtype.itemsize * int(np.prod(shape, dtype=np.int64)))
    return offset
