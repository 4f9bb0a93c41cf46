"""Arrays from files into the machine: checked against their declaration, and read in any part.

The formats themselves are in `hdf5` and `npy`, the options in `specs`, writing in `outputs`.
Nothing here knows homes or epochs: the caller says which bytes it wants, and they are those of the
array in C order, little-endian. Every rank opens an input and reads its own part.

The rule to remember: a file in which the array lies as the machine wants it is read without HDF5
or NumPy, at its offset; everything else goes through them, box by box.
"""

from __future__ import annotations

import errno
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import LISTED_DATASETS_MAX
from dvm_mpi.disa.image import ArrayDeclaration
from dvm_mpi.disa.types import BY_NAME, Kind
from dvm_mpi.errors import FileError
from dvm_mpi.io import hdf5, npy
from dvm_mpi.io.blocks import Index, box_shape, boxes
from dvm_mpi.io.specs import ArraySpec, did_you_mean

_KIND_LETTERS: Final = {Kind.SIGNED: "i", Kind.UNSIGNED: "u", Kind.FLOAT: "f"}
#: NumPy's types by the names that programs use; little-endian, as the machine's memory.
DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    name: np.dtype(f"<{_KIND_LETTERS[t.kind]}{t.width_bytes}") for name, t in BY_NAME.items()
}


class Source(Protocol):
    """An array in an open file."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type in the file, in any byte order."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the file."""

    @property
    def offset(self) -> int | None:
        """Where the array's bytes begin in the file, if they lie there in C order."""

    def read(self, index: Index, target: NDArray[Any]) -> None:
        """Read a box into `target`, converting the byte order; `FileError` if it is damaged."""

    def close(self) -> None:
        """Close the file."""


class InputArray:
    """An open input that agrees with its declaration; a context manager."""

    def __init__(self, spec: ArraySpec, declaration: ArrayDeclaration, source: Source) -> None:
        self.spec = spec
        self.declaration = declaration
        self._dtype = DTYPES[declaration.type_name]
        self._source = source
        #: The file itself and where the array begins in it; -1 if it is read through `_source`.
        self._file = -1
        self._offset = 0
        if source.dtype == self._dtype and (offset := source.offset) is not None:
            self._open_directly(offset)

    def _open_directly(self, offset: int) -> None:
        """Read at `offset` from now on, unless the file does not reach that far."""
        try:
            file = os.open(self.spec.path, os.O_RDONLY)
        except OSError as error:
            raise self._unreadable(error) from error
        if offset + self.declaration.byte_count <= os.fstat(file).st_size:
            self._file, self._offset = file, offset
        else:
            os.close(file)

    def __enter__(self) -> InputArray:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_direct(self) -> bool:
        """Whether the array lies in its file as the machine wants it."""
        return self._file >= 0

    def close(self) -> None:
        """Close the file; idempotent."""
        self._source.close()
        if self.is_direct:
            os.close(self._file)
            self._file = -1

    def read_range(self, start: int, target: NDArray[np.uint8]) -> None:
        """Fill `target` (one-dimensional) with the array's bytes from `start` on.

        Both are multiples of the element's size.

        Raises
        ------
        FileError
            The file is damaged where it was not read before, or was cut since it was opened.
        """
        assert start % self._dtype.itemsize == 0, "a range begins within an element"
        assert target.size % self._dtype.itemsize == 0, "a range ends within an element"
        assert 0 <= start <= self.declaration.byte_count - target.size, "beyond the array"
        if self.is_direct:
            self._read_bytes(start, target)
        else:
            self._read_boxes(start // self._dtype.itemsize, target.view(self._dtype))

    def _read_bytes(self, start: int, target: NDArray[np.uint8]) -> None:
        done = 0
        while done < target.size:
            try:
                count = os.preadv(self._file, [target[done:].data], self._offset + start + done)
            except OSError as error:
                raise self._unreadable(error) from error
            if count == 0:
                raise FileError(
                    f"{self.spec.place}: '{self.spec.path}' became shorter while it was read; "
                    "make sure that nobody writes it, and run again"
                )
            done += count

    def _read_boxes(self, start: int, target: NDArray[Any]) -> None:
        shape, done = self.declaration.shape, 0
        for index in boxes(shape, start, start + target.size):
            part_shape = box_shape(shape, index)
            part = target[done : done + int(np.prod(part_shape, dtype=np.int64))]
            self._source.read(index, part.reshape(part_shape))
            done += part.size

    def _unreadable(self, error: OSError) -> FileError:
        return FileError(f"{self.spec.place}: cannot read '{self.spec.path}': {error.strerror}")


@contextmanager
def told_by(rank: int) -> Iterator[None]:
    """Let errors about files say which rank met them, and on which host.

    Rank 0 has looked at all files first: what another rank does not find is not shared.
    """
    try:
        yield
    except FileError as error:
        hint = "; is the folder shared by all nodes?" if _tells_missing(error) else ""
        raise FileError(f"rank {rank} on host {platform.node()}: {error}{hint}") from error


def _tells_missing(error: FileError) -> bool:
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in {errno.ENOENT, errno.ENOTDIR}


def open_input(spec: ArraySpec, declaration: ArrayDeclaration) -> InputArray:
    """Open an input and compare it with the declaration; the shape must be equal.

    Raises
    ------
    FileError
        The file is missing, unreadable, damaged or of another format; it has no such dataset
        (the text lists those that it has); type or shape differ (the text gives both).
    """
    try:
        is_there, is_file = spec.path.exists(), spec.path.is_file()
    except OSError as error:
        reason = error.strerror or error
        raise FileError(f"{spec.place}: cannot read '{spec.path}': {reason}") from error
    if not is_there:
        missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        raise FileError(f"{spec.place}: {_missing_file(spec)}") from missing
    if not is_file:
        raise FileError(f"{spec.place}: '{spec.path}' is not a file; give the path of one")
    if spec.dataset is None:
        source: Source = npy.open_array(spec.path, spec.place)
    else:
        source = _open_dataset(spec, spec.dataset)
    try:
        _check_agreement(spec, declaration, source)
        return InputArray(spec, declaration, source)
    except FileError:
        source.close()
        raise


def _missing_file(spec: ArraySpec) -> str:
    whole = Path(f"{spec.path}:{spec.dataset}")
    if spec.dataset is not None and holds(whole.exists):
        return f"no dataset is given; '{whole}' is the file, so add ':DATASET'"
    folder = spec.path.parent
    if not holds(folder.is_dir):
        return f"there is no folder '{folder}'; check the path"
    # A folder may be open to those who know its names and closed to those who ask for them.
    names = [p.name for p in folder.iterdir()] if os.access(folder, os.R_OK) else []
    close = did_you_mean(spec.path.name, names)
    return f"there is no file '{spec.path}'{close}; check the path, or make the input first"


def _open_dataset(spec: ArraySpec, dataset: str) -> Source:
    file = hdf5.open_file(spec.path, spec.place)
    source = file.find(dataset)
    if source is not None:
        return source
    found = file.datasets(LISTED_DATASETS_MAX + 1)
    file.close()
    lines = [f"\n  {name}  {what}" for name, what in found[:LISTED_DATASETS_MAX]]
    if len(found) > LISTED_DATASETS_MAX:
        lines.append("\n  ...")
    holds = f"it holds{''.join(lines)}" if lines else "it holds no dataset at all"
    hint = did_you_mean(dataset, (name for name, _ in found))
    raise FileError(f"{spec.place}: '{spec.path}' has no dataset '{dataset}'{hint}; {holds}")


def _check_agreement(spec: ArraySpec, declaration: ArrayDeclaration, source: Source) -> None:
    wanted = DTYPES[declaration.type_name]
    same_type = source.dtype.newbyteorder("<") == wanted
    if same_type and source.shape == declaration.shape:
        return
    if same_type:
        sizes = ", ".join(map(str, (declaration.name, declaration.type_name, *source.shape)))
        remedy = f"declare `.array {sizes}` (or give its sizes with -D), or cut the input to fit"
    else:
        names = [name for name, t in DTYPES.items() if t == source.dtype.newbyteorder("<")]
        declare = f"declare the array as {names[0]}, or " if names else ""
        remedy = f"{declare}convert the input: array.astype('{wanted.str}')"
    raise FileError(
        f"{spec.place}: the file has {source.dtype.name} of shape {source.shape}, but the program "
        f"declares {declaration.type_name} ({wanted.name}) of shape {declaration.shape}; {remedy}"
    )


def holds(question: Callable[[], bool]) -> bool:
    """Ask the system about a path; of one that it will not look up nothing holds."""
    try:
        return question()
    except OSError:
        return False
