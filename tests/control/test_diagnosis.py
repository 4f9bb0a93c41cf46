"""Texts about a program's end: what no program of tests/cli/ gets to see."""

from __future__ import annotations

import pytest

from dvm_mpi.config import CONTENTION_SITES_SHOWN
from dvm_mpi.control.contention import ContendedSite
from dvm_mpi.control.coordinator_state import Failure
from dvm_mpi.control.diagnosis import Narrator
from dvm_mpi.control.lifecycle import RunnersLimitError
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.engine.interface import TrapKind
from dvm_mpi.io.report import ContendedLine


def test_addresses_with_the_highest_bit_are_told_as_they_are() -> None:
    """Rows hold them as negative numbers."""
    narrator = Narrator(assemble_text("main:   exit:c\n", "p.dasm", {}))
    failure = Failure(
        runner_id=0x3D0_0000_1000,
        runner_entry=-8,
        newr_pc=0,
        attempt=1,
        worker=0,
        trap=int(TrapKind.UNMAPPED),
        pc=-8,
        address=-16,
        instructions=1,
        operands=(),
        nearest=None,
    )
    told = narrator.trap(failure)
    assert told.startswith("p.dasm: 0xfffffffffffffff8: trap: ")
    assert "which began at 0xfffffffffffffff8;" in told
    assert "  address 0xfffffffffffffff0\n" in told


PLACES = """\
        .array  total, sq, 4
        .text
main:   .runner count, heap=[($total, $8)]
        exit:c
count:  add     total, $1, total
        exit:c
"""


def test_where_attempts_lost_is_told_by_line_and_name() -> None:
    image = assemble_text(PLACES, "p.dasm", {})
    narrator = Narrator(image)
    count, total = image.symbols["count"], image.symbols["total"]
    lines = image.lines
    assert lines is not None
    leave = int(lines.addresses[-1])
    sites = (
        ContendedSite(count, leave, 1480, 6, total + 8),
        ContendedSite(count, leave, 1, 1, total),
        *[ContendedSite(8, 16, 1, 1, 24)] * CONTENTION_SITES_SHOWN,
    )
    assert narrator.contention(sites).splitlines()[:3] == [
        "p.dasm:6 (in count): 1,480 attempts lost and ran again, one runner 6 times; others had "
        f"stored to total+0x8 ({total + 8:#x})",
        "p.dasm:6 (in count): 1 attempt lost and ran again, one runner once; others had "
        f"stored to total ({total:#x})",
        "p.dasm: 0x10 (in 0x8): 1 attempt lost and ran again, one runner once; others had "
        "stored to memory (0x18)",
    ]
    assert narrator.contention(sites).splitlines()[-2] == "and at 2 more places"
    assert narrator.contended(sites[:1]) == (
        ContendedLine(
            line="p.dasm:6",
            label=f"count+{leave - count:#x}",
            entry="count",
            losses=1480,
            most=6,
            address=total + 8,
            name="total+0x8",
        ),
    )


@pytest.mark.parametrize(
    ("pc", "created"), [(0x400000000, "; the last ones were created at w.dasm:1"), (-1, "")]
)
def test_a_limit_names_the_line_that_creates_if_there_is_one(pc: int, created: str) -> None:
    """Instances that commits wake are created by no instruction."""
    narrator = Narrator(assemble_text("main: exit:c\n", "w.dasm", {}))
    with pytest.raises(RunnersLimitError) as raised, narrator.places():
        raise RunnersLimitError("Too many", "Create fewer", pc)
    assert str(raised.value) == f"Too many{created}. Create fewer."
