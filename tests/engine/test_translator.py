"""The translator within the test's process; the process of its own is in test_native_code.py."""

from __future__ import annotations

import pytest

from dvm_mpi.config import TRANSLATION_TRIES_MAX
from dvm_mpi.disa.image_file import image_bytes
from dvm_mpi.engine.predecode import Program
from dvm_mpi.engine.translator import Translator
from dvm_mpi.engine.unit_file import unpack
from dvm_mpi.engine.unit_folder import FAILED, IMAGE, NONE, UNIT, Request, UnitFolder
from dvm_mpi.layout import TEXT_START
from tests.engine.loop_maker import FAILS, LoopMaker, looping
from tests.engine.machine import at, imm, op

PAGES = tuple(Program(looping(50)).static_pages)


class Bench:
    """A folder with a program, and a translator for it."""

    def __init__(self, path, *before) -> None:
        self.image = looping(50, *before)
        self.folder = UnitFolder(path / "units")
        self.folder.write(IMAGE, image_bytes(self.image))
        self.translator = Translator(self.folder, LoopMaker)

    @property
    def units(self) -> list[str]:
        return [name for name in sorted(self.folder.names()) if name.endswith(UNIT)]

    def words(self, name: str) -> str:
        content = self.folder.read(name)
        assert content is not None
        return content.decode()


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


def test_what_is_asked_for_is_made(bench: Bench) -> None:
    assert not bench.translator.step()
    bench.folder.ask(Request(TEXT_START, PAGES))
    assert bench.translator.step()
    (name,) = bench.units
    content = bench.folder.read(name)
    assert content is not None
    head, _ = unpack(content, bench.folder.key)
    assert head.entries == (head.addresses[0], head.addresses[2])
    assert head.addresses[0] == TEXT_START
    assert bench.folder.names() == {IMAGE, name}
    assert not bench.translator.step()


def test_one_unit_is_made_once_for_all_its_places(bench: Bench) -> None:
    assert bench.image.lines is not None
    first, second, *_ = bench.image.lines.addresses.tolist()
    bench.folder.ask(Request(first, PAGES))
    bench.translator.step()
    (name,) = bench.units
    made_at = (bench.folder.path / name).stat().st_mtime_ns
    bench.folder.ask(Request(second, PAGES))
    bench.folder.ask(Request(None, PAGES))
    bench.translator.step()
    assert bench.units == [name]
    assert (bench.folder.path / name).stat().st_mtime_ns == made_at
    assert bench.folder.all_units() == {name}


def test_a_damaged_unit_is_made_anew(bench: Bench) -> None:
    bench.folder.ask(Request(TEXT_START, PAGES))
    bench.translator.step()
    (name,) = bench.units
    whole = bench.folder.read(name)
    assert whole is not None
    bench.folder.write(name, whole[:100])
    bench.folder.ask(Request(TEXT_START, PAGES))
    bench.translator.step()
    content = bench.folder.read(name)
    assert content is not None
    unpack(content, bench.folder.key)


def test_where_nothing_can_be_translated_it_says_so(bench: Bench) -> None:
    request = Request(TEXT_START + 1, PAGES)
    bench.folder.ask(request)
    bench.translator.step()
    assert bench.folder.names() == {IMAGE, request.place + NONE}


@pytest.mark.parametrize("pc", [TEXT_START, None])
def test_a_failure_is_told_and_the_next_request_is_worked_on(tmp_path, pc: int | None) -> None:
    bench = Bench(tmp_path, op("mov", imm(FAILS), at(0x2_0000_0000)))
    lines = bench.image.lines
    assert lines is not None
    request = Request(None if pc is None else int(lines.addresses[1]), PAGES)
    bench.folder.ask(request)
    bench.translator.step()
    assert "this one cannot be translated" in bench.words(request.place + FAILED)
    other = Request(TEXT_START, PAGES)
    bench.folder.ask(other)
    bench.translator.step()
    assert other.place + NONE in bench.folder.names()


def test_a_request_of_which_translators_die_is_given_up_on(bench: Bench) -> None:
    request = Request(TEXT_START, PAGES)
    bench.folder.ask(request)
    for tries in range(TRANSLATION_TRIES_MAX):
        (found,) = bench.folder.requests()
        assert found.tries == tries
        bench.folder.begin(found)
        bench.translator.take_over()
    assert bench.folder.requests() == []
    assert "translators have died" in bench.words(request.place + FAILED)
