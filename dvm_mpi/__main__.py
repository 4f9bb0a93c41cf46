"""`python -m dvm_mpi`: see `dvm_mpi.cli`."""

import gc
import inspect
import os
import sys

#: Objects after which Python looks for garbage among the young; it looks every 700 if left alone,
#: and what a start makes is no garbage. While a run goes on, `control.rank` decides.
_YOUNG_OBJECTS = 200_000
_BLAS_THREADS = "OPENBLAS_NUM_THREADS"


def _load_numpy() -> None:
    """Import numpy without what it does for those who compute with it interactively."""
    is_ours = _BLAS_THREADS not in os.environ
    if is_ours:
        # Its algebra, which DVM does not use, makes a thread for each processor when it is loaded,
        # and they wait busily: a third of what the import takes, in each rank.
        os.environ[_BLAS_THREADS] = "1"
    # It straightens the documentation of hundreds of functions, a tenth of what the import takes.
    cleandoc = inspect.cleandoc
    vars(inspect)["cleandoc"] = str
    try:
        import numpy as np  # noqa: F401, PLC0415
    finally:
        # Whoever looks for either, and what this process starts, finds it as it was.
        vars(inspect)["cleandoc"] = cleandoc
        if is_ours:
            del os.environ[_BLAS_THREADS]


gc.set_threshold(_YOUNG_OBJECTS)
_load_numpy()

from dvm_mpi.cli import main  # noqa: E402

exit_code = main(sys.argv[1:])
# All memory goes back at once with the process: nobody need look for what is garbage in it.
gc.freeze()
sys.exit(exit_code)
