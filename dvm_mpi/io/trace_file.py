"""A trace as a file that grows: Chrome's JSON array of events, which Perfetto reads.

Every event is one line, so what a run that died has left is read by adding the bracket that it
could not write; viewers do that themselves. A name that ends in `.gz` is compressed on the way.
"""

from __future__ import annotations

import gzip
from contextlib import suppress
from io import RawIOBase
from pathlib import Path
from typing import Final

from dvm_mpi.io.outputs import cannot_write

#: The fastest level: a trace becomes a tenth as large, in a fourth of the time that its text took.
_GZIP_LEVEL: Final = 1
#: What is gathered before it is written, if nobody asks for it earlier.
_PIECE_BYTES: Final = 256 * 1024


class TraceFile:
    """One file, open for writing; what was there is replaced.

    Raises
    ------
    FileError
        It cannot be written; so may every method, once.
    """

    def __init__(self, path: Path, place: str) -> None:
        self.event_count = 0
        self._path, self._place = path, place
        self._waiting: list[str] = []
        self._waiting_bytes = 0
        self._raw: RawIOBase | None = None
        try:
            # Unbuffered: what reaches the file are whole lines, whenever a run is killed.
            raw = path.open("wb", buffering=0)
            self._raw = raw
            self._file: RawIOBase | gzip.GzipFile | None = raw
            if path.suffix == ".gz":
                self._file = gzip.GzipFile(
                    filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=raw, mtime=0
                )
            self._put(b"[")
        except OSError as error:
            self._abandon()
            raise cannot_write(place, path, error) from error

    def write(self, events: list[str]) -> None:
        """Append events, each of them JSON without a line's end."""
        for event in events:
            self._waiting.append(",\n" if self.event_count else "\n")
            self._waiting.append(event)
            self.event_count += 1
            self._waiting_bytes += len(event)
        if self._waiting_bytes >= _PIECE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Let everything that was written reach the file."""
        text, self._waiting, self._waiting_bytes = "".join(self._waiting), [], 0
        if not text or self._file is None:
            return
        try:
            self._put(text.encode())
        except OSError as error:
            self._abandon()
            raise cannot_write(self._place, self._path, error) from error

    def close(self) -> None:
        """Write the end, unless the file could not take what came before; idempotent."""
        self.flush()
        if self._file is None:
            return
        try:
            self._put(b"\n]\n")
            self._file.close()
            self._abandon()
        except OSError as error:
            self._abandon()
            raise cannot_write(self._place, self._path, error) from error

    def _put(self, data: bytes) -> None:
        """Write all of `data`, in one call if the system takes it so."""
        assert self._file is not None
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) or 0 :]
        if isinstance(self._file, gzip.GzipFile):
            self._file.flush()

    def _abandon(self) -> None:
        """Let go of a file that takes nothing any more."""
        self._file = None
        if self._raw is not None:
            with suppress(OSError):
                self._raw.close()
