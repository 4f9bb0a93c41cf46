"""The file that a recorded run grows into: named sections, then entries in order, as HDF5.

It knows bytes only: what an entry means is told by its kind, which the caller chooses. Entries
reach the file in the order in which they are appended, bytes before the row that points to them,
and HDF5 keeps the file readable all the while (its "single writer, multiple readers" mode): what a
killed run leaves ends with the last entry that was flushed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import RECORD_BUFFER_BYTES, RECORD_CHUNK_BYTES
from dvm_mpi.errors import FileError
from dvm_mpi.io import hdf5
from dvm_mpi.io.outputs import cannot_write

#: What the file says of itself, in an attribute of its root.
_NAME: Final = "dvm-record"
#: Layout of the file; a number more when it changes.
_VERSION: Final = 1
_SECTIONS: Final = "sections"
#: One entry: what it is, whom it went to, and where its bytes end; they begin where the last ended.
_ROW: Final = np.dtype([("kind", "<i4"), ("part", "<i4"), ("end", "<i8")])
_ROWS_PER_CHUNK: Final = 4096
_BYTES: Final = np.dtype("u1")


def check_record(path: Path, place: str) -> None:
    """Check before the run that the file can be written; leaves no trace.

    Raises
    ------
    FileError
        The folder is missing or not writable, or what is there is no record: a mistyped name must
        not cost anybody's data.
    """
    try:
        if path.exists():
            if not path.is_file():
                raise FileError(f"{place}: '{path}' is not an ordinary file; choose another name")
            if path.stat().st_size:
                try:
                    RecordReader(path, place).close()
                except FileError as error:
                    raise FileError(
                        f"{place}: '{path}' is there, and is no record that could be replaced; "
                        "choose another name, or remove it"
                    ) from error
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, "")
            return
        path.touch(exist_ok=False)
        path.unlink()
    except OSError as error:
        raise _cannot_write(place, path, error) from error


def _cannot_write(place: str, path: Path, error: BaseException) -> FileError:
    # Of h5py's faults only some have a number.
    known = error if isinstance(error, OSError) and error.errno else OSError(hdf5.reason(error))
    return cannot_write(place, path, known)


class RecordWriter:
    """A record that grows; replaces the file of that name.

    Parameters
    ----------
    path
        The file.
    place
        Heads messages: the option as it was given.
    sections
        What is known from the beginning.

    Raises
    ------
    FileError
        The file cannot be written; so does every method.
    """

    def __init__(self, path: Path, place: str, sections: Mapping[str, bytes]) -> None:
        import h5py

        self._path, self._place = path, place
        self._rows: list[tuple[int, int, int]] = []
        self._parts: list[NDArray[np.uint8]] = []
        #: Bytes appended so far, and of these the ones that are in the file.
        self._end = self._written = 0
        try:
            self._file = h5py.File(path, "w", libver="latest")
            self._file.attrs["format"], self._file.attrs["version"] = _NAME, _VERSION
            group = self._file.create_group(_SECTIONS)
            for name, content in sections.items():
                group.create_dataset(name, data=np.frombuffer(content, _BYTES))
            self._table = self._grow("entries", _ROW, _ROWS_PER_CHUNK)
            self._bytes = self._grow("bytes", _BYTES, RECORD_CHUNK_BYTES)
            self._file.swmr_mode = True
        except hdf5.FAULTS as error:
            raise _cannot_write(place, path, error) from error

    def _grow(self, name: str, dtype: np.dtype[Any], chunk: int) -> Any:
        return self._file.create_dataset(
            name, (0,), dtype, maxshape=(None,), chunks=(chunk,), fletcher32=True
        )

    def append(self, kind: int, part: int, data: NDArray[np.uint8]) -> None:
        """Add an entry: `data` is (n,) uint8, and must not change until the next flush."""
        self._end += data.size
        self._rows.append((kind, part, self._end))
        self._parts.append(data)
        if self._end - self._written >= RECORD_BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was appended; whoever reads the file from now on finds it."""
        if not self._rows:
            return
        try:
            self._bytes.resize((self._end,))
            if self._end > self._written:
                self._bytes[self._written :] = np.concatenate(self._parts)
            self._bytes.flush()
            count = self._table.shape[0]
            self._table.resize((count + len(self._rows),))
            self._table[count:] = np.array(self._rows, _ROW)
            self._table.flush()
        except hdf5.FAULTS as error:
            raise _cannot_write(self._place, self._path, error) from error
        self._rows, self._parts, self._written = [], [], self._end

    def close(self) -> None:
        """Write what is left and close the file; idempotent."""
        if not self._file:
            return
        try:
            self.flush()
        finally:
            try:
                self._file.close()
            except hdf5.FAULTS as error:
                raise _cannot_write(self._place, self._path, error) from error


class RecordReader:
    """A record, complete or as far as it got; a context manager.

    Raises
    ------
    FileError
        The file cannot be read, is damaged, is no record, or one of another version.
    """

    def __init__(self, path: Path, place: str) -> None:
        self._path, self._place = path, place
        self._file = hdf5.open_grown_file(path, place)
        try:
            name, version = self._file.attrs.get("format"), self._file.attrs.get("version")
            if name != _NAME:
                raise FileError(
                    f"{place}: '{path}' is no record of a run; make one with --record FILE.h5"
                )
            if version != _VERSION:
                raise FileError(
                    f"{place}: '{path}' is a record of version {version}, this program reads "
                    f"{_VERSION}; replay it with the DVM that made it"
                )
            self._sections = {n: d[()].tobytes() for n, d in self._file[_SECTIONS].items()}
            self._rows: NDArray[Any] = self._file["entries"][()]
            self._bytes = self._file["bytes"]
            ends = self._rows["end"]
            is_whole = self._rows.dtype == _ROW and bool(np.all(np.diff(ends, prepend=0) >= 0))
            if not is_whole or (len(ends) and int(ends[-1]) > self._bytes.shape[0]):
                raise hdf5.damaged(place, path, ValueError("its entries do not add up"))
        except hdf5.FAULTS as error:
            self.close()
            raise hdf5.damaged(place, path, error) from error
        except FileError:
            self.close()
            raise

    def __enter__(self) -> RecordReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()

    def section(self, name: str) -> bytes:
        """Return a section."""
        if name not in self._sections:
            raise hdf5.damaged(self._place, self._path, ValueError(f"it has no '{name}'"))
        content: bytes = self._sections[name]
        return content

    def entries(self) -> Iterator[tuple[int, int, NDArray[np.uint8]]]:
        """Yield kind, part and bytes of every entry, in order; `FileError` where it is damaged."""
        start = 0
        for first in range(0, len(self._rows), _ROWS_PER_CHUNK):
            rows = self._rows[first : first + _ROWS_PER_CHUNK]
            for kind, part, end in rows.tolist():
                try:
                    data: NDArray[np.uint8] = self._bytes[start:end]
                except hdf5.FAULTS as error:
                    raise hdf5.damaged(self._place, self._path, error) from error
                yield kind, part, data
                start = end
