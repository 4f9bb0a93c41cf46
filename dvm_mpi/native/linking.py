"""From an object file to a shared library, and what native code may call.

Knows neither numba nor LLVM: whoever makes an object file, by whatever means, comes here with it.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final

from dvm_mpi.native import store

#: What compiled code may call.
EXTERNALS: Final = {
    "_GLOBAL_OFFSET_TABLE_",
    "floor",
    "madvise",
    "memcpy",
    "memmove",
    "memset",
    "sqrt",
}
_LINKERS: Final = (("ld", ()), ("ld.lld", ()), ("cc", ("-nostdlib",)))
#: Of object files: sizes of entries, and the kind of section that lists symbols.
_SECTION_BYTES: Final = 64
_SYMBOL_BYTES: Final = 24
_SYMBOL_TABLE: Final = 2
#: The table of addresses that whoever loads the code makes for it.
_OFFSETS: Final = "_GLOBAL_OFFSET_TABLE_"


def check(code: bytes) -> None:
    """Assert that an object file calls nothing but what it may."""
    needed = undefined_symbols(code) - {_OFFSETS}
    assert needed <= EXTERNALS, f"compiled code would call {sorted(needed - EXTERNALS)}"


def undefined_symbols(code: bytes) -> set[str]:
    """Return what an object file (ELF, 64 bits) takes from elsewhere.

    Not asked of the module: which of LLVM's operations become calls is decided at the very end.
    """
    assert code[:5] == b"\x7fELF\x02", "not an object file of 64 bits"
    begin = struct.unpack_from("<Q", code, 40)[0]
    count = struct.unpack_from("<H", code, 60)[0]
    # Kind, first byte, length in bytes, and the section that goes with it.
    sections = [
        struct.unpack_from("<4xI16xQQI", code, begin + _SECTION_BYTES * index)
        for index in range(count)
    ]
    found = set()
    for kind, first, length, names in sections:
        if kind != _SYMBOL_TABLE:
            continue
        # The first symbol is none.
        for at in range(first + _SYMBOL_BYTES, first + length, _SYMBOL_BYTES):
            name, section = struct.unpack_from("<I2xH", code, at)
            if section == 0:
                start = sections[names][1] + name
                found.add(code[start : code.index(b"\0", start)].decode())
    return found


def write(code: bytes, stem: Path) -> None:
    """Put an object file into the cache: as a shared library if a linker can be found."""
    own = stem.with_name(f"{stem.name}.{os.getpid()}")
    object_path = own.with_name(own.name + store.OBJECT)
    shared_path = own.with_name(own.name + store.SHARED)
    try:
        object_path.write_bytes(code)
        is_linked = link(object_path, shared_path)
        source, suffix = (shared_path, store.SHARED) if is_linked else (object_path, store.OBJECT)
        source.replace(stem.with_name(stem.name + suffix))
    finally:
        object_path.unlink(missing_ok=True)
        shared_path.unlink(missing_ok=True)


def link(source: Path, target: Path) -> bool:
    """Make a shared library of an object file; tell whether there is one and it can be loaded."""
    for name, options in _LINKERS:
        linker = shutil.which(name)
        if linker is None:
            continue
        command = [linker, *options, "-shared", "-o", str(target), str(source)]
        if subprocess.run(command, check=False, capture_output=True).returncode != 0:
            continue
        try:
            ctypes.CDLL(str(target))
        except OSError:
            continue
        return True
    return False


def library_of(code: bytes, folder: Path) -> bytes | None:
    """Return the shared library of an object file; None if there is no linker.

    The folder is for files on the way; none of them stays.
    """
    own = folder / f"linking.{os.uname().nodename}-{os.getpid()}"
    object_path, shared_path = (own.with_name(own.name + s) for s in (store.OBJECT, store.SHARED))
    try:
        object_path.write_bytes(code)
        return shared_path.read_bytes() if link(object_path, shared_path) else None
    finally:
        object_path.unlink(missing_ok=True)
        shared_path.unlink(missing_ok=True)
