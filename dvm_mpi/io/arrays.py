"""Arrays between files and the machine: inputs are checked and read, outputs written and renamed.

The formats themselves are in `hdf5` and `npy`, the options in `specs`. Nothing here knows homes or
epochs: the caller moves the bytes, which are the array in C order, little-endian.

The rule to remember: a file that is there is never touched until everything that replaces it is
complete. Other datasets of an HDF5 file that is written to are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import FILE_CHUNK_BYTES, LISTED_DATASETS_MAX
from dvm_mpi.disa.image import ArrayDeclaration
from dvm_mpi.disa.types import BY_NAME, Kind
from dvm_mpi.errors import FileError
from dvm_mpi.io import hdf5, npy
from dvm_mpi.io.blocks import ByteStream, Index, regroup, slab_shape, slabs
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

    def read(self, index: Index, target: NDArray[Any]) -> None:
        """Read a slab into `target`, converting the byte order; `FileError` if it is damaged."""

    def close(self) -> None:
        """Close the file."""


class InputArray:
    """An open input that agrees with its declaration; a context manager."""

    def __init__(self, spec: ArraySpec, declaration: ArrayDeclaration, source: Source) -> None:
        self.spec = spec
        self.declaration = declaration
        self._source = source

    def __enter__(self) -> InputArray:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    def chunks(
        self, chunk_bytes: int = FILE_CHUNK_BYTES
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Read the array's bytes as the machine holds them.

        Yields
        ------
        `(byte_offset, data)`: all chunks are `chunk_bytes` long but the last, so with a multiple
        of the page size each begins at a page. `data` is valid until the next chunk is read.

        Raises
        ------
        FileError
            The file is damaged where it was not read before.
        """
        return regroup(self._slabs(chunk_bytes), chunk_bytes)

    def _slabs(self, bytes_max: int) -> Iterator[NDArray[np.uint8]]:
        shape, dtype = self.declaration.shape, DTYPES[self.declaration.type_name]
        buffer = np.empty(bytes_max // dtype.itemsize, dtype)
        for index in slabs(shape, dtype.itemsize, bytes_max):
            part_shape = slab_shape(shape, index)
            target = buffer[: int(np.prod(part_shape, dtype=np.int64))]
            self._source.read(index, target.reshape(part_shape))
            yield target.view(np.uint8)


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
        raise FileError(f"{spec.place}: {_missing_file(spec)}")
    if not is_file:
        raise FileError(f"{spec.place}: '{spec.path}' is not a file; give the path of one")
    if spec.dataset is None:
        source: Source = npy.open_array(spec.path, spec.place)
    else:
        source = _open_dataset(spec, spec.dataset)
    try:
        _check_agreement(spec, declaration, source)
    except FileError:
        source.close()
        raise
    return InputArray(spec, declaration, source)


def _missing_file(spec: ArraySpec) -> str:
    whole = Path(f"{spec.path}:{spec.dataset}")
    if spec.dataset is not None and _holds(whole.exists):
        return f"no dataset is given; '{whole}' is the file, so add ':DATASET'"
    folder = spec.path.parent
    if not folder.is_dir():
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


@dataclass(frozen=True, slots=True)
class Output:
    """One array to write; `chunks` are its bytes in order, in pieces of any length."""

    spec: ArraySpec
    declaration: ArrayDeclaration
    chunks: Iterable[NDArray[np.uint8]]


def check_outputs(specs: Sequence[ArraySpec]) -> None:
    """Check before the run that the outputs can be written at its end; leaves no trace.

    Raises
    ------
    FileError
        A folder is missing or not writable, or what is there cannot be replaced.
    """
    for spec in specs:
        target = spec.target
        part = _part_path(target)
        try:
            if target.exists() and not target.is_file():
                raise FileError(
                    f"{spec.place}: '{spec.path}' is not an ordinary file; choose another name"
                )
            part.touch()
            part.unlink()
        except OSError as error:
            raise _cannot_write(spec, error) from error
        if spec.dataset is not None and target.exists():
            with hdf5.open_file(target, spec.place) as file:
                file.check_place(spec.dataset)


def write_outputs(outputs: Sequence[Output]) -> None:
    """Write all outputs, and put them in place only when all of them are complete.

    Other datasets of an HDF5 file that exists are kept; a dataset of the same name is replaced.

    Raises
    ------
    FileError
        Something cannot be written; then no file has changed, and nothing is left over.
    """
    by_target: dict[Path, list[Output]] = {}
    for output in outputs:
        by_target.setdefault(output.spec.target, []).append(output)
    with ExitStack() as stack:
        for target, members in by_target.items():
            part = _part_path(target)
            stack.callback(part.unlink, missing_ok=True)
            try:
                _write_file(target, part, members)
                _settle(part)
            except OSError as error:
                raise _cannot_write(members[0].spec, error) from error
        for target, members in by_target.items():
            try:
                _part_path(target).replace(target)
            except OSError as error:
                raise _cannot_write(members[0].spec, error) from error


def _write_file(target: Path, part: Path, members: Sequence[Output]) -> None:
    """Write the whole new content of one file to `part`."""
    first = members[0]
    if first.spec.dataset is None:
        assert len(members) == 1, "two arrays in one .npy file"
        dtype = DTYPES[first.declaration.type_name]
        npy.write_array(part, dtype, first.declaration.shape, ByteStream(first.chunks))
        return
    entries = [
        hdf5.Entry(
            dataset=output.spec.dataset or "",
            dtype=DTYPES[output.declaration.type_name],
            shape=output.declaration.shape,
            stream=ByteStream(output.chunks),
        )
        for output in members
    ]
    hdf5.write_file(part, target, entries, first.spec.place)


def _settle(part: Path) -> None:
    """Put the bytes on the disk before the name points to them."""
    with part.open("rb") as file:
        os.fsync(file.fileno())


def _part_path(target: Path) -> Path:
    """Return the name beside the target, on the same file system, under which it grows."""
    return target.with_name(f".{target.name}.{os.getpid()}.part")


def _holds(question: Callable[[], bool]) -> bool:
    """Ask the system about a path; of one that it will not look up nothing holds."""
    try:
        return question()
    except OSError:
        return False


def _cannot_write(spec: ArraySpec, error: OSError) -> FileError:
    folder = spec.path.parent
    if not _holds(folder.is_dir):
        why = f"there is no folder '{folder}'; make it first: mkdir -p '{folder}'"
    else:
        reason = os.strerror(error.errno) if error.errno else str(error)
        why = f"cannot write '{spec.path}': {reason}; free space, or choose another place"
    return FileError(f"{spec.place}: {why}")
