#!/bin/bash
# Counts the primes below 2,000,000:
#   sbatch slurm/primes.sh [-D LIMIT=20000000] [other options of python -m dvm_mpi]
#SBATCH --job-name=primes
#SBATCH --nodes=2                  # hosts
#SBATCH --ntasks-per-node=2        # ranks on each; give each rank a core
#SBATCH --cpus-per-task=1
#SBATCH --time=00:10:00
#SBATCH --signal=B:USR1@60         # the script hears it a minute before that, and ends the run
#SBATCH --no-requeue               # after the loss of a node; --requeue begins anew
#SBATCH --output=%x-%j.out         # the log: job's name and number
#SBATCH --open-mode=append

lib=${DVM_HOME:-${SLURM_SUBMIT_DIR:-.}}/slurm/lib.sh
[[ -r $lib ]] || { echo "no $lib: submit from DVM's folder, or set DVM_HOME to it" >&2; exit 8; }
# shellcheck source=slurm/lib.sh
source "$lib"
dvm_ranks "$DVM_HOME/jobs/primes/primes.dasm" "$@"
