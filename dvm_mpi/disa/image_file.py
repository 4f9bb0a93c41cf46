"""Programs in files: the project's image format (`.dimg`), flat images (`.bin`), and text.

An image file is

    magic:8 version:4 header_bytes:4 payload_bytes:8 | header | payload | SHA-256 of all before

with numbers little-endian. The header is JSON; the payload is the text, the sections in the order
of the header, and the three arrays of the line table. The digest finds damage; all that the header
says is checked as well, since others may write such files. Either is one `SourceError`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import layout
from dvm_mpi.config import (
    ARRAY_RANK_MAX,
    IMAGE_BYTES_MAX,
    IMAGE_FILE_BYTES_MAX,
    IMAGE_HEADER_BYTES_MAX,
)
from dvm_mpi.disa.image import ArrayDeclaration, Image, LineTable, Section
from dvm_mpi.disa.types import BY_NAME
from dvm_mpi.errors import FileError, SourceError, UsageError

MAGIC: Final = b"DVMIMAGE"
VERSION: Final = 1
IMAGE_SUFFIX: Final = ".dimg"
FLAT_SUFFIX: Final = ".bin"

_PREFIX: Final = struct.Struct("<8sIIQ")
_DIGEST_BYTES: Final = hashlib.sha256().digest_size
_LINE_ROW_BYTES: Final = 8 + 4 + 4
_NAME: Final = re.compile(r"[A-Za-z_.][\w.]*", re.ASCII)


class DamagedImageError(Exception):
    """Why a file is no image; the text goes into the SourceError."""


def open_program(path: Path | str, defines: Mapping[str, str]) -> Image:
    """Read a program of any kind: an image by its first bytes, a flat one by `.bin`, else text.

    Raises
    ------
    FileError
        The file cannot be read.
    SourceError
        It is no program.
    UsageError
        Definitions are given for a program that is assembled already.
    """
    path = Path(path)
    is_image = _read(path, len(MAGIC)) == MAGIC
    suffix = path.suffix.lower()
    if defines and (is_image or suffix in {IMAGE_SUFFIX, FLAT_SUFFIX}):
        listed = ", ".join(defines)
        what = f"{path}: the program is assembled already, so -D {listed} has no effect"
        raise UsageError(f"{what}; give the definitions when it is assembled")
    if is_image or suffix == IMAGE_SUFFIX:
        return load_image(path)
    if suffix == FLAT_SUFFIX:
        return load_flat(path)
    # Ranks that are sent a program need no assembler.
    from dvm_mpi.disa.assembler import assemble_file  # noqa: PLC0415

    return assemble_file(path, defines)


def _read(path: Path, count: int) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        what = f"{path}: the program cannot be read: {error.strerror or error}"
        raise FileError(f"{what}; check the file's name") from None


# --- flat images ------------------------------------------------------------------------------
def load_flat(path: Path | str) -> Image:
    """Read a flat image: bytes loaded at TEXT_START and entered at the first.

    Its first runner may touch everything from DATA_START up to the automatic stacks.
    """
    data = _read(Path(path), IMAGE_BYTES_MAX + 1)
    if not data:
        raise SourceError(f"{path}: the flat image is empty; it begins with an instruction")
    if len(data) > IMAGE_BYTES_MAX:
        what = f"{path}: the flat image is larger than IMAGE_BYTES_MAX = {IMAGE_BYTES_MAX} bytes"
        raise SourceError(f"{what}; data may be read with --in instead")
    span = (layout.DATA_START, layout.STACKS_START - layout.DATA_START)
    reserved = np.array([span], dtype=layout.RANGE)
    return Image(layout.TEXT_START, data, (), reserved, source_name=str(path))


# --- writing ----------------------------------------------------------------------------------
def save_image(image: Image, path: Path | str) -> None:
    """Write an image file; FileError if it cannot be written."""
    data = image_bytes(image)
    try:
        Path(path).write_bytes(data)
    except OSError as error:
        what = f"{path}: the image cannot be written: {error.strerror or error}"
        raise FileError(f"{what}; choose another place") from None


def image_bytes(image: Image) -> bytes:
    """Return an image as the bytes of its file."""
    lines = image.lines
    header = {
        "source_name": image.source_name,
        "entry": image.entry,
        "text_bytes": len(image.text),
        "sections": [[s.start, len(s.data)] for s in image.sections],
        "reserved": [[int(r["start"]), int(r["length"])] for r in image.reserved],
        "symbols": image.symbols,
        "arrays": [[a.name, a.address, a.type_name, list(a.shape)] for a in image.arrays.values()],
        "files": None if lines is None else list(lines.files),
        "line_count": 0 if lines is None else len(lines.addresses),
    }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    assert len(encoded) <= IMAGE_HEADER_BYTES_MAX, "too many names for an image file"
    payload = image.text + b"".join(s.data for s in image.sections)
    if lines is not None:
        payload += lines.addresses.astype("<i8").tobytes()
        payload += lines.file_indices.astype("<i4").tobytes() + lines.lines.astype("<i4").tobytes()
    body = _PREFIX.pack(MAGIC, VERSION, len(encoded), len(payload)) + encoded + payload
    return body + hashlib.sha256(body).digest()


# --- reading ----------------------------------------------------------------------------------
def load_image(path: Path | str) -> Image:
    """Read an image file.

    Raises
    ------
    FileError
        The file cannot be read.
    SourceError
        It is no image, is damaged, or says what no image can say.
    """
    data = _read(Path(path), IMAGE_FILE_BYTES_MAX + 1)
    try:
        return image_from_bytes(data)
    except DamagedImageError as why:
        raise SourceError(f"{path}: not a good image: {why}; assemble it again") from None


def image_from_bytes(data: bytes) -> Image:
    """Return the image whose file has these bytes; `DamagedImageError` if there is none."""
    header, payload = _split(data)
    fields = _Fields(_parse_header(header))
    text_bytes = fields.integer("text_bytes", 0, IMAGE_BYTES_MAX)
    spans = fields.pairs("sections")
    line_count = fields.integer("line_count", 0, text_bytes)
    data_bytes = sum(length for _, length in spans)
    _require(text_bytes + data_bytes <= IMAGE_BYTES_MAX, "text and data are too large")
    expected = text_bytes + data_bytes + _LINE_ROW_BYTES * line_count
    _require(len(payload) == expected, "its parts do not add up")
    offset = text_bytes
    sections = []
    for start, length in spans:
        sections.append(Section(start, payload[offset : offset + length]))
        offset += length
    reserved = fields.pairs("reserved")
    _check_ranges(spans, reserved)
    image = Image(
        entry=fields.integer("entry", layout.TEXT_START, layout.TEXT_END),
        text=payload[:text_bytes],
        sections=tuple(sections),
        reserved=np.array(reserved, dtype=layout.RANGE),
        symbols=fields.symbols(),
        arrays={a.name: a for a in fields.arrays()},
        lines=_lines(fields, payload[offset:], line_count, text_bytes),
        source_name=fields.text("source_name"),
    )
    _check_arrays(image)
    return image


def _require(condition: bool, why: str) -> None:
    if not condition:
        raise DamagedImageError(why)


def _split(data: bytes) -> tuple[bytes, bytes]:
    """Return header and payload, after checking the frame around them."""
    _require(data[: len(MAGIC)] == MAGIC, "it does not begin as one")
    _require(len(data) >= _PREFIX.size + _DIGEST_BYTES, "it is cut off")
    _, version, header_bytes, payload_bytes = _PREFIX.unpack_from(data)
    _require(version == VERSION, f"it has version {version}, this program reads {VERSION}")
    _require(header_bytes <= IMAGE_HEADER_BYTES_MAX, "its header is too large")
    expected = _PREFIX.size + header_bytes + payload_bytes + _DIGEST_BYTES
    _require(len(data) >= expected, "it is cut off")
    _require(len(data) == expected, "bytes are left over at its end")
    body = data[:-_DIGEST_BYTES]
    _require(hashlib.sha256(body).digest() == data[-_DIGEST_BYTES:], "its bytes have changed")
    middle = _PREFIX.size + header_bytes
    return body[_PREFIX.size : middle], body[middle:]


def _parse_header(header: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(header)
    except (ValueError, RecursionError):
        raise DamagedImageError("its header is not JSON") from None
    _require(isinstance(parsed, dict), "its header is no object")
    assert isinstance(parsed, dict)
    return parsed


class _Fields:
    """The header's fields, each with the type and the limits that it must have."""

    def __init__(self, header: dict[str, Any]) -> None:
        self._header = header

    def value(self, name: str) -> Any:
        """Return a field of any type."""
        _require(name in self._header, f"its header lacks '{name}'")
        return self._header[name]

    def integer(self, name: str, low: int, high: int) -> int:
        """Return an integer with low <= value <= high."""
        return _integer(self.value(name), low, high, name)

    def text(self, name: str) -> str:
        """Return a string."""
        value = self.value(name)
        _require(isinstance(value, str), f"'{name}' is no string")
        assert isinstance(value, str)
        return value

    def listed(self, name: str) -> list[Any]:
        """Return a list of anything."""
        value = self.value(name)
        _require(isinstance(value, list), f"'{name}' is no list")
        assert isinstance(value, list)
        return value

    def pairs(self, name: str) -> list[tuple[int, int]]:
        """Return byte ranges (start, length), none empty."""
        return [
            (_integer(start, 0, layout.SR_END, name), _integer(length, 1, layout.SR_END, name))
            for start, length in (_parts(pair, 2, name) for pair in self.listed(name))
        ]

    def symbols(self) -> dict[str, int]:
        """Return the names of addresses."""
        value = self.value("symbols")
        _require(isinstance(value, dict), "'symbols' is no object")
        assert isinstance(value, dict)
        return {_name(n): _integer(a, 0, (1 << 64) - 1, "symbols") for n, a in value.items()}

    def arrays(self) -> list[ArrayDeclaration]:
        """Return the declarations of arrays."""
        found = []
        for listed in self.listed("arrays"):
            name, address, type_name, shape = _parts(listed, 4, "arrays")
            address = _integer(address, layout.SR_START, layout.SR_END, "arrays")
            _require(type_name in BY_NAME if isinstance(type_name, str) else False,
                     "an array has an unknown type")  # fmt: skip
            _require(isinstance(shape, list) and 1 <= len(shape) <= ARRAY_RANK_MAX,
                     "an array has a wrong shape")  # fmt: skip
            lengths = tuple(_integer(n, 1, layout.SR_END, "arrays") for n in shape)
            found.append(ArrayDeclaration(_name(name), address, type_name, lengths))
        return found


def _integer(value: object, low: int, high: int, name: str) -> int:
    good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    _require(good, f"a number of '{name}' is wrong")
    assert isinstance(value, int)
    return value


def _parts(value: object, count: int, name: str) -> list[Any]:
    _require(isinstance(value, list) and len(value) == count, f"an entry of '{name}' is wrong")
    assert isinstance(value, list)
    return value


def _name(value: object) -> str:
    _require(isinstance(value, str) and bool(_NAME.fullmatch(value)), "a name is wrong")
    assert isinstance(value, str)
    return value


def _check_ranges(sections: list[tuple[int, int]], reserved: list[tuple[int, int]]) -> None:
    """Sections lie in reserved ranges, these in the program's areas; both sorted and disjoint."""
    for ranges in (sections, reserved):
        disjoint = all(a + n <= b for (a, n), (b, _) in pairwise(ranges))
        _require(disjoint, "its ranges overlap")
    for inner, outer in (
        (sections, reserved),
        (reserved, [(start, end - start) for start, end in layout.PROGRAM_AREAS]),
    ):
        for start, length in inner:
            held = any(a <= start and start + length <= a + n for a, n in outer)
            _require(held, "a range lies where no program may have one")


def _check_arrays(image: Image) -> None:
    """Arrays lie on pages of their own, each in one reserved range and one section or none."""
    spans = []
    for array in image.arrays.values():
        size = math.prod(array.shape) * BY_NAME[array.type_name].width_bytes
        spans.append((array.address, size))
        _require(array.address % layout.PAGE_BYTES == 0, "an array is not on a page boundary")
        _require(image.symbols.get(array.name) == array.address, "an array has no symbol")
    spans.sort()
    _require(all(a + n <= b for (a, n), (b, _) in pairwise(spans)), "its arrays overlap")
    reserved = [(int(r["start"]), int(r["length"])) for r in image.reserved]
    for start, size in spans:
        held = any(a <= start and start + size <= a + n for a, n in reserved)
        _require(held, "an array lies outside the reserved memory")
        for section in image.sections:
            apart = start + size <= section.start or start >= section.start + len(section.data)
            inside = section.start <= start and start + size <= section.start + len(section.data)
            _require(apart or inside, "an array lies half in the data")


def _lines(fields: _Fields, raw: bytes, count: int, text_bytes: int) -> LineTable | None:
    if fields.value("files") is None:
        _require(count == 0, "a flat image has no lines")
        return None
    files = tuple(fields.listed("files"))
    _require(all(isinstance(f, str) for f in files), "a file's name is wrong")
    addresses: NDArray[np.int64] = np.frombuffer(raw, "<i8", count).astype(np.int64)
    indices = np.frombuffer(raw, "<i4", count, 8 * count).astype(np.int32)
    lines = np.frombuffer(raw, "<i4", count, 12 * count).astype(np.int32)
    good = (
        bool(np.all(np.diff(addresses) > 0))
        and bool(np.all(addresses >= layout.TEXT_START))
        and bool(np.all(addresses < layout.TEXT_START + text_bytes))
        and bool(np.all((indices >= 0) & (indices < len(files))))
        and bool(np.all(lines >= 1))
    )
    _require(good, "its line table is wrong")
    return LineTable(files, addresses, indices, lines)
