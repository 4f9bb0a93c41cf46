"""The command `dvm_mpi`, but that programs are told this thread's processor time for the time.

    python -m bench.kernels.processor_time PROGRAM …

For machines that others use, where a kernel's seconds say more of them than of the kernel. Nothing
but the answer to system call 7 is changed.
"""

from __future__ import annotations

import runpy
import sys
import time


def main() -> None:
    """Run as a command."""
    time.time_ns = time.thread_time_ns
    sys.argv[0] = "dvm_mpi"
    runpy.run_module("dvm_mpi", run_name="__main__")


if __name__ == "__main__":
    main()
