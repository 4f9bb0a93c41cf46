"""Faults that are really there: `doctor` finds each, and a run says the same words.

Whatever a run is stopped by is told by it as `dvm: error: …` with the text that stands behind
`wrong` in the report; what makes it slow, as `dvm: …` with the text behind `slow`.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy
import pytest

from dvm_mpi.doctor.table import ORDER
from dvm_mpi.errors import ExitCode
from tests.patience import PATIENCE_S
from tests.ranks.launch import ROOT, Launch
from tests.ranks.stage import (
    DVM,
    Seen,
    is_open_mpi,
    may_mount,
    other_launcher,
    start,
)

HELLO = str(ROOT / "jobs/hello/hello.dasm")
#: What a machine that others use as well may be told of.
NOISY = {"within hosts", "writing", "progress", "cores", "threads"}
#: Executes its arguments where a folder, its first one, can only be read.
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
PYTHON_DVM = (sys.executable, *DVM)
#: Where a launcher tells the rank.
RANK = '"$PMI_RANK$OMPI_COMM_WORLD_RANK"'

needs_mounts = pytest.mark.skipif(not may_mount(), reason="needs root and mount namespaces")


def words(text: str) -> str:
    """Return a text without line breaks and indentation."""
    return " ".join(text.split())


def examine(
    folder: Path,
    *arguments: str,
    rank_count: int = 2,
    command: Sequence[str] = PYTHON_DVM,
    mpiexec: str | Path | None = None,
    prefix: Sequence[str] = (),
    shm_size: str = "1g",
    environment: Mapping[str, str] | None = None,
) -> Seen:
    """Run the command line on ranks, to its end."""
    with start(
        folder,
        rank_count,
        *arguments,
        command=command,
        mpiexec=mpiexec,
        prefix=prefix,
        shm_size=shm_size,
        environment=environment,
    ) as run:
        seen = run.end(PATIENCE_S)
    assert "Traceback" not in seen.err, seen
    return seen


def findings(folder: Path) -> dict[str, dict[str, str]]:
    """Return what `--json doctor.json` holds that is not good, by subject."""
    report = json.loads((folder / "doctor.json").read_text())
    return {row["subject"]: row for row in report["findings"] if row["level"] != "good"}


def find(folder: Path, subject: str, level: str, **options: object) -> str:
    """Let `doctor` find a fault, and only that; return its words."""
    seen = examine(folder, "doctor", "--json", "doctor.json", **options)  # type: ignore[arg-type]
    found = findings(folder)
    assert subject in found, seen
    assert found.keys() - {subject} <= NOISY, seen
    assert found[subject]["level"] == level, seen
    assert (seen.code == 0) == (level != "wrong"), seen
    line = next(line for line in seen.out.splitlines() if line.startswith(f"  {level:<5}  "))
    assert subject in line or level == "slow"
    assert len([line for line in seen.out.splitlines() if line.startswith("dvm ")]) == 1, seen
    what, remedy = found[subject]["what"], found[subject]["remedy"]
    text = words(f"{what} what helps: {remedy}" if remedy else what)
    assert text in words(seen.out), seen
    return text


def run_says(folder: Path, text: str, code: int, **options: object) -> None:
    """Let a run meet the same fault, and say the same."""
    # A run that goes on needs neither compiler nor much memory: this is about its start.
    small = ("--engine", "reference", "--memory", "64M") if code == 0 else ()
    seen = examine(folder, HELLO, *small, **options)  # type: ignore[arg-type]
    assert text in words(seen.err), (text, seen)
    assert (seen.code == 0) == (code == 0), seen
    if not is_open_mpi() or options.get("mpiexec") is None:
        assert seen.code == code, seen
    assert ("Hello" in seen.out) == (code == 0), seen


# --- nothing wrong --------------------------------------------------------------------------------


def test_a_healthy_start_is_good(tmp_path: Path) -> None:
    seen = examine(tmp_path, "doctor", "--json", "doctor.json", "--folder", ".")
    assert seen.code == 0, seen
    found = findings(tmp_path)
    assert found.keys() <= NOISY, seen
    assert {row["level"] for row in found.values()} <= {"slow"}, seen
    report = json.loads((tmp_path / "doctor.json").read_text())
    looked_at = [row["subject"] for row in report["findings"]]
    assert looked_at == sorted(looked_at, key=ORDER.__getitem__)
    # Of two ranks on one host, outside of Slurm.
    assert ORDER.keys() - set(looked_at) == {"Slurm", "between hosts"}
    assert len(report["hosts"]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["doctor.json"]
    assert seen.err == "", seen


def test_one_process_needs_no_launcher(tmp_path: Path) -> None:
    command = (*PYTHON_DVM, "doctor", "--folder", ".", "--json", "doctor.json")
    with Launch(0, command, tmp_path, {"PYTHONPATH": str(ROOT)}) as launch:
        ended = launch.wait(PATIENCE_S)
    assert ended.code == 0, ended
    assert "one process, which needs no MPI" in ended.out
    assert findings(tmp_path).keys() <= NOISY | {"left files"}, ended.out


def test_quick_leaves_out_what_takes_time(tmp_path: Path) -> None:
    seen = examine(tmp_path, "doctor", "--quick")
    assert seen.code == 0
    assert "messages" not in seen.out
    assert "2 ranks in one world" in seen.out


# --- wrong launches -------------------------------------------------------------------------------


@pytest.mark.skipif(other_launcher() is None, reason="there is no environment of the other MPI")
def test_the_launcher_of_another_library(tmp_path: Path) -> None:
    text = find(tmp_path, "launcher", "wrong", mpiexec=other_launcher())
    assert "start with: " in text
    run_says(tmp_path, text, ExitCode.LAUNCH, mpiexec=other_launcher())


def test_a_library_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "mpi4py").mkdir()
    lost = 'raise ImportError("libmpi.so.12: cannot open shared object file")\n'
    (tmp_path / "mpi4py" / "__init__.py").write_text(lost)
    path = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    text = find(tmp_path, "launcher", "wrong", environment=path)
    assert "the MPI library cannot be loaded: libmpi.so.12" in text
    run_says(tmp_path, text, ExitCode.LAUNCH, environment=path)


@pytest.mark.skipif(is_open_mpi(), reason="MPICH alone starts by itself where a launcher is lost")
def test_a_world_for_each_rank(tmp_path: Path) -> None:
    """The library does not hear of its launcher, though it is the right one."""
    lost = ("env", "-u", "PMI_FD", "-u", "PMI_PORT", *PYTHON_DVM)
    text = find(tmp_path, "world", "wrong", command=lost)
    assert "as rank 0 of 2, but the MPI library says rank 0 of 1" in text
    run_says(tmp_path, text, ExitCode.LAUNCH, command=lost)


def test_tasks_of_a_plain_srun(tmp_path: Path) -> None:
    """Each is a program of its own: what Slurm sets without --mpi, for two tasks."""
    slurm = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_ID": "0", "SLURM_STEP_TASKS_PER_NODE": "2"}
    slurm |= {"SLURM_NODEID": "0", "PYTHONPATH": str(ROOT)}
    for arguments in (("doctor",), (HELLO,)):
        ended = []
        for rank in ("1", "0"):
            own = slurm | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank}
            with Launch(0, (*PYTHON_DVM, *arguments), tmp_path, own) as launch:
                ended.append(launch.wait(PATIENCE_S))
        assert [e.code for e in ended] == [ExitCode.LAUNCH] * 2
        # Rank 1 leaves it to rank 0 to tell.
        assert ended[0].out + ended[0].err == ""
        told = words(ended[1].out + ended[1].err)
        assert "srun without --mpi started 2 tasks that know nothing of each other" in told
        assert "srun --mpi=" in told


# --- limits ---------------------------------------------------------------------------------------


@needs_mounts
def test_a_tiny_dev_shm(tmp_path: Path) -> None:
    text = find(tmp_path, "memory", "wrong", shm_size="8m")
    assert "MPI cannot start here: /dev/shm is too small" in text
    run_says(tmp_path, text, ExitCode.LIMIT, shm_size="8m")


@needs_mounts
def test_a_dev_shm_without_room_for_windows(tmp_path: Path) -> None:
    text = find(tmp_path, "memory", "slow", shm_size="48m")
    # Another moment, another size.
    told = text.partition(" free, ")[2].partition(" what helps")[0]
    assert told.startswith("too little for windows of 2 ranks")
    run_says(tmp_path, told, 0, shm_size="48m")


def test_an_address_space_that_ulimit_bounds(tmp_path: Path) -> None:
    bounded = ("sh", "-c", 'ulimit -v 16000000; exec "$0" "$@"', *PYTHON_DVM)
    text = find(tmp_path, "address space", "slow", command=bounded)
    assert "15,625 MiB of address space (ulimit -v)" in text
    assert "ulimit -v unlimited" in text
    seen = examine(tmp_path, HELLO, "--engine", "interp", command=bounded)
    assert text in words(seen.err), (text, seen)
    assert seen.code == ExitCode.LIMIT, seen


# --- cores ----------------------------------------------------------------------------------------


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_two_ranks_on_one_core(tmp_path: Path) -> None:
    bound = ("taskset", "-c", "0", *PYTHON_DVM)
    text = find(tmp_path, "cores", "slow", command=bound)
    assert "ranks 0-1 on" in text
    assert "are bound to core 0, of" in text
    run_says(tmp_path, text, 0, command=bound)


# --- files ----------------------------------------------------------------------------------------


@needs_mounts
def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """The superuser may write whatever the permissions say, but not what is mounted read-only."""
    cache = tmp_path / "cache"
    cache.mkdir()
    prefix = ("sh", "-c", READ_ONLY, str(cache))
    # Of the ranks alone: Open MPI's launcher needs a folder of its own.
    lost = ("env", f"NUMBA_CACHE_DIR={cache}", f"TMPDIR={cache}", *PYTHON_DVM)
    text = find(tmp_path, "compiled code", "wrong", prefix=prefix, command=lost)
    assert f"no folder for compiled code: {cache}: " in text
    assert "Set NUMBA_CACHE_DIR to a folder that you may write to" in text
    run_says(tmp_path, text, ExitCode.FILE, prefix=prefix, command=lost)


@needs_mounts
def test_a_cache_elsewhere_than_asked_for(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    usual = os.environ.get("NUMBA_CACHE_DIR", str(ROOT / "dvm_mpi" / "__pycache__"))
    prefix = ("sh", "-c", READ_ONLY, str(cache))
    own = {"NUMBA_CACHE_DIR": str(cache)}
    text = find(tmp_path, "compiled code", "slow", prefix=prefix, environment=own)
    assert f"because {cache} cannot be used" in text
    assert usual not in text


def test_a_folder_that_is_not_shared(tmp_path: Path) -> None:
    """Each rank has a folder of its own by that name."""
    (tmp_path / "0").mkdir()
    (tmp_path / "1").mkdir()
    apart = ("sh", "-c", f'cd {RANK} && exec "$0" "$@"', *PYTHON_DVM)
    seen = examine(tmp_path, "doctor", "--folder", ".", command=apart)
    assert "is not shared: the file that rank 0 made there is not here" in words(seen.out)
    assert "at rank 1 on" in seen.out
    assert seen.code == ExitCode.FILE
    assert not list(tmp_path.glob("*/.dvm*"))


# --- versions -------------------------------------------------------------------------------------


def other_tree(folder: Path) -> Path:
    """Return a folder with the package, of another version."""
    tree = folder / "other"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "dvm_mpi", tree / "dvm_mpi", ignore=ignored)
    init = tree / "dvm_mpi" / "__init__.py"
    lines = init.read_text().splitlines()
    changed = [
        '__version__ = "9.9.9"' if line.startswith("__version__") else line for line in lines
    ]
    assert changed != lines
    init.write_text("\n".join(changed) + "\n")
    return tree


def test_ranks_of_two_versions(tmp_path: Path) -> None:
    tree = other_tree(tmp_path)
    choose = f'[ {RANK} = 1 ] && export PYTHONPATH={tree}; exec "$0" "$@"'
    mixed = ("sh", "-c", choose, *PYTHON_DVM)
    text = find(tmp_path, "versions", "wrong", command=mixed)
    assert "but rank 1 on " in text
    assert "runs 9.9.9" in text
    run_says(tmp_path, text, ExitCode.LAUNCH, command=mixed)


def test_ranks_with_other_packages(tmp_path: Path) -> None:
    """A numpy of another version on one rank: its folder beside the installed one's says so."""
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "numpy").symlink_to(Path(numpy.__file__).parent)
    (packages / "numpy-0.1.dist-info").mkdir()
    choose = f'[ {RANK} = 1 ] && export PYTHONPATH={packages}:{ROOT}; exec "$0" "$@"'
    mixed = ("sh", "-c", choose, *PYTHON_DVM)
    text = find(tmp_path, "versions", "wrong", command=mixed)
    assert f"rank 0 runs numpy {numpy.__version__}, but rank 1 on " in text
    assert "runs numpy 0.1" in text
    run_says(tmp_path, text, ExitCode.LAUNCH, command=mixed)


# --- nothing hangs --------------------------------------------------------------------------------


def test_a_rank_that_never_comes_to_mpi(tmp_path: Path) -> None:
    """MPI's start waits for it within C, where no signal handler runs."""
    choose = f'[ {RANK} = 1 ] && exec sleep 1000; exec "$0" "$@"'
    seen = examine(tmp_path, "doctor", "--wait", "12", command=("sh", "-c", choose, *PYTHON_DVM))
    assert seen.code != 0
    assert "rank 0 on " in seen.err
    assert "did not start MPI within 15 s: of the 2 ranks of " in seen.err
    assert "rank 1 (counted on this host, from 0) did not come" in seen.err


def test_a_rank_that_stops_in_the_midst(tmp_path: Path) -> None:
    command = (sys.executable, "-m", "tests.ranks.stopping", "1")
    seen = examine(tmp_path, "doctor", "--wait", "15", command=command)
    assert seen.code == ExitCode.LAUNCH, seen
    assert "waited 15 s for rank 1 to exchange messages, in vain" in words(seen.out), seen
