"""One result of a racing program, whatever the machine: the promise of `--deterministic`.

`DETERMINISTIC=all` (`make deterministic`) runs `order` in every combination of workers, homes,
planes and 20 orders of events, half of them on each engine; the usual run takes a few.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest

from dvm_mpi import config
from dvm_mpi.control import rounds
from dvm_mpi.control.delivery import Shuffled
from dvm_mpi.control.driver import LocalMachine, MachineSettings
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interface import Engine, TrapKind
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.sim.history import Recorder, held_pages
from dvm_mpi.sim.replay import replay
from tests.sim.machine import ENGINE, SLICE_FUEL, program

RUNS_ALL = os.environ.get("DETERMINISTIC", "") == "all"
#: Few, so that a small program has many rounds.
ROUND_RUNNERS = 8
RACERS = 12
#: Without a clock, as `--deterministic` has it.
TIMELESS = replace(ENGINE, clock=None)
ENGINES: dict[str, Callable[[], Engine]] = {
    "interp": lambda: InterpEngine(TIMELESS),
    "reference": lambda: ReferenceEngine(TIMELESS),
}


@pytest.fixture(autouse=True)
def small_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "ROUND_RUNNERS", ROUND_RUNNERS)


def run(
    image: Image, engine: str, seed: int, *, is_replayed: bool = False, **settings: Any
) -> tuple[str, bytes]:
    """Return a digest of all memory, and the console, of one run in an order drawn from `seed`."""
    recorder = Recorder()
    sizes = {"memory_bytes": 256 * config.MIB, "arena_slice_bytes": 16 * config.KIB}
    given = sizes | {"deterministic": True} | settings
    machine = LocalMachine(
        image,
        MachineSettings(**given),
        ENGINES[engine],
        delivery=Shuffled(seed, SLICE_FUEL),
        observer=recorder,
    )
    with closing(machine):
        ending = machine.run()
        visible = machine.scheduler.state.log.visible
        held = [page for home in machine.homes for page in held_pages(home, visible).items()]
        history = recorder.history(ending.failure, dict(held))
    if is_replayed:
        assert replay(history, image, TIMELESS) == []
    if machine.scheduler.state.failure is None:
        assert machine.scheduler.state.table.live_count == len(ending.watchers)
    digest = hashlib.sha256()
    for number, content in sorted(held):
        if any(content):
            digest.update(number.to_bytes(8, "little") + content)
    return digest.hexdigest(), bytes(history.console)


@cache
def expected(name: str) -> tuple[str, bytes]:
    """Return what a program leaves, checked at every step, and equal to its replay."""
    image = racing(name)
    return run(image, "reference", 99, workers=2, homes=1, check=True, is_replayed=True)


def racing(name: str) -> Image:
    return program(name, RUNNERS=RACERS) if name == "order" else program(name)


#: Workers, homes and plane.
FEW = ((1, 1, "direct"), (2, 2, "message"), (3, 4, "late"), (8, 1, "message"))
EVERY = tuple(product((1, 2, 3, 8), (1, 2, 4), ("direct", "message", "late")))


@pytest.mark.parametrize("machine", EVERY if RUNS_ALL else FEW)
def test_any_machine_and_any_order_leaves_the_same(machine: tuple[int, int, str]) -> None:
    workers, homes, plane = machine
    for seed in range(20) if RUNS_ALL else (workers, workers + 1):
        engine = ("interp", "reference")[seed % 2]
        left = run(racing("order"), engine, seed, workers=workers, homes=homes, plane=plane)
        assert left == expected("order"), f"{engine}, seed {seed}"


@pytest.mark.parametrize("name", ["watchers", "chains", "stacks", "sleepers", "large"])
def test_other_racing_programs_leave_the_same(name: str) -> None:
    for seed, (workers, homes, plane) in enumerate(FEW):
        engine = ("interp", "reference")[seed % 2]
        left = run(racing(name), engine, seed, workers=workers, homes=homes, plane=plane)
        assert left == expected(name), f"{engine}, seed {seed}"


def test_without_the_option_runs_differ() -> None:
    """So the test above is one that can fail."""
    image = racing("order")
    left = {
        run(image, "interp", seed, workers=workers, deterministic=False)
        for workers, seed in ((1, 0), (8, 2))
    }
    assert len({memory for memory, _ in left}) == 2
    assert len({console for _, console in left}) == 2


def test_records_ordered_as_they_come_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds alone are not enough: a fault that leaves out the order within them."""
    monkeypatch.setattr(rounds, "select", lambda joined, _: joined)
    left = {run(racing("order"), "interp", seed, workers=8) for seed in range(3)}
    assert len(left) > 1


def test_write_sets_that_are_staged_keep_their_owners() -> None:
    """Records of several workers are ordered in one message; each lies in its own arena."""
    image = racing("order")
    left = run(image, "interp", 1, workers=3, homes=2, inline_bytes_max=4, arena_slice_bytes=512)
    assert left == expected("order")


def test_the_first_trap_of_a_round_ends_the_program_and_the_others_leave_nothing() -> None:
    """All print and commit but three, which trap; before the first of these are four."""
    image = assemble_text(
        """
        .private i, zero
        .text
main:   .runner child, args=(i)
        add     i, $1, i
        br:l    i, $12, main
        exit:c
child:  .arguments i
        add     i, $'a', console
        and     i, $4, zero
        br:z    zero, .done
        div     i, $0, i
.done:  exit:c
""",
        "test.dasm",
        {},
    )
    for seed in range(5):
        assert run(image, "interp", seed, workers=4)[1] == b"abcd"


def test_one_runner_may_have_thousands_of_children_beside_others() -> None:
    """Sixteen ask for addresses again and again, and get theirs whatever the order."""
    image = assemble_text(
        """
        .default CHILDREN, 150
        .bss
        .align  4096
ids:    .space  8 * 16
        .private i, left, place
        .text
main:   mul     i, $8, place
        add     place, $ids, place
        .runner parent, args=(place), heap=[(place, $8)]
        add     i, $1, i
        br:l    i, $16, main
        exit:c
parent: .arguments place
        mov     $CHILDREN, left
.next:  .runner child
        sub     left, $1, left
        br:nz   left, .next
        mov     child_id, (place)
        exit:c
child:  exit:c
""",
        "test.dasm",
        {},
    )
    left = {
        run(image, "interp", seed, workers=workers) for workers, seed in ((1, 0), (2, 1), (5, 2))
    }
    assert len(left) == 1


def test_gettime_is_refused() -> None:
    image = assemble_text(
        "main:   mov $7, syscall_number\n        int 0x80\n        exit:c\n", "test.dasm", {}
    )
    for make_engine in ENGINES.values():
        settings = MachineSettings(memory_bytes=config.MIB, deterministic=True)
        with closing(LocalMachine(image, settings, make_engine)) as machine:
            failure = machine.run().failure
        assert failure is not None
        assert failure.trap == TrapKind.NO_TIME


def test_a_race_for_one_cell_costs_two_attempts_each() -> None:
    """Of those that lost over the same bytes one goes at a time."""
    image = assemble_text(
        """
        .bss
        .align  4096
total:  .space  8
        .private i
        .text
main:   .runner count, heap=[($total, $8)]
        add     i, $1, i
        br:l    i, $64, main
        exit:c
count:  add     total, $1, total
        exit:c
""",
        "test.dasm",
        {},
    )
    settings = MachineSettings(workers=3, memory_bytes=config.MIB, deterministic=True, check=True)
    with closing(LocalMachine(image, settings, ENGINES["interp"])) as machine:
        assert machine.run().failure is None
        address = image.symbols["total"]
        page = machine.read(address // 4096, 1)[0]
        counters = machine.scheduler.counters
    assert page[:8].view(np.int64)[0] == 64
    assert counters.attempts <= 1 + 2 * 64
