"""Arrays from the machine into files: made by one, written by many, put in place together.

Rank 0 makes every file beside its place, with room for all that goes into it; then every rank
writes its own part at its offset, without HDF5; then rank 0 renames the files. In one process the
same steps follow each other.

The rule to remember: a file that is there is never touched until everything that replaces it is
complete. Other datasets of an HDF5 file that is written to are kept.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import FILE_CHUNK_BYTES
from dvm_mpi.disa.image import ArrayDeclaration
from dvm_mpi.errors import FileError
from dvm_mpi.io import hdf5, npy
from dvm_mpi.io.arrays import DTYPES, holds
from dvm_mpi.io.specs import ArraySpec
from dvm_mpi.values import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where the bytes of one output go; of plain values, so that it can be sent as JSON."""

    #: The option as it was given: heads messages; and the array.
    option: str
    name: str
    #: The file that will be replaced, and the one beside it that grows.
    target: str
    part: str
    #: Where the array begins in `part`, and its length.
    offset: int
    byte_count: int


class OutputPart:
    """An array in a file that grows; every rank has one for itself; a context manager."""

    def __init__(self, place: Place) -> None:
        """Open the file; `FileError` if this host cannot."""
        self._place = place
        try:
            self._file = os.open(place.part, os.O_WRONLY)
        except OSError as error:
            raise cannot_write(place.option, Path(place.target), error) from error

    def __enter__(self) -> OutputPart:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    def write_range(self, offset: int, data: NDArray[np.uint8]) -> None:
        """Write bytes (one-dimensional) at an offset in the array; `FileError` if it fails."""
        assert 0 <= offset <= self._place.byte_count - data.size, "beyond the array"
        done = 0
        while done < data.size:
            at = self._place.offset + offset + done
            try:
                done += os.pwrite(self._file, data[done:].data, at)
            except OSError as error:
                raise self._failed(error) from error

    def flush(self) -> None:
        """Return when what was written is on the disk; `FileError` if it does not get there."""
        try:
            os.fsync(self._file)
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> FileError:
        return cannot_write(self._place.option, Path(self._place.target), error)


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
            raise cannot_write(spec.place, spec.path, error) from error
        if spec.dataset is not None and target.exists():
            with hdf5.open_file(target, spec.place) as file:
                file.check_place(spec.dataset)


def make_outputs(
    outputs: Sequence[tuple[ArraySpec, ArrayDeclaration]],
) -> Generator[int, None, list[Place]]:
    """Make the files that the outputs will be written to, beside their places.

    Other datasets of an HDF5 file that exists are copied, and the bytes copied so far are yielded
    after each piece. What the arrays' bytes are is undefined until they are written.

    Returns
    -------
    One place for each output, in their order; to be given to `settle_outputs` or `drop_outputs`.

    Raises
    ------
    FileError
        Something cannot be written; then nothing is left over.
    """
    by_target: dict[Path, list[tuple[ArraySpec, ArrayDeclaration]]] = {}
    for spec, declaration in outputs:
        by_target.setdefault(spec.target, []).append((spec, declaration))
    places: dict[ArraySpec, Place] = {}
    try:
        for target, members in by_target.items():
            part = _part_path(target)
            try:
                offsets = yield from _make_file(target, part, members)
            except BaseException as error:
                part.unlink(missing_ok=True)
                if isinstance(error, OSError):
                    raise cannot_write(members[0][0].place, target, error) from error
                raise
            for (spec, declaration), offset in zip(members, offsets, strict=True):
                count = declaration.byte_count
                places[spec] = Place(spec.place, spec.name, str(target), str(part), offset, count)
    except BaseException:
        drop_outputs(list(places.values()))
        raise
    return [places[spec] for spec, _ in outputs]


def settle_outputs(places: Sequence[Place]) -> None:
    """Put the files in place, after everybody has written and flushed: all of them, or none.

    Raises
    ------
    FileError
        The disk or the folder refuses; then what was not put in place is removed.
    """
    try:
        for place in _one_of_each_file(places):
            with _telling(place), Path(place.part).open("rb") as file:
                os.fsync(file.fileno())
        for place in _one_of_each_file(places):
            with _telling(place):
                Path(place.part).replace(place.target)
    finally:
        drop_outputs(places)


def drop_outputs(places: Sequence[Place]) -> None:
    """Remove the files that were made and not put in place; idempotent."""
    for place in _one_of_each_file(places):
        Path(place.part).unlink(missing_ok=True)


def _one_of_each_file(places: Sequence[Place]) -> list[Place]:
    return list({place.part: place for place in places}.values())


@contextmanager
def _telling(place: Place) -> Iterator[None]:
    """Let the system's errors name the output."""
    try:
        yield
    except OSError as error:
        raise cannot_write(place.option, Path(place.target), error) from error


def _make_file(
    target: Path, part: Path, members: Sequence[tuple[ArraySpec, ArrayDeclaration]]
) -> Generator[int, None, list[int]]:
    """Make one file with room for its arrays, and return where each begins."""
    entries = [
        hdf5.Entry(spec.dataset or "", DTYPES[declaration.type_name], declaration.shape)
        for spec, declaration in members
    ]
    first, _ = members[0]
    if first.dataset is None:
        assert len(members) == 1, "two arrays in one .npy file"
        return [npy.allocate(part, entries[0].dtype, entries[0].shape)]
    if hdf5.keeps_others(target, {entry.dataset for entry in entries}, first.place):
        yield from _copy(target, part)
    return hdf5.allocate(part, entries)


def _copy(source: Path, target: Path) -> Iterator[int]:
    """Copy a file in pieces, yielding the bytes copied so far."""
    buffer = memoryview(bytearray(FILE_CHUNK_BYTES))
    done = 0
    with source.open("rb", buffering=0) as old, target.open("xb", buffering=0) as new:
        while count := old.readinto(buffer):
            written = 0
            while written < count:
                written += new.write(buffer[written:count])
            done += count
            yield done


def _part_path(target: Path) -> Path:
    """Return the name beside the target, on the same file system, under which it grows."""
    return target.with_name(f".{target.name}.{os.getpid()}.part")


def cannot_write(option: str, path: Path, error: OSError) -> FileError:
    """Return what to tell of a file that cannot be written; `option` heads the message."""
    folder = path.parent
    if not holds(folder.is_dir):
        why = f"there is no folder '{folder}'; make it first: mkdir -p '{folder}'"
    else:
        reason = os.strerror(error.errno) if error.errno else str(error)
        remedy = "" if error.errno == errno.ENOENT else "; free space, or choose another place"
        why = f"cannot write '{path}': {reason}{remedy}"
    return FileError(f"{option}: {why}")
