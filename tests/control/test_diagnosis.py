"""Texts about a program's end: what no program of tests/cli/ gets to see."""

from __future__ import annotations

from dvm_mpi.control.coordinator_state import Failure
from dvm_mpi.control.diagnosis import Narrator
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.engine.interface import TrapKind


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
