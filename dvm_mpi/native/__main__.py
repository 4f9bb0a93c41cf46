"""`python -m dvm_mpi.native PARENT MODULE STEM`: build the library that a module declares.

PARENT is the process that needs it. When that one ends, however it does, so does this one.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1

# Before the import of the compiler, which takes a while.
ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the process that needed a library has ended")

from dvm_mpi.native.compiler import main  # noqa: E402

main(sys.argv[2:])
