"""`python -m dvm_mpi`: see `dvm_mpi.cli`."""

import sys

from dvm_mpi.cli import main

sys.exit(main(sys.argv[1:]))
