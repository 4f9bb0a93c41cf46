"""Where compiled code is kept, and the name that says what it was compiled from.

A library is one file; its name holds a digest of everything that the code depends on: sources,
compiler, Python and processor. So a file that is there is right, machines of different kinds may
share a folder, and nothing is ever written over. The file comes into being complete, by a rename.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from dvm_mpi.errors import FileError
from dvm_mpi.values import dataclass

PACKAGE: Final = Path(__file__).resolve().parents[1]
#: A library that the system's loader takes, and, where there is no linker, an object file.
SHARED: Final = ".so"
OBJECT: Final = ".o"
_DIGEST_DIGITS: Final = 16
#: What of /proc/cpuinfo tells kinds of processors apart (x86; ARM).
_CPU_KEYS: Final = ("vendor_id", "model name", "flags", "Features", "CPU part")
_CPU_BYTES: Final = 8192
#: Longer than most sources, and short enough for memory that need not be mapped anew each time.
_READ_BYTES: Final = 1 << 15


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder for compiled code."""

    path: Path
    #: Empty, or why it is not the usual folder.
    notice: str = ""


def choose_folder() -> Folder:
    """Return the folder to use, which exists and can be written.

    That is numba's folder if one is set, else the package's own cache; where it cannot be written,
    one of this user in the folder for temporary files.

    Raises
    ------
    FileError
        No folder can be used.
    """
    return _choose_folder(os.environ.get("NUMBA_CACHE_DIR", ""), os.environ.get("TMPDIR") or "/tmp")


@cache
def _choose_folder(asked: str, temporary: str) -> Folder:
    usual = Path(asked) if asked else PACKAGE / "__pycache__"
    problem = _problem_with(usual)
    if not problem and _is_open_to_all(usual.parent):
        # As in /tmp: whoever came first may have made it, and filled it.
        problem = _danger_of(usual)
    if not problem:
        return Folder(usual.resolve())
    own = Path(temporary) / f"dvm-{os.getuid()}"
    own_problem = _problem_with(own) or _danger_of(own)
    if own_problem:
        raise FileError(
            f"no folder for compiled code: {usual}: {problem}; {own}: {own_problem}. "
            "Set NUMBA_CACHE_DIR to a folder that you may write to."
        )
    notice = f"compiled code is kept in {own}, because {usual} cannot be used: {problem}"
    return Folder(own.resolve(), notice)


def _problem_with(folder: Path) -> str:
    """Return why nothing can be kept in a folder, which is made; empty if it can."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return "" if os.access(folder, os.W_OK | os.X_OK) else "it is not writable"


def _is_open_to_all(folder: Path) -> bool:
    """Return whether every user may make files and folders in this one."""
    return bool(folder.stat().st_mode & stat.S_IWOTH)


def _danger_of(folder: Path) -> str:
    """Return why code in a folder that others may reach should not be run; empty if it may."""
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return "it belongs to somebody else"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return "others may write to it"
    return ""


def digest_of(sources: Iterable[str | Path]) -> str:
    """Return the name of code that is compiled from `sources` here and now."""
    digest = hashlib.sha256()
    own = PACKAGE / "native"
    # Compiled code also holds constants of the address map and the limits.
    common = [own / f"{name}.py" for name in ("compiler", "headers", "linking")]
    common += [PACKAGE / "layout.py", PACKAGE / "config.py"]
    # In one order, whatever way the package is reached by: a user's folder may have links to it.
    for path in sorted(_resolved([*sources, *common]), key=_parts):
        digest.update(_parts(path)[-1].encode())
        digest.update(content_of(path))
    for part in (*_tools(), *_processor()):
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:_DIGEST_DIGITS]


def _parts(path: str) -> list[str]:
    return path.split("/")


def _resolved(paths: Iterable[str | Path]) -> set[str]:
    """Return paths without links; they are of few folders, each of which is looked at once."""
    # With objects for paths it takes 50 us for each of a hundred files, on every rank.
    folders, found = dict[str, str](), set[str]()
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in folders:
            folders[folder] = os.path.realpath(folder)
        whole = os.path.join(folders[folder], name)  # noqa: PTH118
        found.add(os.path.realpath(whole) if os.path.islink(whole) else whole)  # noqa: PTH114
    return found


def sources_in(folder: Path) -> list[str]:
    """Return the sources of a folder, without those of the folders in it."""
    with os.scandir(folder) as entries:
        return [entry.path for entry in entries if entry.name.endswith(".py")]


def content_of(path: str) -> bytes:
    """Return what is in a file, at the price of four calls of the system."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(file, _READ_BYTES):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(file)


@cache
def _tools() -> tuple[str, ...]:
    """Return which Python and which compiler this is, without importing the latter."""
    return (sys.implementation.cache_tag or sys.version, _version("numba"), _version("llvmlite"))


def _version(package: str) -> str:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise FileError(f"the package {package} is not installed; see requirements/runtime.txt")
    return (Path(spec.origin).parent / "_version.py").read_text(encoding="utf-8")


@cache
def _processor() -> tuple[str, ...]:
    """Return what kind of processor this is; code is compiled for exactly that."""
    machine = os.uname().machine
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            first = file.read(_CPU_BYTES).partition("\n\n")[0]
    except OSError:
        # Without a description, code of one host is taken to be good for that host only.
        return (machine, os.uname().nodename)
    lines = [line for line in first.splitlines() if line.startswith(_CPU_KEYS)]
    return (machine, *lines)
