#!/bin/bash
# The scaling study: k-means and primes on 1, 2, 4, ... ranks up to those of the job, weak and
# strong. As steps in one allocation, or as a job array, one size to an element:
#   sbatch -N 8 --ntasks-per-node=16 slurm/scaling.sh [options of python -m jobs.scaling run]
#   sbatch -N 8 --ntasks-per-node=16 --array=0-7 slurm/scaling.sh
# Reports, table and plots land in runs/scaling-NUMBER. SCALING=FOLDER names another folder: what
# has a report there already is not run again. docs/scaling.md tells more.
#SBATCH --job-name=scaling
#SBATCH --nodes=2                  # hosts
#SBATCH --ntasks-per-node=2        # ranks on each, at most; give each rank a core
#SBATCH --cpus-per-task=1
#SBATCH --time=01:00:00
#SBATCH --exclusive                # others would be measured too
#SBATCH --signal=B:USR1@60         # the script hears it a minute before that, and ends the run
#SBATCH --no-requeue               # after the loss of a node; submit it anew with SCALING=FOLDER
#SBATCH --output=%x-%j.out         # the log: job's name and number
#SBATCH --open-mode=append

lib=${DVM_HOME:-${SLURM_SUBMIT_DIR:-.}}/slurm/lib.sh
[[ -r $lib ]] || { echo "no $lib: submit from DVM's folder, or set DVM_HOME to it" >&2; exit 8; }
# shellcheck source=slurm/lib.sh
source "$lib"

# All elements of an array share one folder.
folder=${SCALING:-${RUNS:-$PWD/runs}/scaling-${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}
rmdir --ignore-fail-on-non-empty "$run_folder"
ranks_max=${SLURM_NTASKS:?the job must say how many ranks it has (-n, or -N and --ntasks-per-node)}
nodes=${SLURM_JOB_NUM_NODES:-${SLURM_NNODES:-1}}

# The study itself says how many ranks: the launcher gets places for the numbers.
launch=()
choose_launcher
case ${launch[0]##*/} in
	srun | yhrun) launch+=("--nodes={nodes}" "--ntasks={ranks}") ;;
esac
for ((i = 0; i < ${#launch[@]}; i++)); do
	if [[ ${launch[i]} == -n ]]; then launch[i + 1]="{ranks}"; fi
done
[[ ${launch[*]} == *"{ranks}"* ]] ||
	fail "LAUNCHER has no place for the number of ranks; write it like 'mpiexec -n {ranks}'"

# Words go as one text, each in quotes: there may be spaces in them.
options=(${DVM_OPTIONS[@]+"${DVM_OPTIONS[@]}"})
in_order "$PYTHON" -m jobs.scaling run --folder "$folder" --launcher "${launch[*]@Q}" \
	--ranks-max "$ranks_max" --ranks-per-node $(((ranks_max + nodes - 1) / nodes)) \
	${SLURM_ARRAY_TASK_ID:+--only "$SLURM_ARRAY_TASK_ID"} \
	--options "${options[*]@Q}" --note "$nodes nodes, $ranks_max ranks at most" "$@"
