from __future__ import annotations

import os

from dvm_mpi.native import background, store


def test_a_compiler_is_not_a_rank() -> None:
    own = {
        "PMI_RANK": "1",
        "PMIX_RANK": "0",
        "OMPI_COMM_WORLD_SIZE": "4",
        "MPIEXEC": "x",
        "HYDI_CONTROL_FD": "9",
        "PATH": "p",
        "NUMBA_CACHE_DIR": "c",
        "PYTHONPATH": "q",
    }
    assert background.environment(own) == {
        "PATH": "p",
        "NUMBA_CACHE_DIR": "c",
        "PYTHONPATH": os.pathsep.join([str(store.PACKAGE.parent), "q"]),
    }
