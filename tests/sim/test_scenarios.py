"""Promises in numbers: what many runners cost, and what must not happen to them."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.delivery import Shuffled
from dvm_mpi.control.driver import LocalMachine, MachineSettings, Silent
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.disa.image import Image
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT
from tests.sim.machine import ENGINE, simulate


class Watched(Silent):
    """Keeps the console; measures memory at the start and at its highest, now and then."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.turns = 0
        self.bytes_first = 0
        self.bytes_most = 0
        self.epochs = 0

    def printed(self, data: NDArray[np.uint8]) -> None:
        self.heard += data.tobytes()

    def turned(self, driver: LocalMachine) -> None:
        self.epochs = driver.scheduler.counters.epochs
        if self.turns % 256 == 0 and self.epochs > 100:
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
            self.bytes_first = self.bytes_first or resident
            self.bytes_most = max(self.bytes_most, resident)
        self.turns += 1


def image_of(text: str) -> Image:
    return assemble_text(text, "test.dasm", {})


def run(image: Image, **settings: int) -> tuple[LocalMachine, Watched]:
    """Run in the default order on the compiled engine; the machine is closed."""
    watched = Watched()
    sizes = {"workers": 8, "homes": 4, "memory_bytes": 64 * config.MIB} | settings
    machine = LocalMachine(
        image,
        MachineSettings(**sizes),  # type: ignore[arg-type]
        lambda: InterpEngine(ENGINE),
        observer=watched,
    )
    with closing(machine):
        assert machine.run().failure is None
    return machine, watched


def words_at(machine: LocalMachine, label: str, count: int) -> list[int]:
    address = machine.image.symbols[label]
    assert address % PAGE_BYTES == 0
    content = machine.read(address >> PAGE_SHIFT, -(-8 * count // PAGE_BYTES))
    words: list[int] = content.reshape(-1).view(np.int64)[:count].tolist()
    return words


ADJACENT = """
        .default RUNNERS, 2048
        .bss
        .align  4096
words:  .space  8 * RUNNERS
        .private cell
        .text
main:   mov     $words, cell
next:   .runner store, args=(cell), heap=[(cell, $8)]
        add     cell, $8, cell
        br:l    cell, $words + 8 * RUNNERS, next
        exit:c
store:  .arguments cell
        mov     cell, (cell)
        exit:c
"""


@pytest.mark.parametrize("seed", [None, 1])
def test_2048_neighbours_do_not_retry(seed: int | None) -> None:
    image = image_of(ADJACENT)
    first = image.symbols["words"]
    expected = list(range(first, first + 8 * 2048, 8))
    if seed is None:
        machine, _ = run(image)
        assert words_at(machine, "words", 2048) == expected
        assert machine.scheduler.counters.retries == 0
        assert machine.scheduler.counters.attempts == 2049
    else:
        replayed = simulate(image, seed)
        assert replayed.differences == []
        assert replayed.words("words", 2048) == expected
        assert replayed.retries == 0


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_64_runners_add_one_to_one_counter(seed: int | None) -> None:
    image = image_of("""
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
""")
    if seed is None:
        machine, _ = run(image)
        assert words_at(machine, "total", 1) == [64]
    else:
        replayed = simulate(image, seed)
        assert replayed.differences == []
        assert replayed.word("total") == 64


@pytest.mark.parametrize("seed", range(5))
def test_a_parent_that_aborts_has_no_children(seed: int) -> None:
    """Nor watchers, and nothing that it stored or printed; those of its brother are there."""
    image = image_of("""
        .bss
        .align  4096
ran:    .space  8
        .private aborts
        .text
main:   .runner parent, args=($1), heap=[($ran, $8)]
        .runner parent, args=($0), heap=[($ran, $8)]
        exit:c
parent: .arguments aborts
        .runner child, args=(aborts), heap=[($ran, $8)]
        .runner child, args=(aborts), heap=[($ran, $8)], watch=[($ran, $8)]
        mov     $'p', console
        br:z    aborts, .stays
        mov     $1000, ran
        exit:a
.stays: exit:c
child:  .arguments aborts
        mul     aborts, $100, aborts
        add     ran, aborts, ran
        add     ran, $1, ran
        mov     $'c', console
        exit:cd
""")
    replayed = simulate(image, seed)
    assert replayed.differences == []
    assert replayed.history.console == b"pcc", "the child, and the watcher that it woke"
    assert replayed.word("ran") == 2


@pytest.mark.parametrize("order", ["default", "shuffled"])
def test_10240_children_of_one_commit(order: str) -> None:
    image = image_of(ADJACENT.replace("2048", "10240"))
    watched = Watched()
    machine = LocalMachine(
        image,
        MachineSettings(workers=4, homes=2, memory_bytes=64 * config.MIB),
        lambda: InterpEngine(ENGINE),
        delivery=Shuffled(1, config.SLICE_FUEL) if order == "shuffled" else None,
        observer=watched,
    )
    with closing(machine):
        assert machine.run().failure is None
    words = words_at(machine, "words", 10240)
    assert words == [image.symbols["words"] + 8 * i for i in range(10240)]
    counters = machine.scheduler.counters
    assert (counters.runners, counters.commits, counters.retries) == (10241, 10241, 0)
    assert machine.scheduler.state.table.live_count == 0


REWRITERS = """
        .default CHAINS, 8
        .default COMMITS, 1250          ; of each chain
        .default BYTES, 1 << 20
        .bss
        .align  4096
array:  .space  BYTES
        .align  4096
        .space  4096                    ; makes the holder's range too large to be fetched at once
        .private left, at, sum
        .text
main:   .runner holder, heap=[($array, $BYTES + 4096)]
        mov     $COMMITS, left
        mov     $array, at
.next:  .runner rewrite, args=(left, at), heap=[($array, $BYTES)]
        add     at, $8, at
        br:l    at, $array + 8 * CHAINS, .next
        exit:c

holder: mov     $2, syscall_number      ; sleeps until nothing else is left to do
        mov     $1 << 40, syscall_args
        int     0x80
        mov     $array, at
.next:  add     sum, (at), sum
        add     at, $8, at
        br:l    at, $array + BYTES, .next
        br:nz   sum, .changed
        mov     $'=', console           ; all as it was before the first of them
.changed:
        exit:c

rewrite:
        .arguments left, at
.next:  mov     left, (at)              ; one word of every page: all pages become new
        add     at, $4096, at
        br:l    at, $array + BYTES, .next
        sub     left, $1, left
        br:z    left, .done
        sub     at, $BYTES, at
        .runner rewrite, args=(left, at), heap=[($array, $BYTES)]
.done:  exit:c
"""


@pytest.mark.slow
def test_memory_stays_flat_while_one_snapshot_is_held() -> None:
    """Ten thousand commits make every page of 1 MiB anew: 10 GiB of frames, if none were freed."""
    machine, watched = run(image_of(REWRITERS), workers=3, homes=2)
    assert watched.heard == b"="
    assert machine.scheduler.counters.commits == 10_002
    growth = watched.bytes_most - watched.bytes_first
    print(f"resident memory grew by {growth / 1e6:.1f} MB in {watched.epochs} epochs")
    assert growth < 50e6
    assert sum(home.pool.in_use for home in machine.homes) <= 4 * 256
