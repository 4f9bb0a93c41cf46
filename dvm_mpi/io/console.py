"""The program's console: bytes out as they are, standard input in as a whole.

Output is written raw and at once, because a reader behind a pipe waits for it. Input is kept as a
whole, since every attempt reads it from its beginning.

What is read when `--stdin` is not given: a pipe or a file, to its end; a terminal is not read,
because most programs need no input and would seem to hang. `--stdin -` reads a terminal as well,
up to Ctrl-D.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from dvm_mpi.config import MIB, SILENT_WAIT_S, STDIN_BYTES_MAX
from dvm_mpi.errors import FileError, LimitError, ReaderGoneError
from dvm_mpi.io.progress import Progress

#: How long standard input is waited for at a time.
_TURN_S: Final = 0.1


class Console:
    """Writes what the program prints to standard output."""

    def __init__(self, stream: BinaryIO | None, progress: Progress | None = None) -> None:
        """Write to `stream` (None: standard output was closed by the caller of the process).

        `progress` is hidden meanwhile, if it is at the same place.
        """
        self._stream = stream
        is_beside = stream is not None and progress is not None and progress.is_beside(stream)
        self._progress_beside = progress if is_beside else None
        self.byte_count = 0

    def write(self, data: bytes) -> None:
        """Print one commit's bytes, contiguous and unchanged.

        Raises
        ------
        ReaderGoneError
            Nobody reads any more (`| head`).
        FileError
            Standard output cannot be written.

        Notes
        -----
        After a fault standard output leads nowhere, or the end of the process would complain of
        the same bytes again, with an exit code of its own.
        """
        if not data:
            return
        if self._stream is None:
            raise FileError("standard output is closed; redirect it, to /dev/null if need be")
        if self._progress_beside is not None:
            self._progress_beside.clear()
        try:
            self._stream.write(data)
            self._stream.flush()
        except BrokenPipeError as error:
            self._abandon()
            raise ReaderGoneError("the reader of standard output went away") from error
        except OSError as error:
            self._abandon()
            raise FileError(
                f"cannot write standard output: {error.strerror}; redirect it to another place"
            ) from error
        self.byte_count += len(data)
        if self._progress_beside is not None:
            self._progress_beside.note_output(is_line_open=not data.endswith(b"\n"))

    def _abandon(self) -> None:
        """Let the descriptor lead nowhere; what is buffered may go there."""
        assert self._stream is not None
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def standard_output() -> BinaryIO | None:
    """Return the process's standard output for bytes; None if it was started without one."""
    return None if sys.stdout is None else sys.stdout.buffer


def _nothing() -> None:
    return


def read_input(
    path: Path | None,
    say: Callable[[str], None],
    *,
    turn: Callable[[], None] = _nothing,
    is_terminal: bool = False,
) -> bytes:
    """Return the whole of standard input.

    Parameters
    ----------
    path
        What `--stdin` names; `-` is the process's own standard input, also if it is a terminal.
        None: the process's standard input, empty if it is a terminal or closed.
    say
        Shows a line to the user, if the input keeps silent for some seconds.
    turn
        Is called several times a second while more is waited for.
    is_terminal
        Whether a terminal is behind standard input, though it does not look like one.

    Raises
    ------
    FileError
        It cannot be read.
    LimitError
        It is longer than STDIN_BYTES_MAX.
    """
    if path is not None and str(path) != "-":
        return _read_file(path)
    if sys.stdin is None:
        return b""
    stream = sys.stdin.buffer
    if path is None and (is_terminal or stream.isatty()):
        return b""
    return _read_stream(stream.fileno(), say, turn)


def _read_file(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return _checked(file.read(STDIN_BYTES_MAX + 1))
    except OSError as error:
        raise FileError(
            f"--stdin {path}: cannot read it: {error.strerror}; name a file that can be read, "
            "or /dev/null for nothing"
        ) from error


def _read_stream(descriptor: int, say: Callable[[str], None], turn: Callable[[], None]) -> bytes:
    """Read to the end; a pipe that nobody closes would hold the run up without a word."""
    data = bytearray()
    silent_s = 0.0
    try:
        while len(data) <= STDIN_BYTES_MAX:
            turn()
            ready, _, _ = select.select([descriptor], [], [], _TURN_S)
            if ready:
                part = os.read(descriptor, MIB)
                if not part:
                    break
                data += part
                continue
            silent_s += _TURN_S
            if not data and silent_s >= SILENT_WAIT_S > silent_s - _TURN_S:
                say("waiting for the end of standard input; use --stdin /dev/null if there is none")
        return _checked(bytes(data))
    except OSError as error:
        raise FileError(
            f"cannot read standard input: {error.strerror}; use --stdin FILE or --stdin /dev/null"
        ) from error


def _checked(data: bytes) -> bytes:
    if len(data) > STDIN_BYTES_MAX:
        raise LimitError(
            f"standard input is longer than {STDIN_BYTES_MAX // MIB:,} MiB (STDIN_BYTES_MAX); "
            "pass large data as an array with --in"
        )
    return data
