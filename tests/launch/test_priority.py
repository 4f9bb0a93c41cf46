"""A lower priority for this process; each case in a process of its own, whose priority stays."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os, sys
from dvm_mpi.errors import DvmError
from dvm_mpi.launch.priority import be_nice
os.nice(int(sys.argv[1]) - os.getpriority(os.PRIO_PROCESS, 0))
try:
    be_nice(int(sys.argv[2]))
except DvmError as error:
    print(error)
print(os.getpriority(os.PRIO_PROCESS, 0))
"""


def after(present: int, wanted: int) -> list[str]:
    words = [sys.executable, "-c", SCRIPT, str(present), str(wanted)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.parametrize(("present", "wanted"), [(17, 18), (18, 18), (17, 19)])
def test_a_lower_priority_or_the_same_is_taken(present: int, wanted: int) -> None:
    assert after(present, wanted) == [str(wanted)]


def test_a_higher_one_is_refused_and_nothing_changed() -> None:
    told, niceness = after(18, 17)
    assert told.startswith("--nice 17: this process has niceness 18 already")
    assert told.endswith("leave --nice away, or give 18 or more")
    assert niceness == "18"
