#!/bin/bash
# Makes an environment from the wheels beside this script, without a network:
#   bash build/wheelhouse/install.sh [FOLDER]
# FOLDER is the environment, .venv where you are if none is named. PYTHON=/path/to/python3 chooses
# the interpreter. `make wheelhouse` has made the wheels, for one version of Python.
set -euo pipefail

fail() { printf 'install: error: %s\n' "$*" >&2; exit 1; }

wheels=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
target=${1:-.venv}
version=$(cat "$wheels/python-version.txt")
python=${PYTHON:-python$version}
command -v "$python" > /dev/null ||
	fail "there is no $python here; load its module, or set PYTHON=/path/to/python$version"
is=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[[ $is == "$version" ]] ||
	fail "$python is Python $is, and these wheels are for $version; set PYTHON=/path/to/python$version," \
		"or make others where there is a network: make wheelhouse WHEEL_PYTHON=$is"

# Whoever has mixed two MPI libraries finds neither: an environment that is there is made anew.
"$python" -m venv --clear "$target"
offline=("$target/bin/python" -m pip install --quiet --disable-pip-version-check --no-index
	--find-links "$wheels")
"${offline[@]}" --requirement "$wheels/requirements.txt"
# Carries the photograph and is never imported; SciPy is not needed.
"${offline[@]}" --no-deps --requirement "$wheels/photograph.txt"
printf 'install: good: %s/bin/python -m dvm_mpi jobs/hello/hello.dasm\n' "$target"
