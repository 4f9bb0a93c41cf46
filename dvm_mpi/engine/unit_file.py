"""A translated unit as bytes: what is kept on disk and sent to others, and how it is loaded.

One file holds everything: what the unit is, and its code as a shared library. It is checked as a
whole before any of it is used: a library that was cut off would end the process that loads it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
from typing import Any, Final

from dvm_mpi.values import dataclass

#: The one function of a unit's library.
SYMBOL: Final = "dvm_unit"
_MAGIC: Final = b"dvm unit 1\n"
_DIGEST_BYTES: Final = 32
_LENGTH_BYTES: Final = 4
#: Libraries stay loaded as long as the process: the system knows each by the name of its file.
_kept_open: Final[list[int]] = []


class DamagedUnitError(Exception):
    """These bytes are not what was written, or not for this program here."""


@dataclass(frozen=True, slots=True)
class UnitHead:
    """What a unit is; addresses are those of instructions.

    `key` says for what program, processor and version its code is. `entries`: where control may
    come in, by number. `ways_out`: where the loop may go on, whatever stands there. `static_pages`:
    private pages that it names without a check. `translate_s`: how long it took to make.
    """

    key: str
    entries: tuple[int, ...]
    addresses: tuple[int, ...]
    ways_out: tuple[int, ...]
    static_pages: tuple[int, ...]
    translate_s: float


_LISTS: Final = ("entries", "addresses", "ways_out", "static_pages")
_NAMES: Final = ("key", *_LISTS, "translate_s")


def pack(head: UnitHead, library: bytes) -> bytes:
    """Return a unit as one string of bytes."""
    described = json.dumps({name: getattr(head, name) for name in _NAMES}).encode()
    body = _MAGIC + len(described).to_bytes(_LENGTH_BYTES, "little") + described + library
    return hashlib.sha256(body).digest() + body


def unpack(content: bytes, key: str) -> tuple[UnitHead, bytes]:
    """Return a unit and its library.

    Raises
    ------
    DamagedUnitError
        It is damaged, or of another key.
    """
    digest, body = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if hashlib.sha256(body).digest() != digest or not body.startswith(_MAGIC):
        raise DamagedUnitError("it is damaged")
    begin = len(_MAGIC) + _LENGTH_BYTES
    end = begin + int.from_bytes(body[len(_MAGIC) : begin], "little")
    given: dict[str, Any] = json.loads(body[begin:end])
    lists = {name: tuple(given[name]) for name in _LISTS}
    head = UnitHead(**{**given, **lists})
    if head.key != key:
        raise DamagedUnitError("it is from elsewhere")
    return head, body[end:]


def load(library: bytes) -> int:
    """Load a unit's library, for good, and return the host address of its function.

    Raises
    ------
    DamagedUnitError
        The system does not load it.
    """
    file = os.memfd_create("dvm-unit")
    try:
        with os.fdopen(os.dup(file), "wb") as writer:
            writer.write(library)
        address = ctypes.cast(ctypes.CDLL(f"/proc/self/fd/{file}")[SYMBOL], ctypes.c_void_p).value
    except (OSError, AttributeError) as error:
        os.close(file)
        raise DamagedUnitError(f"it cannot be loaded: {error}") from error
    _kept_open.append(file)
    assert address is not None, "a function has an address"
    return address
