"""`python -m dvm_mpi.native PARENT MODULE STEM`: build the library that a module declares.

PARENT is the process that needs it. When that one ends, however it does, so does this one.
"""

from __future__ import annotations

import sys

from dvm_mpi.native.background import end_with

# Before the import of the compiler, which takes a while.
end_with(int(sys.argv[1]))

from dvm_mpi.native.compiler import main  # noqa: E402

main(sys.argv[2:])
