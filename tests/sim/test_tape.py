"""A run on file is the run in memory, claim for claim; every attempt can be run alone from it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from dvm_mpi import config
from dvm_mpi.control.coordinator_state import Claim, RecordOrder
from dvm_mpi.control.delivery import Part, Shuffled
from dvm_mpi.control.driver import LocalMachine, MachineSettings, Silent
from dvm_mpi.control.dumper import told_pages
from dvm_mpi.control.messages import Message
from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import LoadTracking
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.io.record_file import RecordWriter
from dvm_mpi.sim.alone import Alone
from dvm_mpi.sim.history import EndedAttempt, History, Recorder, held_pages
from dvm_mpi.sim.inputs import learn_inputs
from dvm_mpi.sim.tape import Circumstances, RecordedRun, Tape, read_run, sections_of
from tests.sim.machine import ENGINE, HOMES, SLICE_FUEL, WORKERS, program

SETTINGS = replace(ENGINE, loads=LoadTracking.CONTENT)
CIRCUMSTANCES = Circumstances(
    command=("p.dasm",),
    ranks=WORKERS,
    engine="reference",
    stack_bytes=SETTINGS.stack_bytes,
    fuel_max=0,
    allow_undeclared=False,
    isolation="snapshot",
    conflict_unit="byte",
    deterministic=False,
    inputs=(),
)


class Both(Silent):
    """Tells two observers."""

    def __init__(self, *observers: Silent) -> None:
        self._observers = observers

    def printed(self, data: Any) -> None:
        for each in self._observers:
            each.printed(data)

    def delivered(self, target: Part, message: Message) -> None:
        for each in self._observers:
            each.delivered(target, message)

    def ordered(self, order: RecordOrder) -> None:
        for each in self._observers:
            each.ordered(order)

    def claimed(self, claim: Claim) -> None:
        for each in self._observers:
            each.claimed(claim)


def record(path: Path, image: Image, seed: int) -> tuple[History, RecordedRun]:
    """Run a program; return what was recorded in memory, and what is read back from a file."""
    recorder = Recorder()
    writer = RecordWriter(path, "p", sections_of(CIRCUMSTANCES, image, b"in", {"p.dasm": "text"}))
    tape = Tape(writer)
    settings = MachineSettings(
        workers=WORKERS, homes=HOMES, memory_bytes=16 * config.MIB, inline_bytes_max=16,
        arena_slice_bytes=16 * config.KIB, tells_staged=True,
    )  # fmt: skip
    machine = LocalMachine(
        image, settings, lambda: ReferenceEngine(SETTINGS),
        delivery=Shuffled(seed, SLICE_FUEL), observer=Both(recorder, tape),
    )  # fmt: skip
    with closing(machine):
        ending = machine.run()
        visible = machine.scheduler.state.log.visible
        pages = [page for home in machine.homes for page in held_pages(home, visible).items()]
        for home in machine.homes:
            for told in told_pages(home, visible):
                tape.delivered(("coordinator", 0), told)
        tape.ended(ending.failure)
        writer.close()
    return recorder.history(ending.failure, dict(pages)), read_run(path, "replay")


@pytest.mark.parametrize("name", ["counters", "watchers", "stacks", "large", "trap", "storm"])
def test_a_run_on_file_is_the_run_in_memory(name: str, tmp_path: Path) -> None:
    image = program(name)
    kept, run = record(tmp_path / "r.h5", image, 1)
    for field in fields(History):
        assert getattr(run.history, field.name) == getattr(kept, field.name), field.name
    assert run.circumstances == CIRCUMSTANCES
    assert (run.stdin, run.sources) == (b"in", {"p.dasm": "text"})
    assert (run.image.text, run.image.symbols) == (image.text, image.symbols)
    assert kept.orders
    for number, ended in run.history.ended.items():
        assert all(content is not None for _, _, content in ended.stores), number


@pytest.mark.parametrize("name", ["counters", "append", "watchers", "stacks", "trap", "aborts"])
def test_every_attempt_runs_alone_from_what_it_loaded(name: str, tmp_path: Path) -> None:
    """Those that lost, aborted and trapped as well."""
    image = program(name)
    _, run = record(tmp_path / "r.h5", image, 2)
    for number, ended in sorted(run.history.ended.items()):
        alone = Alone(image, SETTINGS, b"in", run.history.given[number], ended)
        alone.finish()
        assert alone.differences() == [], number
    if name != "aborts":
        assert len(run.history.ended) > len(run.history.orders), "somebody did not win"


def test_an_attempt_that_looks_elsewhere_is_told(tmp_path: Path) -> None:
    image = program("counters")
    _, run = record(tmp_path / "r.h5", image, 2)
    number = next(n for n, ended in run.history.ended.items() if ended.loads)
    given, ended = run.history.given[number], run.history.ended[number]

    def differences(**changes: object) -> list[str]:
        changed: EndedAttempt = replace(ended, **changes)  # type: ignore[arg-type]
        alone = Alone(image, SETTINGS, b"", given, changed)
        alone.finish()
        return alone.differences()

    start, length, content = ended.loads[0]
    assert content is not None
    assert differences() == []
    assert differences(loads=ended.loads[1:])[0] == (
        f"it needs {length} bytes at {start:#x} that it did not load then; they were taken as zeros"
    )
    half = (start + 2, length - 2, content[2:])
    assert differences(loads=(half, *ended.loads[1:]))[0].startswith(
        f"it needs 2 bytes at {start:#x}"
    )
    other = (start, length, bytes(b ^ 1 for b in content))
    assert any("stores was" in line for line in differences(loads=(other, *ended.loads[1:])))
    assert differences(instructions=1) == [
        "it could not be executed to its end: it goes on after 1 instructions"
    ]


# --- inputs -------------------------------------------------------------------------------------
def test_inputs_are_learned_from_who_saw_them_first() -> None:
    """Byte 0 was loaded before it was stored, byte 1 only after, byte 2 is only seen in the end."""
    given = {n: _given(n, snapshot) for n, snapshot in ((1, 1), (2, 1), (3, 2))}
    ended = {
        1: _ended(stores=((4096, 2, b"\x50\x51"),)),
        2: _ended(loads=((4096, 1, b"\x10"),)),
        3: _ended(loads=((4096, 2, b"\x50\x51"),)),
    }
    final = b"\x50\x51\x12" + bytes(4093)
    history = History(given, ended, [(1, 2), (2, 3), (3, 3)], pages={1: final, 2: final})
    ((address, content),) = learn_inputs(history, [(4096, 4096)])
    assert (address, content[:4]) == (4096, b"\x10\x00\x12\x00")


def _given(number: int, snapshot: int) -> Any:
    class Given:
        pass

    given: Any = Given()
    given.number, given.snapshot = number, snapshot
    return given


def _ended(**values: Any) -> EndedAttempt:
    blank: dict[str, Any] = dict.fromkeys((f.name for f in fields(EndedAttempt)), 0)
    return EndedAttempt(**(blank | {"stores": (), "loads": (), "children": ()} | values))
