"""Environments as MPICH 5.0.2 and Open MPI 5.0.11 were seen to make them, and Slurm documents."""

from __future__ import annotations

import pytest

from dvm_mpi.launch.environment import Launch, Launcher, detect, tasks_per_node

PARENT = 4711

HYDRA = {
    "PMI_RANK": "3",
    "PMI_SIZE": "4",
    "PMI_FD": "11",
    "PMI_HOSTNAME": "cn1",
    "HYDI_CONTROL_FD": "7",
    "MPI_LOCALRANKID": "1",
    "MPI_LOCALNRANKS": "2",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "0",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "1",
    "PMIX_RANK": "1",
    "PMIX_NAMESPACE": "prterun-cn1-21413@1",
}
#: A shell of `salloc`, and a batch script: an allocation of several tasks, but no step.
ALLOCATION = {"SLURM_JOB_ID": "17", "SLURM_NTASKS": "16", "SLURM_NNODES": "4"}
BATCH = ALLOCATION | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
STEP = ALLOCATION | {
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_STEP_TASKS_PER_NODE": "4(x3),3,1",
    "SLURM_PROCID": "14",
    "SLURM_LOCALID": "2",
    "SLURM_NODEID": "3",
}
PMI2 = STEP | {"PMI_RANK": "14", "PMI_SIZE": "16", "PMI_FD": "9", "PMI_JOBID": "17.2"}
PMIX = STEP | {"PMIX_RANK": "14", "PMIX_NAMESPACE": "slurm.pmix.17.2"}
#: What `srun --pty bash` is: a step of one task, here where PMIx is the cluster's default.
SHELL = PMIX | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
#: A shell of `salloc` where the cluster makes it a step: it has the whole allocation's numbers.
INTERACTIVE = STEP | {"SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0"}

_SLURM_PLACE = (14, 16, 2, 3, "slurm-17.2")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        (HYDRA, (Launcher.HYDRA, 3, 4, 1, 2, "cn1-4711")),
        (OPEN_MPI, (Launcher.OPEN_MPI, 1, 2, 0, 1, "prterun-cn1-21413-1")),
        (PMI2, (Launcher.SLURM_PMI2, *_SLURM_PLACE)),
        (PMIX, (Launcher.SLURM_PMIX, *_SLURM_PLACE)),
        (STEP, (Launcher.SLURM_PLAIN, *_SLURM_PLACE)),
        # mpiexec inside allocations, batch scripts and shells: the inner launcher counts.
        (BATCH | HYDRA, (Launcher.HYDRA, 3, 4, 1, 2, "cn1-4711")),
        (STEP | HYDRA, (Launcher.HYDRA, 3, 4, 1, 2, "cn1-4711")),
        (INTERACTIVE | HYDRA, (Launcher.HYDRA, 3, 4, 1, 2, "cn1-4711")),
        (SHELL | HYDRA, (Launcher.HYDRA, 3, 4, 1, 2, "cn1-4711")),
        (PMI2 | OPEN_MPI, (Launcher.OPEN_MPI, 1, 2, 0, 1, "prterun-cn1-21413-1")),
    ],
    ids=[
        "hydra",
        "prte",
        "pmi2",
        "pmix",
        "srun",
        "hydra-in-batch",
        "hydra-in-step",
        "hydra-in-salloc",
        "hydra-in-shell",
        "prte-in-step",
    ],
)
def test_launcher_is_recognised(
    environ: dict[str, str], expected: tuple[Launcher, int, int, int, int, str]
) -> None:
    assert detect(environ, PARENT) == Launch(*expected)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"HOME": "/", "MPIR_CVAR_NOLOCAL": "1", "OMPI_MCA_osc": "^ucx"},
        ALLOCATION,
        BATCH,
        SHELL,
        INTERACTIVE,
        HYDRA | {"PMI_RANK": "", "PMI_SIZE": "x"},
        HYDRA | {"PMI_RANK": "4"},
    ],
    ids=[
        "nothing",
        "settings",
        "salloc",
        "sbatch",
        "srun-shell",
        "interactive",
        "garbage",
        "out-of-range",
    ],
)
def test_no_launcher_is_one_process(environ: dict[str, str]) -> None:
    assert detect(environ, PARENT) is None


def test_ranks_of_unknown_nodes_are_taken_for_neighbours() -> None:
    """Memory is then shared out among all of them: too little for each is better than too much."""
    bare = {"PMI_RANK": "3", "PMI_SIZE": "8"}
    assert detect(bare, PARENT) == Launch(Launcher.HYDRA, 3, 8, 3, 8, "hydra-4711")
    step = STEP | {"SLURM_STEP_TASKS_PER_NODE": "what"}
    assert detect(step, PARENT) == Launch(Launcher.SLURM_PLAIN, 14, 16, 14, 16, "slurm-17.2")


def test_one_rank_speaks_for_all_and_one_for_each_node() -> None:
    first = Launch(Launcher.HYDRA, 0, 4, 0, 2, "x")
    assert (first.speaks_for_all, first.speaks_for_node) == (True, True)
    second_node = Launch(Launcher.HYDRA, 2, 4, 0, 2, "x")
    assert (second_node.speaks_for_all, second_node.speaks_for_node) == (False, True)
    neighbour = Launch(Launcher.HYDRA, 1, 4, 1, 2, "x")
    assert (neighbour.speaks_for_all, neighbour.speaks_for_node) == (False, False)


@pytest.mark.parametrize(
    ("text", "counts"),
    [("4", [4]), ("4(x2),3", [4, 4, 3]), ("1,2,1(x3)", [1, 2, 1, 1, 1]), ("", []), ("4(x", [])],
)
def test_slurm_counts_are_read(text: str, counts: list[int]) -> None:
    assert tasks_per_node(text) == counts


def test_job_is_fit_for_a_file_name() -> None:
    launch = detect(OPEN_MPI | {"PMIX_NAMESPACE": "../a b/../@2"}, PARENT)
    assert launch is not None
    assert launch.job == "a-b-..-2"
    launch = detect(OPEN_MPI | {"PMIX_NAMESPACE": "@"}, PARENT)
    assert launch is not None
    assert launch.job == "run"
