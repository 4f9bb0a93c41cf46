"""Images in files: what is written comes back, what is damaged is refused."""

from __future__ import annotations

import hashlib
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvm_mpi.disa.image import Image
from dvm_mpi.disa.image_file import (
    MAGIC,
    image_bytes,
    load_flat,
    load_image,
    open_program,
    save_image,
)
from dvm_mpi.errors import FileError, SourceError, UsageError

#: Damaged files that are tried; a long run sets it to 10,000 and more.
MUTATIONS = int(os.environ.get("DVM_TEST_MUTATIONS", "400"))


def assert_same(left: Image, right: Image) -> None:
    assert left.lines is not None
    assert right.lines is not None
    assert left.lines.files == right.lines.files
    for name in ("addresses", "file_indices", "lines"):
        assert np.array_equal(getattr(left.lines, name), getattr(right.lines, name))
    assert np.array_equal(left.reserved, right.reserved)
    for name in ("entry", "text", "sections", "symbols", "arrays", "source_name"):
        assert getattr(left, name) == getattr(right, name)


def test_an_image_comes_back_as_it_was(varied: Image, tmp_path: Path) -> None:
    path = tmp_path / "varied.dimg"
    save_image(varied, path)
    assert_same(load_image(path), varied)
    assert_same(open_program(path, {}), varied)
    # The first bytes count, not the name.
    other = path.rename(tmp_path / "varied.dasm")
    assert_same(open_program(other, {}), varied)


def test_a_flat_image_comes_back_flat(tmp_path: Path) -> None:
    path = tmp_path / "flat.bin"
    path.write_bytes(b"\x06\x00anything")
    flat = open_program(path, {})
    assert flat.is_flat
    assert (flat.entry, flat.text) == (0x4_0000_0000, b"\x06\x00anything")
    assert flat.reserved.tolist() == [(0x4_4000_0000, 0x300_0000_0000 - 0x4_4000_0000)]
    save_image(flat, tmp_path / "flat.dimg")
    assert load_image(tmp_path / "flat.dimg").is_flat


def test_damaged_files_are_refused(varied: Image, tmp_path: Path) -> None:
    """Random bytes, and good files with bits flipped, pieces cut out, put in or swapped."""
    good = image_bytes(varied)
    rng = random.Random(20)
    path = tmp_path / "bad.dimg"
    for i in range(MUTATIONS):
        data = bytearray(good)
        place = rng.randrange(len(data))
        match i % 6:
            case 0:
                data = bytearray(rng.randbytes(rng.randrange(300)))
            case 1:
                data[place] ^= 1 << rng.randrange(8)
            case 2:
                del data[place:]
            case 3:
                del data[place : place + rng.randrange(1, 9)]
            case 4:
                data[place:place] = rng.randbytes(rng.randrange(1, 9))
            case 5:
                data[:24] = MAGIC + rng.randbytes(16)
        path.write_bytes(data)
        with pytest.raises(SourceError) as caught:
            open_program(path, {})
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


def forged(good: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """Return a file with another header and a digest that fits."""
    magic, version, header_bytes, payload_bytes = struct.unpack_from("<8sIIQ", good)
    header = json.loads(good[24 : 24 + header_bytes])
    change(header)
    encoded = json.dumps(header).encode()
    body = struct.pack("<8sIIQ", magic, version, len(encoded), payload_bytes) + encoded
    body += good[24 + header_bytes : -32]
    return body + hashlib.sha256(body).digest()


def _set(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        target: Any = header
        for key in keys[:-1]:
            target = target[key]
        target[keys[-1]] = value

    return change


# fmt: off
FORGERIES = [
    _set("entry", value=5),
    _set("entry", value=2**64),
    _set("entry", value=True),
    _set("entry", value="0"),
    _set("text_bytes", value=-1),
    _set("text_bytes", value=10),
    _set("text_bytes", value=2**40),
    _set("line_count", value=0),
    _set("line_count", value=10**9),
    _set("files", value=None),
    _set("files", value=[5]),
    _set("files", value=[]),
    _set("sections", value=5),
    _set("sections", 0, 0, value=0x4_0000_0000),
    _set("sections", 0, 1, value=2**50),
    _set("reserved", value=[]),
    _set("reserved", 0, 0, value=0x300_0000_0000),
    _set("reserved", 0, value=[1, 2, 3]),
    _set("symbols", value=[]),
    _set("symbols", "a b", value=5),
    _set("symbols", "start", value=-1),
    _set("symbols", "points", value=0x4_4000_0000),
    _set("arrays", 0, value=[]),
    _set("arrays", 0, 1, value=0x4_4000_0008),
    _set("arrays", 0, 2, value="xx"),
    _set("arrays", 0, 2, value=[]),
    _set("arrays", 0, 3, value=[]),
    _set("arrays", 0, 3, value=[10**9, 10**9]),
    _set("source_name", value=None),
    lambda header: header.clear(),
]
# fmt: on


@pytest.mark.parametrize("change", FORGERIES, ids=range(len(FORGERIES)))
def test_forged_headers_are_refused(
    change: Callable[[dict[str, Any]], None], varied: Image, tmp_path: Path
) -> None:
    """The digest fits; what the header says does not."""
    path = tmp_path / "forged.dimg"
    path.write_bytes(forged(image_bytes(varied), lambda header: None))
    load_image(path)
    path.write_bytes(forged(image_bytes(varied), change))
    with pytest.raises(SourceError, match="not a good image"):
        load_image(path)


def test_programs_that_are_none(tmp_path: Path) -> None:
    for name, data, message in (
        ("empty.bin", b"", "the flat image is empty"),
        ("text.dimg", b"nop\n", "does not begin as one"),
        ("empty.dimg", b"", "does not begin as one"),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SourceError, match=message):
            open_program(tmp_path / name, {})
    with pytest.raises(FileError, match="No such file"):
        open_program(tmp_path / "none.dimg", {})


def test_large_flat_images_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dvm_mpi.disa.image_file.IMAGE_BYTES_MAX", 100)
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(101))
    with pytest.raises(SourceError, match="IMAGE_BYTES_MAX = 100"):
        load_flat(path)


def test_definitions_need_a_text(varied: Image, tmp_path: Path) -> None:
    path = tmp_path / "varied.dimg"
    save_image(varied, path)
    with pytest.raises(UsageError, match="-D COUNT has no effect"):
        open_program(path, {"COUNT": "5"})


def test_an_unwritable_place_is_a_file_error(varied: Image, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot be written"):
        save_image(varied, tmp_path / "none" / "x.dimg")
