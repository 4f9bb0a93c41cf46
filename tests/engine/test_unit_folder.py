from __future__ import annotations

import os
from dataclasses import replace

import pytest

from dvm_mpi.engine import unit_folder
from dvm_mpi.engine.unit_folder import BEGUN, WANTED, Request, UnitFolder, name_of
from tests.engine.loop_maker import looping

REQUEST = Request(0x4_0000_0040, (0x10_0000, 0x20_0000), notes_loads=True)


@pytest.fixture
def folder(tmp_path) -> UnitFolder:
    return UnitFolder(tmp_path / "not-there-yet")


def test_programs_that_differ_share_nothing() -> None:
    image = looping(50)
    assert name_of(looping(50)) == name_of(image)
    assert name_of(looping(51)) != name_of(image)
    # The same bytes, but control may go to any of them.
    assert name_of(replace(image, lines=None)) != name_of(image)
    # Code that notes loads.
    assert name_of(image, notes_loads=True) != name_of(image)
    # What is only loaded beside the text makes no difference.
    assert name_of(replace(image, symbols={"a": 1})) == name_of(image)


def test_a_request_is_worked_on_once(folder: UnitFolder) -> None:
    assert folder.requests() == []
    folder.ask(REQUEST)
    folder.ask(replace(REQUEST, static_pages=()))
    assert folder.requests() == [REQUEST]
    folder.begin(REQUEST)
    folder.ask(REQUEST)
    assert folder.requests() == []
    assert folder.requests(BEGUN) == [REQUEST]
    folder.settle(REQUEST)
    assert folder.names() == set()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pc": "x"}', b"\xff"])
def test_a_damaged_request_is_dropped(folder: UnitFolder, content: bytes) -> None:
    folder.write(REQUEST.place + WANTED, content)
    assert folder.requests() == []
    assert folder.names() == set()


def test_a_request_under_another_name_is_dropped(folder: UnitFolder) -> None:
    folder.ask(REQUEST)
    (folder.path / (REQUEST.place + WANTED)).rename(folder.path / ("12" + WANTED))
    assert folder.requests() == []


def test_all_units_are_there_or_not(folder: UnitFolder) -> None:
    assert folder.all_units() is None
    folder.complete(["b", "a"])
    assert folder.all_units() == {"a", "b"}
    folder.write("all.done", b"[")
    assert folder.all_units() is None


def test_only_so_many_programs_are_kept(tmp_path, monkeypatch) -> None:
    """Those that were used last; what lies beside them is somebody else's."""
    monkeypatch.setattr(unit_folder, "UNIT_FOLDERS_MAX", 3)
    (tmp_path / "dvm-interpreter-1.so").touch()
    folders = [UnitFolder(tmp_path / f"dvm-units-{number}") for number in range(6)]
    for number, folder in enumerate(folders):
        folder.ask(REQUEST)
        os.utime(folder.path, (number, number))
    folders[0].touch()
    folders[2].drop_old_ones()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"dvm-interpreter-1.so", "dvm-units-0", "dvm-units-2", "dvm-units-5"}
