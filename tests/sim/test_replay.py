"""Three hundred seeds of small racing programs, each run equal to its replay.

Every program has a truth of its own as well, which must hold in any order of events. The machine
has four homes and twelve workers, on the reference engine and on the compiled one, with messages
as objects and as bytes, with write sets that travel in records and that are staged, with pages
that are copied at once, that come with the answers, and that come late.
"""

from __future__ import annotations

import pytest

from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.sim.workloads import WORKLOADS
from tests.sim.cases import CASES, Case
from tests.sim.machine import ENGINE, program, simulate

#: Seeds of one test, so that several processes share the work.
CHUNK = 5
CHUNKS = [
    pytest.param(case, first, id=f"{case}-{first}")
    for case in CASES
    for first in range(0, case.seeds, CHUNK)
]


@pytest.mark.parametrize(("case", "first"), CHUNKS)
def test_a_run_equals_its_replay(case: Case, first: int) -> None:
    image = case.image
    for seed in range(first, min(first + CHUNK, case.seeds)):
        settings = {
            "on_wire": seed % 2 == 0,
            "check": seed % 5 == 0,
            "plane": ("direct", "message", "late")[seed // 3 % 3],
            # Every third seed stages whatever it can, in parts of at most 256 bytes.
            "inline_bytes_max": 4 if seed % 3 == 0 else 4096,
            "arena_slice_bytes": 512 if seed % 3 == 0 else 16384,
        }
        if seed % 4 == 3:
            run = simulate(image, seed, settings=settings, make_engine=lambda: InterpEngine(ENGINE))
        else:
            run = simulate(image, seed, settings=settings)
        assert run.differences == [], f"seed {seed}"
        assert case.wrong(run) == [], f"seed {seed}"


def test_addresses_are_given_out_again_as_they_were() -> None:
    """Blocks of some bytes, and refused ones: the program stores every address that it gets.

    Those of a `malloc` of no bytes are in no record; they are of no use, and not stored here.
    """
    text = """
        .bss
        .align  4096
got:    .space  64
        .private i, at
        .data
sizes:  .quad   100, 0, 1 << 50, 5000, 0, 8192
        .text
main:   mov     $sizes, r1
        mov     $got, at
next:   mov     $1, syscall_number
        mov     (r1), syscall_args
        int     0x80
        br:z    (r1), nothing
        mov     syscall_args, (at)
nothing: add    r1, $8, r1
        add     at, $8, at
        br:l    at, $got + 48, next
        exit:c
"""
    run = simulate(assemble_text(text, "test.dasm", {}), 1)
    assert run.word("got", 2) == 0
    assert [i for i in range(6) if run.word("got", i)] == [0, 3, 5]
    assert run.differences == []


def test_a_seed_is_one_run() -> None:
    """The same seed gives the same history, to the last attempt."""
    image = program("watchers")
    first, again, other = (simulate(image, seed).history for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_every_workload_is_run() -> None:
    assert WORKLOADS.keys() == {case.name for case in CASES}
