# What the job scripts share. A script sources this file, says what it needs with `dvm_ranks`, and
# ends with its exit code.
# shellcheck shell=bash

set -euo pipefail

# The scripts read no $0: under Slurm that is a copy in a spool folder.
DVM_HOME=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf 'job: %s\n' "$*" >&2; }
fail() { say "error: $*"; exit 8; }

# The first of these commands that is there: Slurm's name, or that of a Tianhe machine.
first_of() {
	local name
	for name in "$@"; do
		if command -v "$name"; then return; fi
	done
	return 1
}

# Choose the interpreter. It must be there on all nodes; the first one is asked.
choose_python() {
	local suffix=${MPI:+-$MPI}
	if [[ -z $PYTHON && -n ${VIRTUAL_ENV:-} ]]; then PYTHON=$VIRTUAL_ENV/bin/python; fi
	if [[ -z $PYTHON ]]; then PYTHON=$DVM_HOME/.venv${suffix/#-mpich/}/bin/python; fi
	command -v "$PYTHON" > /dev/null ||
		fail "there is no $PYTHON on $(uname -n): run \`make venv\` on a login node, or set PYTHON in" \
			"$DVM_HOME/slurm/site.sh; the folder must be one that all nodes share"
}

# Tell whose MPI library Python loads, without starting it: "MPICH", "Open MPI", ...
mpi_vendor() {
	"$PYTHON" -c '
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
print(MPI.get_vendor()[0])' || fail "$PYTHON on $(uname -n) cannot load an MPI library (above)"
}

# Whether Slurm can start ranks of this kind. What it lists may lack a library: only a try tells.
slurm_speaks() {
	[[ -n $srun ]] && timeout 60 "$srun" --mpi="$1" --nodes=1 --ntasks=1 true 2> /dev/null
}

# Choose the command that starts ranks of the MPI library that Python loads.
choose_launcher() {
	local own srun vendor tasks=${SLURM_NTASKS:-1}
	# Ranks end together. A rank that dies within MPI's start leaves others there, for which srun
	# would wait until the job's time is over.
	local srun_options=(--cpu-bind="$BIND" --wait=60)
	srun=$(first_of srun yhrun || true)
	vendor=$(mpi_vendor)
	# Another step of the same job must not wait for the cores, and srun forgets the job's -c.
	export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
	if [[ -n $LAUNCHER && $LAUNCHER != own ]]; then
		read -ra launch <<< "$LAUNCHER"
	elif [[ -z $LAUNCHER && $vendor == "Open MPI" ]] && slurm_speaks pmix; then
		launch=("$srun" --mpi=pmix "${srun_options[@]}")
	elif [[ -z $LAUNCHER && $vendor == MPICH ]] && slurm_speaks pmi2; then
		launch=("$srun" --mpi=pmi2 "${srun_options[@]}")
	else
		own=$(dirname "$PYTHON")/mpiexec
		own=$(first_of "$own" mpiexec) ||
			fail "Slurm cannot start ranks of $vendor, and there is no mpiexec beside $PYTHON or on" \
				"the PATH; set LAUNCHER in $DVM_HOME/slurm/site.sh"
		launch=("$own" -n "$tasks")
		case $vendor:$BIND in
			"Open MPI:cores") launch+=(--map-by core --bind-to core) ;;
			"Open MPI:none") launch+=(--bind-to none) ;;
			MPICH:cores) launch+=(-bind-to core) ;;
		esac
		# Both launchers start their helpers by srun, and know no other name for it.
		if [[ $vendor == MPICH && $srun == *yhrun ]]; then
			launch+=(-bootstrap slurm -bootstrap-exec "$srun")
		fi
	fi
	say "$tasks ranks of $vendor by: ${launch[*]}"
}

# Set what every rank inherits.
export_settings() {
	export NUMBA_CACHE_DIR
	# A rank has one core; libraries would start a thread for each core of the node.
	export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1
	export PYTHONPATH=$DVM_HOME${PYTHONPATH:+:$PYTHONPATH} PYTHONNOUSERSITE=1
	# Open MPI's windows for UCX fail where there is no network for them.
	if ! compgen -G '/sys/class/infiniband/*' > /dev/null; then
		export OMPI_MCA_osc=${OMPI_MCA_osc:-^ucx}
	fi
}

# Ask the ranks to end in order: SIGUSR1 is what srun and both mpiexec hand on to every rank.
is_asked='' launcher_pid=''
ask_to_end() {
	say "$1: the ranks are asked to end"
	is_asked=1
	if [[ -n $launcher_pid ]]; then kill -USR1 "$launcher_pid" 2> /dev/null || true; fi
}
trap 'ask_to_end "the time limit is near"' USR1
trap 'ask_to_end "Slurm ends the job (SIGTERM)"' TERM

# Run a command that gets the signals which ask the ranks to end; return its exit code.
in_order() {
	local status
	"$@" &
	launcher_pid=$!
	[[ -z $is_asked ]] || kill -USR1 "$launcher_pid"
	# A signal ends `wait` early; then it has not told the command's code.
	while :; do
		is_asked=''
		wait "$launcher_pid" && status=0 || status=$?
		[[ -n $is_asked ]] || return "$status"
	done
}

# Run a program on all ranks of the job; its exit code is the job's.
#   dvm_ranks PROGRAM [options of DVM]
# In every argument {run} stands for the folder of this job, and {task} for the number in an array.
dvm_ranks() {
	local words=("$@") status launch=() report=$run_folder/report.json
	words=("${words[@]//\{run\}/$run_folder}")
	words=("${words[@]//\{task\}/${SLURM_ARRAY_TASK_ID:-0}}")
	choose_launcher
	[[ -z $is_asked ]] || return 143
	in_order "${launch[@]}" "$PYTHON" -m dvm_mpi --report "$report" \
		${DVM_OPTIONS[@]+"${DVM_OPTIONS[@]}"} "${words[@]}" && status=0 || status=$?
	# Open MPI's mpiexec returns 0 if it loses a host. A run that goes on has null as its code.
	if [[ $status == 0 && -e $report && $(< "$report") == *'"exit_code": null'* ]]; then
		say "error: the launcher has ended, but the run has not: a host may be lost"
		status=10
	fi
	if [[ $status == 0 ]]; then
		say "good; results in $run_folder"
	else
		say "ended with code $status (docs/operations.md#exit-codes tells); what there is: $run_folder"
	fi
	return "$status"
}

[[ -n ${SLURM_JOB_ID:-} ]] || fail "there is no allocation: submit the script, for example" \
	"\`sbatch slurm/kmeans.sh\` (\`yhbatch\` on a Tianhe machine)"
cd "${SLURM_SUBMIT_DIR:-$PWD}"
# Modules' own scripts often bear neither.
set +eu
# shellcheck source=slurm/site.sh
source "${DVM_SITE:-$DVM_HOME/slurm/site.sh}"
set -eu
choose_python
export_settings
run_folder=${RUNS:-$PWD/runs}/${SLURM_JOB_NAME:-job}-$SLURM_JOB_ID
mkdir -p "$run_folder"
say "$SLURM_JOB_ID (${SLURM_JOB_NAME:-job}) on ${SLURM_JOB_NODELIST:-$(uname -n)}," \
	"$(date '+%Y-%m-%d %H:%M:%S'); folder $run_folder"
