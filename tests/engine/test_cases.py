"""Every case file under every engine, with all pages there at the start and with none."""

from __future__ import annotations

import ast

import pytest

from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.engine.agreement import ALL_ENGINES
from tests.engine.case_files import (
    Case,
    address_of,
    expectations,
    memory_of,
    observations,
    read_cases,
)
from tests.engine.machine import Host, Task, batch, settings

CASES = read_cases()


def task_of(case: Case) -> Task:
    image = case.image
    lines = [line.split() for line in case.lines("grants")]
    grants = [(address_of(a, image), int(n, 0), 0) for a, n in lines]
    return Task(image.entry, sorted(grants)) if grants else Task(image.entry)


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("engine", ALL_ENGINES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file}: {case.name}")
def test_case(case: Case, engine: str, warm: bool) -> None:
    maker = ALL_ENGINES[engine]
    image = case.image
    changes = {k: ast.literal_eval(v) for k, v in (s.split() for s in case.lines("set"))}
    stdin = ast.literal_eval(f"b'{''.join(case.lines('stdin'))}'")
    machine = maker(settings(**changes))
    try:
        machine.load(image, stdin)
        host = Host(machine, memory_of(case, image))
        if warm:
            pages = {address // PAGE_BYTES for address in host.memory}
            pages |= {int(start) // PAGE_BYTES for start in image.reserved["start"]}
            host.install(sorted(pages | {DATA_START // PAGE_BYTES}), until=9)
        machine.begin(batch([task_of(case)]))
        (ended,) = host.run()
    finally:
        machine.close()
    assert observations(ended, image) == expectations(case, image)


def test_every_trap_and_every_end_has_a_case() -> None:
    words = {word for case in CASES for line in case.lines("expect") for word in line.split()[1:2]}
    missing = {"COMMIT", "ABORT", "COMMIT_DELETE", "UNMAPPED", "UNDECLARED", "UNDECLARED_STORE"}
    missing |= {"TEXT_STORE", "BAD_JUMP", "STACK_OVERFLOW", "FUEL_EXHAUSTED", "BAD_DESCRIPTOR"}
    missing |= {"BAD_SYSTEM_CALL"}
    assert not missing - words
