# What differs from site to site: the one file to change. Every script here sources it, on the
# first node of a job, before anything else. It works as it stands; docs/clusters.md has examples.
# A value that the environment of `sbatch` has already wins over the one written here.
# shellcheck shell=bash disable=SC2034  # its variables are read by lib.sh

# Modules, if Python or MPI come from some.
# module load python/3.11 openmpi/5

# The Python that has DVM's packages, on every node. Empty: that of an activated environment, else
# what `make venv` has made here; MPI=openmpi or MPI=system select their environments as with make.
PYTHON=${PYTHON:-}

# The command that starts the ranks, with its options. Empty: srun (or yhrun) if it can start the
# MPI library that Python loads, else the mpiexec of that library; `own`: that mpiexec in any case.
LAUNCHER=${LAUNCHER:-}

# Whether each rank gets a core of its own: `cores`, or `none` to leave binding to the site.
BIND=${BIND:-cores}

# Where compiled code is kept: a folder on each node's own disk, not in the home folder. Without
# one that outlives a job, name a shared one: then one node compiles (20 s), and all others wait.
NUMBA_CACHE_DIR=${NUMBA_CACHE_DIR:-${TMPDIR:-/tmp}/dvm-$UID}

# Where every job gets a folder for its results: large and shared. Empty: runs/ where `sbatch` was.
RUNS=${RUNS:-}

# Options that every program gets, for example (--memory 2G --data-plane message).
DVM_OPTIONS=()
