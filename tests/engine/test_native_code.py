"""Translated code by a real process, from a folder of the test's own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dvm_mpi.disa.image import Image
from dvm_mpi.engine import interp, tiers
from dvm_mpi.engine.interface import Reason
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.engine.native_code import NativeCode
from dvm_mpi.engine.predecode import Program
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.engine.unit_file import pack, unpack
from dvm_mpi.engine.unit_folder import LOCK, UNIT, UnitFolder
from dvm_mpi.layout import DATA_START, PAGE_SHIFT
from tests.engine.loop_maker import DIES, FAILS, looping
from tests.engine.machine import Ended, Host, Task, at, batch, imm, op, run_tasks, settings
from tests.patience import PATIENCE_S

MAKER = "tests.engine.loop_maker"
LIMIT = 2_000_000


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> None:
    """Let units be kept in a folder of the test's own; compiled code stays where it is."""
    monkeypatch.setattr(
        UnitFolder,
        "of",
        classmethod(lambda cls, image, **_: cls(tmp_path / f"u-{len(image.text)}")),
    )


class Told(list[str]):
    """Lines for the user."""

    def take(self, line: str) -> None:
        self.append(line)


def pages_of(image: Image) -> list[int]:
    return Program(image).static_pages


def until(native: NativeCode, has_come) -> None:
    ends_s = time.monotonic() + PATIENCE_S
    while not has_come():
        assert time.monotonic() < ends_s, native.waits_for
        native.look()
        time.sleep(0.002)


def translated(image: Image, told: Told) -> NativeCode:
    native = NativeCode(image, told.take, MAKER)
    native.want(None, pages_of(image))
    until(native, lambda: not native.waits)
    return native


def run(image: Image, native: NativeCode | None, fuel: int = 400_000) -> tuple[list[Ended], int]:
    engine = InterpEngine(settings(), native)
    try:
        engine.load(image, b"")
        engine.begin(batch([Task()]))
        return Host(engine).run(fuel), engine.native_instructions
    finally:
        engine.close()


def test_a_program_is_translated_before_it_runs() -> None:
    image, told = looping(50), Told()
    native = translated(image, told)
    expected, none = run(image, None)
    assert none == 0
    assert run(image, native) == (expected, 150)
    figures = native.figures()
    assert (figures.units, figures.cached_units, figures.instructions) == (1, 0, 150)
    assert figures.translate_s > 0
    native.close()
    assert told == []


def test_the_next_run_finds_what_was_translated() -> None:
    image, told = looping(50), Told()
    translated(image, told).close()
    native = NativeCode(image, told.take, "no.such.module")
    native.want(None, pages_of(image))
    assert not native.waits
    assert run(image, native)[1] == 150
    assert native.figures().cached_units == 1
    assert native.figures().translate_s == 0
    native.close()
    assert told == []


def test_a_hot_loop_is_translated_while_it_runs(monkeypatch) -> None:
    """The same attempt that was interpreted goes on in native code."""
    monkeypatch.setattr(tiers, "SAMPLE_FUEL", 1_000)
    monkeypatch.setattr(tiers, "HOT_SAMPLES", 4)
    image, told = looping(1 << 40), Told()
    native = NativeCode(image, told.take, MAKER)
    engine = InterpEngine(settings(), native)
    engine.load(image, b"")
    engine.begin(batch([Task()]))
    ends_s = time.monotonic() + PATIENCE_S
    executed = 0
    while not engine.native_instructions:
        executed += engine.run(50_000).instructions
        assert time.monotonic() < ends_s
    before = engine.native_instructions
    assert engine.run(3_000_000).instructions == 3_000_000
    assert engine.native_instructions - before > 2_900_000
    engine.close()
    native.close()
    assert told == []


@pytest.mark.parametrize("ends_slices", [False, True])
def test_a_slice_ends_where_much_of_it_was_interpreted(monkeypatch, ends_slices: bool) -> None:
    """However much fuel it has: with it translated code may run for long."""
    name = "SLICE_FUEL" if ends_slices else "LONG_SLICE_FUEL"
    monkeypatch.setattr(interp, name, 5_000)
    monkeypatch.setattr(tiers, "SAMPLE_FUEL", 1_500)
    image, told = looping(1 << 40), Told()
    native = NativeCode(image, told.take, MAKER, ends_slices=ends_slices)
    engine = InterpEngine(settings(), native)
    engine.load(image, b"")
    engine.begin(batch([Task()]))
    for _ in range(2):
        stopped = engine.run(1_000_000)
        assert stopped.reason is Reason.SLICE_ENDED
        assert stopped.instructions == 5_000
    engine.close()
    native.close()


RUNNERS = 10


@pytest.fixture
def alternating(monkeypatch) -> Iterator[InterpEngine]:
    """Return an engine with RUNNERS runners.

    Of each 802 instructions are interpreted, and 6,000 are not. A sample is taken after each 1,000
    that are interpreted, but for the exits, which go uncounted.
    """
    monkeypatch.setattr(tiers, "SAMPLE_FUEL", 1_000)
    monkeypatch.setattr(tiers, "SAMPLE_FUEL_MAX", 1_000)
    other = at(0x2_0000_0000)
    interpreted = op("add", other, imm(1), other), op("br:l", other, imm(400), target=0)
    image, told = looping(2_000, *interpreted), Told()
    native = translated(image, told)
    engine = InterpEngine(settings(), native)
    engine.load(image, b"")
    Host(engine).install([DATA_START >> PAGE_SHIFT], until=1 << 40)
    engine.begin(batch([Task()] * RUNNERS))
    yield engine
    engine.close()
    native.close()
    assert told == []


@pytest.mark.parametrize("fuel", [50, 500, 1_000_000])
def test_samples_are_taken_of_what_is_interpreted(monkeypatch, alternating, fuel: int) -> None:
    """However much runs translated in between, and in however many slices."""
    sampled: list[int] = []
    sample = tiers.Tiers.sample

    def noted(of: tiers.Tiers, pc: int) -> bool:
        sampled.append(pc)
        return sample(of, pc)

    monkeypatch.setattr(tiers.Tiers, "sample", noted)
    executed = sum(ended.row["instructions"] for ended in Host(alternating).run(fuel))
    assert executed == RUNNERS * 6_802
    assert alternating.native_instructions > 40_000
    interpreted = executed - alternating.native_instructions - RUNNERS
    assert len(sampled) == interpreted // 1_000


def test_a_slice_does_not_end_where_much_of_it_ran_translated(monkeypatch, alternating) -> None:
    monkeypatch.setattr(interp, "LONG_SLICE_FUEL", 5_000)
    stopped = alternating.run(1_000_000)
    assert stopped.reason is Reason.SLICE_ENDED
    assert stopped.instructions - alternating.native_instructions == 5_000 + stopped.index
    assert alternating.native_instructions == 6 * 6_000


def test_several_ranks_have_one_translator() -> None:
    """Who has no translator of its own finds what was made for others."""
    image, told = looping(50), Told()
    one, other = (NativeCode(image, told.take, MAKER) for _ in range(2))
    for native in (one, other):
        native.want(None, pages_of(image))
    for native in (one, other):
        until(native, lambda native=native: not native.waits)
        assert len(native.units) == 1
    assert [native._child is None for native in (one, other)].count(True) == 1
    for native in (one, other):
        native.close()
    assert told == []


def test_who_is_left_takes_over() -> None:
    """The rank whose translator it was ends before anything was made."""
    image, told = looping(50), Told()
    one, other = (NativeCode(image, told.take, MAKER) for _ in range(2))
    one.want(None, pages_of(image))
    one.look()
    assert one._child is not None
    os.kill(one._child.pid, signal.SIGSTOP)
    other.want(None, pages_of(image))
    other.look()
    assert other._child is None
    one.close()
    until(other, lambda: not other.waits)
    assert len(other.units) == 1
    other.close()
    assert told == []


@pytest.mark.parametrize("damage", ["cut", "other bit", "from elsewhere", "no library", "empty"])
def test_damaged_units_are_dropped_and_made_anew(damage: str) -> None:
    image, told = looping(50), Told()
    native = translated(image, told)
    native.close()
    folder = UnitFolder.of(image)
    (name,) = (name for name in folder.names() if name.endswith(UNIT))
    whole = folder.read(name)
    assert whole is not None
    head, library = unpack(whole, folder.key)

    elsewhere = replace(head, key="else")
    folder.write(
        name,
        {
            "cut": whole[: len(whole) // 2],
            "other bit": whole[:-1] + bytes([whole[-1] ^ 1]),
            "from elsewhere": pack(elsewhere, library),
            "no library": pack(head, b"code"),
            "empty": b"",
        }[damage],
    )
    native = translated(image, told)
    assert run(image, native)[1] == 150
    assert len(told) == 1
    assert "dropped, and made anew" in told[0]
    native.close()


def test_a_failure_is_told_once_and_costs_speed_only() -> None:
    image, told = looping(50, op("mov", imm(FAILS), at(0x2_0000_0000))), Told()
    for _ in range(2):
        told.clear()
        native = translated(image, told)
        ended, count = run(image, native)
        assert count == 0
        assert ended == run(image, None)[0]
        until(native, lambda: told)
        for _ in range(3):
            native._look_at_s = 0.0
            native.look()
        native.close()
        (line,) = told
        assert "this one cannot be translated" in line


def test_a_killed_translator_is_told_once() -> None:
    image, told = looping(50, op("mov", imm(DIES), at(0x2_0000_0000))), Told()
    native = translated(image, told)
    native.want(0x4_0000_0000, pages_of(image))
    assert not native.waits
    (line,) = told
    assert "the translator ended with signal SIGKILL" in line
    assert run(image, native)[1] == 0
    native.close()


def test_without_a_folder_programs_are_interpreted(tmp_path, monkeypatch) -> None:
    """A file lies where the folder should be."""
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    monkeypatch.setattr(UnitFolder, "of", classmethod(lambda cls, *_, **__: cls(blocked / "units")))
    image, told = looping(50), Told()
    native = translated(image, told)
    assert run(image, native)[1] == 0
    native.close()
    (line,) = told
    assert "nothing more is translated" in line


def test_the_translator_ends_with_whom_it_was_started_by() -> None:
    image, told = looping(50), Told()
    native = translated(image, told)
    child = native._child
    assert child is not None
    native.close()
    assert child.poll() is not None
    assert (UnitFolder.of(image).path / LOCK).exists()


def test_results_are_those_of_the_reference() -> None:
    image, told = looping(500), Told()
    native = translated(image, told)
    for fuel in (1, 7, 100, 1_000_000):
        expected, _ = run_tasks(ReferenceEngine, image, [Task()], fuel=fuel)
        assert run(image, native, fuel)[0] == expected
    native.close()


def test_code_that_was_made_elsewhere_is_used(tmp_path, monkeypatch) -> None:
    """Two hosts that share no folder: the second one waits for what the first one sends."""
    image, told, sent = looping(50), Told(), []
    first = NativeCode(image, told.take, MAKER)
    first.share = lambda name, content: sent.append((name, content))
    first.want(None, pages_of(image))
    until(first, lambda: not first.waits)
    first.close()
    ((name, content),) = sent
    monkeypatch.setattr(
        UnitFolder, "of", classmethod(lambda cls, *_, **__: cls(tmp_path / "other" / first.key))
    )
    second = NativeCode(image, told.take, "no.such.module", starts_after_s=3600.0)
    second.want(0x4_0000_0000, pages_of(image))
    second.take("another key", name, content)
    second.take(first.key, "../" + name, content)
    second.look()
    assert not second.units
    assert second._child is None
    second.take(first.key, name, content)
    until(second, lambda: second.units)
    assert run(image, second)[1] == 150
    second.close()
    assert told == []
