#!/bin/bash
# Finds the colours of a photograph by k-means; centroids and labels land in the job's folder:
#   sbatch slurm/kmeans.sh [options of python -m dvm_mpi]
# KMEANS_K, KMEANS_PARTS and KMEANS_ITERATIONS change the job; KMEANS_CROP=64x64 takes the middle
# of the photograph, and KMEANS_POINTS=FILE.h5 other points (dataset `points`):
#   KMEANS_K=16 sbatch -N 4 slurm/kmeans.sh
#SBATCH --job-name=kmeans
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

points=${KMEANS_POINTS:-$DVM_HOME/build/kmeans/input${KMEANS_CROP:+-$KMEANS_CROP}.h5}
if [[ ! -e $points ]]; then
	[[ -z ${KMEANS_POINTS:-} ]] || fail "there is no file $points (KMEANS_POINTS)"
	# Under a name of its own first: other jobs may make the same file now.
	"$PYTHON" "$DVM_HOME/jobs/kmeans/make_input.py" --output "$run_folder/input.h5" \
		${KMEANS_CROP:+--crop "$KMEANS_CROP"}
	mkdir -p "$(dirname "$points")"
	mv "$run_folder/input.h5" "$points"
fi
count=$("$PYTHON" -c 'import h5py, sys; print(len(h5py.File(sys.argv[1])["points"]))' "$points")

dvm_ranks "$DVM_HOME/jobs/kmeans/kmeans.dasm" -D GENERATE=0 -D N="$count" \
	-D K="${KMEANS_K:-32}" -D PARTS="${KMEANS_PARTS:-64}" -D ITERATIONS="${KMEANS_ITERATIONS:-20}" \
	--in points="$points:points" \
	--out centroids="{run}/output.h5:centroids" --out labels="{run}/output.h5:labels" "$@"
