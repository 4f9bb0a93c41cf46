from __future__ import annotations

import pytest

from dvm_mpi.engine.unit_file import SYMBOL, DamagedUnitError, UnitHead, load, pack, unpack
from dvm_mpi.native import linking
from tests.engine import units

HEAD = UnitHead("key", (0x4_0000_0000, 0x4_0000_0010), (0x4_0000_0000,), (7,), (0x20_0000,), 0.25)


def test_a_unit_is_what_was_packed() -> None:
    assert unpack(pack(HEAD, b"code"), "key") == (HEAD, b"code")


@pytest.mark.parametrize("cut", [0, 1, 31, 32, 60, 200])
def test_a_unit_that_was_cut_off_is_not_loaded(cut: int) -> None:
    with pytest.raises(DamagedUnitError, match="damaged"):
        unpack(pack(HEAD, bytes(1000))[:cut], "key")


def test_a_unit_with_another_bit_is_not_loaded() -> None:
    packed = bytearray(pack(HEAD, b"code"))
    for at in (0, 40, len(packed) - 1):
        other = bytes(packed[:at]) + bytes([packed[at] ^ 1]) + bytes(packed[at + 1 :])
        with pytest.raises(DamagedUnitError, match="damaged"):
            unpack(other, "key")


def test_a_unit_from_elsewhere_is_not_loaded() -> None:
    with pytest.raises(DamagedUnitError, match="from elsewhere"):
        unpack(pack(HEAD, b"code"), "other key")


def test_many_libraries_are_loaded_side_by_side(tmp_path) -> None:
    """They all have the same name for their function, and the system's files without names too."""
    addresses = set()
    for number in range(3):
        text = f"define i64 @{SYMBOL}(i64 %s, i64 %e, i64 %f) {{ ret i64 {number} }}"
        library = linking.library_of(units.object_of(text), tmp_path)
        assert library is not None
        addresses.add(load(library))
    assert len(addresses) == 3
    assert not list(tmp_path.iterdir())


def test_what_the_system_refuses_is_damaged() -> None:
    with pytest.raises(DamagedUnitError, match="cannot be loaded"):
        load(b"no library")
