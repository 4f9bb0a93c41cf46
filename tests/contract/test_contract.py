"""Runs the case files of this folder: what programs may rely on, on both engines.

Every case runs in order on two workers and two homes, and shuffled by as many seeds as it asks
for, with messages in their encoded form and write sets staged as if they were large.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.delivery import Delivery, InOrder, Shuffled
from dvm_mpi.control.driver import Ending, LocalMachine, MachineSettings, Silent
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.image_file import load_flat
from dvm_mpi.disa.verifier import verify
from dvm_mpi.engine.interface import EngineSettings, TrapKind
from dvm_mpi.errors import SourceError
from tests.contract.contract_case import MASK64, Case, read_cases
from tests.engine.agreement import ENGINES
from tests.jobs.machine import read_array

NAME = "case.dasm"
CASES = read_cases(Path(__file__).parent)
RUNNING = [case for case in CASES if "refused" not in case.keys]
REFUSED = [case for case in CASES if "refused" in case.keys]
CLOCK_NS = 1_700_000_000_123_456_789


class Listener(Silent):
    """Hears the console."""

    def __init__(self) -> None:
        self.heard = bytearray()

    def printed(self, data: NDArray[np.uint8]) -> None:
        self.heard += data.tobytes()


@dataclass(frozen=True, slots=True)
class Ran:
    """How one run ended."""

    ending: Ending
    console: str
    out: list[int]
    undeclared: int
    retries: int


def settings_of(case: Case) -> Iterator[tuple[MachineSettings, Delivery]]:
    """Yield the machines on which a case runs."""
    workers = int(case.options.get("workers", 0))
    plain = MachineSettings(
        workers=workers or 2,
        homes=2,
        stack_bytes=int(case.options.get("stack", config.STACK_BYTES_DEFAULT)),
        memory_bytes=16 * config.MIB,
        check=True,
    )
    yield plain, InOrder()
    for number in range(int(case.keys.get("seeds", 1))):
        seed = zlib.crc32(case.id.encode()) + number
        shuffled = replace(
            plain,
            workers=workers or 1 + seed % 4,
            homes=1 + seed % 3,
            inline_bytes_max=8,
            arena_slice_bytes=8 * config.KIB,
            on_wire=True,
            check=False,
        )
        yield shuffled, Shuffled(seed, 200)


def run_image(
    case: Case, image: Image, engine: str, machine_settings: MachineSettings, delivery: Delivery
) -> Ran:
    engine_settings = EngineSettings(
        stack_bytes=machine_settings.stack_bytes,
        fuel_max=int(case.options.get("fuel", 100_000)),
        allow_undeclared=case.options.get("undeclared") == "allow",
        cache_bytes=64 * config.KIB,
        clock=lambda: CLOCK_NS,
    )
    listener = Listener()
    machine = LocalMachine(
        image,
        machine_settings,
        lambda: ENGINES[engine](engine_settings),
        stdin=case.stdin,
        delivery=delivery,
        observer=listener,
    )
    with closing(machine):
        ending = machine.run()
        out = image.arrays.get("out")
        words = [] if out is None else read_array(machine, out).view(np.uint64).ravel().tolist()
        accesses = {pc for w in machine.workers for pc, _ in w.engine.undeclared_accesses()}
        return Ran(
            ending,
            listener.heard.decode("latin-1"),
            words,
            len(accesses),
            machine.scheduler.counters.retries,
        )


def address_in(image: Image, text: str) -> int:
    """Return the value of a sum of labels and numbers."""
    words = (part.strip() for part in text.split("+"))
    return sum(image.symbols[w] if w in image.symbols else int(w, 0) for w in words) & MASK64


def assert_trapped(case: Case, image: Image, ran: Ran) -> None:
    failure = ran.ending.failure
    assert failure is not None, "the program ended well"
    found = TrapKind(failure.trap).name
    expected = set()
    for kind, _, place in (one.strip().partition(" at ") for one in case.keys["trap"].split("|")):
        expected.add(f"{kind} at {address_in(image, place):#x}" if place else kind)
    assert {found, f"{found} at {failure.address & MASK64:#x}"} & expected, expected
    line = case.line_of("traps")
    if line is not None:
        assert image.lines is not None
        at = image.lines.addresses.tolist().index(failure.pc)
        assert int(image.lines.lines[at]) == line


def assert_as_told(case: Case, image: Image, ran: Ran) -> None:
    if "trap" in case.keys:
        assert_trapped(case, image, ran)
    else:
        assert ran.ending.failure is None, TrapKind(ran.ending.failure.trap)
        assert len(ran.ending.watchers) == int(case.keys.get("watchers", 0))
    if case.outs is not None:
        assert ran.out in [one + [0] * (len(ran.out) - len(one)) for one in case.outs]
    assert ran.console in case.consoles
    assert ran.undeclared == int(case.keys.get("undeclared", 0))


@pytest.mark.parametrize("engine", sorted(ENGINES))
@pytest.mark.parametrize("case", RUNNING, ids=lambda case: case.id)
def test_case(case: Case, engine: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    image = assemble_text(case.text, NAME, {})
    if "flat" in case.options:
        path = tmp_path_factory.mktemp("flat") / "case.bin"
        path.write_bytes(image.text)
        image = load_flat(path)
    verify(image)
    retries = 0
    for machine_settings, delivery in settings_of(case):
        ran = run_image(case, image, engine, machine_settings, delivery)
        assert_as_told(case, image, ran)
        retries += ran.retries
    assert case.keys.get("retries", "none") == ("some" if retries else "none") or (
        "retries" not in case.keys
    )


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_refused(case: Case) -> None:
    with pytest.raises(SourceError) as caught:
        verify(assemble_text(case.text, NAME, {}))
    message = str(caught.value)
    assert case.keys["refused"] in message
    line = case.line_of("refused")
    assert line is None or f"{NAME}:{line}:" in message
