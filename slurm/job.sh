#!/bin/bash
# A program of yours on all ranks of a job:
#   sbatch -N 2 --ntasks-per-node=2 slurm/job.sh PROGRAM [options of python -m dvm_mpi]
# In the arguments {run} stands for the job's folder, and {task} for the number in a job array:
#   sbatch --array=0-7 slurm/job.sh my.dasm -D SEED={task} --out result={run}/result.npy
# Options of sbatch before the script's name win over the lines below. docs/clusters.md tells more.
#SBATCH --job-name=dvm
#SBATCH --nodes=2                  # hosts
#SBATCH --ntasks-per-node=2        # ranks on each; give each rank a core
#SBATCH --cpus-per-task=1
#SBATCH --time=00:30:00
#SBATCH --signal=B:USR1@60         # the script hears it a minute before that, and ends the run
#SBATCH --no-requeue               # after the loss of a node; --requeue begins anew
#SBATCH --output=%x-%j.out         # the log: job's name and number
#SBATCH --open-mode=append

lib=${DVM_HOME:-${SLURM_SUBMIT_DIR:-.}}/slurm/lib.sh
[[ -r $lib ]] || { echo "no $lib: submit from DVM's folder, or set DVM_HOME to it" >&2; exit 8; }
# shellcheck source=slurm/lib.sh
source "$lib"
[[ $# -gt 0 ]] || fail "which program? sbatch slurm/job.sh PROGRAM [options]"
dvm_ranks "$@"
