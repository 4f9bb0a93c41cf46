"""The guards see what they are there for: accesses beyond the machine's memory."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from dvm_mpi.layout import SR_END

#: Writes one byte to a host address relative to the view, under guards, and looks.
PROGRAM = """
import ctypes
from dvm_mpi.engine.address_space import VIEW
from tests.fuzz.guards import CANARY_PAGES, Guards, aimed
guards = Guards()
address = guards.canary_address + 5 - VIEW if {distance!r} == "canary" else {distance}
assert guards.canary_address in range(guards.targets()[0] - 8192, guards.targets()[0])
guards.check()
ctypes.c_uint8.from_address(VIEW + address).value = 1
guards.check()
"""


@pytest.mark.parametrize(
    ("distance", "status"),
    [
        ("canary", 1),
        (-1, -signal.SIGSEGV),
        (0, -signal.SIGSEGV),
        (SR_END, -signal.SIGSEGV),
        (SR_END - 1, 0),
    ],
)
def test_a_byte_beyond_the_machine_is_seen(distance: int | str, status: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(distance=distance)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    assert ("1 bytes outside the machine were written" in ended.stderr) == (status == 1)
