"""A whole machine in one process: time, order, sizes, and what it says when it is stuck."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.delivery import Delivery, InOrder, Part, Shuffled
from dvm_mpi.control.driver import LocalMachine, MachineSettings, Silent, StalledError
from dvm_mpi.control.messages import Dispatched, Finished, Message
from dvm_mpi.control.scheduler import Scheduler
from dvm_mpi.control.slices import TRANSLATED_PER_US, USUAL_PER_US
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.disa.image import Image
from dvm_mpi.dsm.messages import EpochApplied, LookupAnswered
from dvm_mpi.engine.interface import EngineSettings
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.errors import LimitError
from dvm_mpi.layout import DATA_START, PAGE_BYTES, PAGE_SHIFT

ENGINE = EngineSettings(config.STACK_BYTES_DEFAULT, 0, False, config.MIB, lambda: 0)

#: Four runners that sleep for 40, 30, 20 and 10 ms and print their numbers.
SLEEPERS = """
        .private i, length
main:   add     i, $1, i
        mul     i, $-10000, length
        add     length, $50000, length
        .runner sleeper, args=(i, length)
        br:l    i, $4, main
        exit:c
sleeper: .arguments i, length
        mov     $2, syscall_number
        mov     length, syscall_args
        int     0x80
        add     i, $'0', console
        exit:c
"""

#: One runner sleeps a little and prints; another works for long and prints.
SLEEPER_AND_WORKER = """
        .private i
main:   .runner sleeper
        .runner worker
        exit:c
sleeper: mov    $2, syscall_number
        mov     $5, syscall_args
        int     0x80
        mov     $'s', console
        exit:c
worker: add     i, $1, i
        br:l    i, $5000, worker
        mov     $'w', console
        exit:c
"""

#: Twelve runners add to one counter.
COUNTER = """
        .bss
total:  .space  8
        .private i
        .text
main:   .runner count, heap=[($total, $8)]
        add     i, $1, i
        br:l    i, $12, main
        exit:c
count:  add     total, $1, total
        add     total, $'a', console
        exit:c
"""

#: Sixty runners touch a page each of one large range: it is fetched page by page.
TOUCHING = """
        .bss
        .align  4096
pages:  .space  8 * 1024 * 1024
        .private at
        .text
main:   mov     $pages + 4096, at       ; the first page would be taken for the begin of a scan
next:   .runner child, args=(at), heap=[($pages, $8 * 1024 * 1024)]
        add     at, $32768, at
        br:l    at, $pages + 60 * 32768, next
        exit:c
child:  .arguments at
        mov     $1, (at)
        exit:c
"""


#: Four runners touch forty pages of one home block after another, twice, and count those that are
#: as they were loaded.
TOUCHING_ALL = """
        .data
        .align  4096
        .rept   40
        .quad   1
        .space  4088
        .endr
        .private i, at, pass, count
        .text
main:   .runner child, heap=[($0x440000000, $40 * 4096)]
        add     i, $1, i
        br:l    i, $4, main
        exit:c
child:  mov     $0x440000000, at
        mov     $0, count
again:  add     count, (at), count
        add     at, $4096, at
        br:l    at, $0x440000000 + 40 * 4096, again
        add     pass, $1, pass
        br:l    pass, $2, child
        mov     count, console
        exit:c
"""


class Listener(Silent):
    """Keeps the console, the time that was slept, and every message."""

    def __init__(self) -> None:
        self.heard = b""
        self.slept_us = 0
        self.told: list[tuple[Part, str]] = []
        self.turns = 0

    def printed(self, data: NDArray[np.uint8]) -> None:
        self.heard += data.tobytes()

    def idle(self, duration_us: int) -> None:
        self.slept_us += duration_us

    def turned(self, driver: LocalMachine) -> None:
        self.turns += 1

    def delivered(self, target: Part, message: Message) -> None:
        self.told.append((target, type(message).__name__))


def image_of(text: str) -> Image:
    return assemble_text(text, "test.dasm", {})


def machine_of(text: str, listener: Silent, delivery: Delivery | None = None, **sizes: Any) -> Any:
    settings = {"workers": 2, "homes": 2, "memory_bytes": 16 * config.MIB, "check": True} | sizes
    return LocalMachine(
        image_of(text),
        MachineSettings(**settings),
        lambda: ReferenceEngine(ENGINE),
        delivery=delivery,
        observer=listener,
    )


def run(text: str, delivery: Delivery | None = None, **sizes: Any) -> Listener:
    listener = Listener()
    with closing(machine_of(text, listener, delivery, **sizes)) as machine:
        assert machine.run().failure is None
    return listener


# --- time ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_sleepers_wake_in_the_order_of_their_time(workers: int) -> None:
    """A worker runs others while one sleeps, so that even one worker holds all four."""
    listener = run(SLEEPERS, workers=workers)
    assert listener.heard == b"4321"
    assert 30_000 <= listener.slept_us <= 45_000, "they slept side by side"


def test_a_sleeper_does_not_wait_for_others_to_finish(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker has nothing else to do, and another one is busy all the time."""
    monkeypatch.setattr(config, "SLICE_FUEL", 100)
    listener = run(SLEEPER_AND_WORKER)
    assert listener.heard == b"sw"
    assert listener.slept_us == 0


# --- messages -----------------------------------------------------------------------------------
def test_short_runners_are_reported_together() -> None:
    """A page that must be fetched interrupts a runner; the ends before it need not travel yet."""
    listener = run(TOUCHING, workers=1)
    told = [name for _, name in listener.told]
    assert told.count("LookupRequested") >= 60
    assert told.count("Finished") <= told.count("Dispatched") <= 20


@pytest.mark.parametrize("fuel_when_alone", [0, 1_000_000])
def test_long_runners_do_not_keep_others_ends_back(
    fuel_when_alone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first of a batch is reported while the second still runs."""
    monkeypatch.setattr(config, "SLICE_FUEL", 100)
    # Batches of two that are short as far as anybody knows; ends are reported as often.
    monkeypatch.setattr("dvm_mpi.control.dealing.BATCH_FUEL", 3 * config.RUNNER_FUEL)
    monkeypatch.setattr("dvm_mpi.control.dealing.WORKER_FUEL", config.RUNNER_FUEL)
    batches: list[int] = []
    reported_at: list[int] = []

    class Watching(Listener):
        lone_fuel = fuel_when_alone

        def delivered(self, target: Part, message: Message) -> None:
            if isinstance(message, Dispatched):
                batches.append(len(message.attempts))
            elif isinstance(message, Finished):
                reported_at.append(self.turns)

    text = """
        .private i
main:   mov     $1 << 20, i
        .runner quick
        .runner long
        exit:c
quick:  mov     $'q', console
        exit:c
long:   add     i, $1, i
        br:l    i, $5000, long
        mov     $'l', console
        exit:c
"""
    listener = Watching()
    with closing(machine_of(text, listener, InOrder(100), workers=1)) as machine:
        machine.scheduler.state.lengths.all.mean = 1.0
        machine.run()
    assert listener.heard == b"ql"
    assert batches == [1, 2]
    _, quick, long = reported_at
    assert long - quick > 50


def test_batches_are_longer_where_workers_are_taken_to_be_quick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As long in time as those of the interpreter: each costs as much, whatever is in it."""
    for module in ("dealing", "prediction"):
        monkeypatch.setattr(f"dvm_mpi.control.{module}.BATCH_FUEL", 20_000)
    text = """
        .private i
main:   .runner count, args=(i)
        add     i, $1, i
        br:l    i, $60, main
        exit:c
count:  .arguments i
        mov     $0, i
again:  add     i, $1, i
        br:l    i, $2000, again
        mov     $'c', console
        exit:c
"""
    dispatched = {}
    for pace in (0.0, USUAL_PER_US / 2, TRANSLATED_PER_US):
        listener = run(text, workers=1, pace_per_us=pace)
        assert listener.heard == b"c" * 60
        dispatched[pace] = [name for _, name in listener.told].count("Dispatched")
    usual, slow, quick = dispatched.values()
    assert slow == usual
    assert 2 * quick < usual


# --- order --------------------------------------------------------------------------------------
@pytest.mark.parametrize("make_delivery", [lambda: None, lambda: Shuffled(5, 200)])
def test_messages_as_bytes_are_messages_as_objects(
    make_delivery: Callable[[], Delivery | None],
) -> None:
    plain = run(COUNTER, make_delivery())
    wired = run(COUNTER, make_delivery(), on_wire=True)
    assert plain.told == wired.told
    assert plain.heard == wired.heard


def test_the_default_order_is_one_order() -> None:
    first, again = run(COUNTER, workers=3), run(COUNTER, workers=3)
    assert first.told == again.told
    assert first.turns == again.turns


@pytest.mark.parametrize("seed", range(3))
def test_any_order_gives_the_same_sum(seed: int) -> None:
    listener = run(COUNTER, Shuffled(seed, 30), workers=5, homes=3)
    assert listener.heard == bytes(range(ord("b"), ord("b") + 12))


#: One runner works for long, and nobody else is there.
ALONE = """
        .private i
main:   add     i, $1, i
        br:l    i, $5000, main
        mov     $'a', console
        exit:c
"""


class Patient(Listener):
    """Lets slices be long beside which nothing can happen."""

    lone_fuel = 1_000


@pytest.mark.parametrize("text", [ALONE, COUNTER, SLEEPERS, SLEEPER_AND_WORKER, TOUCHING])
@pytest.mark.parametrize("workers", [1, 2])
def test_long_slices_change_the_order_of_nothing(text: str, workers: int) -> None:
    usual, patient = Listener(), Patient()
    for listener in (usual, patient):
        with closing(machine_of(text, listener, InOrder(10), workers=workers)) as machine:
            machine.run()
    assert patient.told == usual.told
    assert patient.heard == usual.heard
    assert patient.turns <= usual.turns


def test_who_is_alone_has_long_slices() -> None:
    usual, patient = Listener(), Patient()
    for listener in (usual, patient):
        with closing(machine_of(ALONE, listener, InOrder(10), workers=2)) as machine:
            machine.run()
    assert usual.turns > 1_000
    assert patient.turns < 40


def test_slices_are_short_while_something_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time passes between slices; what waits for it must not wait for a long one."""
    monkeypatch.setattr(Scheduler, "due_at_us", property(lambda _: 1 << 60))
    patient = Patient()
    with closing(machine_of(ALONE, patient, InOrder(10), workers=2)) as machine:
        machine.run()
    assert patient.turns > 1_000


# --- sizes --------------------------------------------------------------------------------------
def test_memory_for_no_page_is_refused() -> None:
    with pytest.raises(LimitError, match="--memory 8191 is too small: each of the 2 homes"):
        machine_of(COUNTER, Silent(), memory_bytes=8191)


def test_full_homes_are_a_clear_error() -> None:
    with (
        closing(machine_of(COUNTER, Silent(), memory_bytes=2 * PAGE_BYTES)) as machine,
        pytest.raises(LimitError, match=r"shared memory of a home is full.*--memory"),
    ):
        machine.run()


def test_pages_are_read_across_homes() -> None:
    text = ".data\n" + ".align 4096\n.space 4096, 0x41\n.space 4096 * 40, 0x42\n.text\nexit:c\n"
    with closing(machine_of(text, Silent(), homes=3)) as machine:
        machine.run()
        content = machine.read(DATA_START >> PAGE_SHIFT, 42)
    assert content.shape == (42, PAGE_BYTES)
    assert (content[0] == 0x41).all()
    assert (content[1:41] == 0x42).all()
    assert (content[41] == 0).all()


# --- stuck --------------------------------------------------------------------------------------
class _Deaf(Shuffled):
    """Loses what homes say about epochs."""

    def post(self, source: Part, target: Part, message: Message) -> None:
        if not isinstance(message, EpochApplied):
            super().post(source, target, message)


def test_a_machine_that_is_stuck_says_who_waits_for_what() -> None:
    with (
        closing(machine_of(COUNTER, Silent(), _Deaf(1, 50))) as machine,
        pytest.raises(StalledError, match=r"nothing can happen, and \d+ runners are queued"),
    ):
        machine.run()


def test_a_worker_that_is_stuck_names_the_pages_and_their_home() -> None:
    class Silent(Shuffled):
        def post(self, source: Part, target: Part, message: Message) -> None:
            if not isinstance(message, LookupAnswered):
                super().post(source, target, message)

    place = rf"1 page in \[{DATA_START:#x}, {DATA_START + PAGE_BYTES:#x}\)"
    with (
        closing(machine_of(COUNTER, Listener(), Silent(1, 50), homes=1)) as machine,
        pytest.raises(StalledError, match=rf"worker \d: {place} as of epoch \d \(directory of"),
    ):
        machine.run()


# --- data planes --------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("plane", ["direct", "message", "late"])
def test_a_view_with_room_for_few_pages_gives_the_same(plane: str, seed: int) -> None:
    """Pages are pushed out while others are under way; whoever needs them gets them again."""
    listener = Listener()
    with closing(
        LocalMachine(
            image_of(TOUCHING_ALL),
            MachineSettings(
                workers=2,
                homes=3,
                memory_bytes=16 * config.MIB,
                plane=plane,  # type: ignore[arg-type]
                check=True,
                on_wire=True,
            ),
            lambda: InterpEngine(replace(ENGINE, cache_bytes=6 * PAGE_BYTES)),
            delivery=Shuffled(seed, 400),
            observer=listener,
        )
    ) as machine:
        assert machine.run().failure is None
        assert (machine.homes[0].arena.size == 0) == (plane == "message")
    assert listener.heard == bytes([40]) * 4
