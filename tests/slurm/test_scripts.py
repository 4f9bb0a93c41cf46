"""What the job scripts start, without a Slurm: stand-ins write down how they were called."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from jobs.scaling.__main__ import launch_words
from tests.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
#: What the scripts call beside launchers and Python.
TOOLS = ("bash", "date", "dirname", "env", "mkdir", "mv", "sleep", "timeout", "true", "uname")
#: A launcher: it knows the kinds of its list, and tells what it was asked for.
STARTER = """#!/bin/bash
case $1 in --mpi=*) [[ " KINDS " == *" ${1#--mpi=} "* ]] || exit 1; esac
[[ $* != *--nodes=1* ]] || exit 0
printf '%s ' "${0##*/}" "$@"; echo; echo "osc ${OMPI_MCA_osc-}, threads $OMP_NUM_THREADS"
"""
#: A launcher that goes on until it is asked to end.
ENDLESS = """#!/bin/bash
[[ $* != *--nodes=1* ]] || exit 0
trap 'echo heard; exit 143' USR1
echo started; for _ in {1..400}; do sleep 0.05; done
"""


@pytest.fixture
def bin_folder(tmp_path: Path) -> Path:
    """Return a search path that holds nothing of Slurm or MPI."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    return folder


def put(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def environment(bin_folder: Path, vendor: str, **added: str) -> dict[str, str]:
    """Return the environment of a batch script of four tasks, whose Python has MPI of `vendor`."""
    put(bin_folder / "python", f"#!/bin/bash\necho '{vendor}'\n")
    return {
        "PATH": str(bin_folder), "PYTHON": str(bin_folder / "python"), "DVM_HOME": str(ROOT),
        "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "try", "SLURM_NTASKS": "4",
        "SLURM_SUBMIT_DIR": str(bin_folder.parent),
    } | added  # fmt: skip


def run(bin_folder: Path, vendor: str, *words: str, **added: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["bash", str(ROOT / "slurm" / "job.sh"), *words],
        env=environment(bin_folder, vendor, **added),
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


S, Y, M = "srun", "yhrun", "mpiexec"
YH = "-bootstrap slurm -bootstrap-exec BIN/yhrun"
#: Launchers that are there, what they speak, the library, settings; and what starts the ranks.
LAUNCHES = [
    ((S, M), "pmi2 pmix", "MPICH", {}, "srun --mpi=pmi2 --cpu-bind=cores --wait=60"),
    ((S, M), "pmi2 pmix", "Open MPI", {}, "srun --mpi=pmix --cpu-bind=cores --wait=60"),
    ((Y, M), "pmi2 pmix", "MPICH", {}, "yhrun --mpi=pmi2 --cpu-bind=cores --wait=60"),
    ((Y, S, M), "pmi2", "MPICH", {"BIND": "none"}, "srun --mpi=pmi2 --cpu-bind=none --wait=60"),
    ((S, M), "pmi2", "Open MPI", {}, "mpiexec -n 4 --map-by core --bind-to core"),
    ((S, M), "pmix", "MPICH", {}, "mpiexec -n 4 -bind-to core"),
    ((M,), "", "MPICH", {"BIND": "none"}, "mpiexec -n 4"),
    ((Y, M), "pmix", "MPICH", {"BIND": "none"}, f"{M} -n 4 {YH}"),
    ((S, M), "pmi2 pmix", "Intel MPI", {}, "mpiexec -n 4"),
    (
        (S, M),
        "pmi2 pmix",
        "Open MPI",
        {"LAUNCHER": "own"},
        "mpiexec -n 4 --map-by core --bind-to core",
    ),
    ((S, M), "pmi2", "MPICH", {"LAUNCHER": "srun -x"}, "srun -x"),
]


@pytest.mark.parametrize(("there", "kinds", "vendor", "settings", "launch"), LAUNCHES)
def test_the_launcher_fits_the_library(
    bin_folder: Path,
    there: Iterable[str],
    kinds: str,
    vendor: str,
    settings: dict[str, str],
    launch: str,
) -> None:
    for name in there:
        put(bin_folder / name, STARTER.replace("KINDS", kinds))
    code, out, err = run(bin_folder, vendor, "x.dasm", **settings)
    assert code == 0, err
    report = bin_folder.parent / "runs" / "try-7" / "report.json"
    python = bin_folder / "python"
    wanted = launch.replace("BIN", str(bin_folder))
    assert out.splitlines()[0] == f"{wanted} {python} -m dvm_mpi --report {report} x.dasm "
    assert f"4 ranks of {vendor} by: " in err


def test_without_any_launcher_the_remedy_is_told(bin_folder: Path) -> None:
    code, out, err = run(bin_folder, "MPICH", "x.dasm")
    assert (code, out) == (8, "")
    assert "set LAUNCHER in" in err


@pytest.mark.parametrize(("code", "expected"), [("null", 10), ("0", 0), ("7", 0)])
def test_a_launcher_that_loses_a_host_and_returns_0_is_not_believed(
    bin_folder: Path, code: str, expected: int
) -> None:
    told = f"echo '  \"exit_code\": {code},' > runs/try-7/report.json"
    put(bin_folder / "srun", f"#!/bin/bash\n[[ $* == *--nodes=1* ]] || {told}\n")
    status, _, err = run(bin_folder, "MPICH", "hello.dasm")
    assert status == expected, err
    assert ("a host may be lost" in err) is (expected == 10)


def test_words_of_the_job_are_put_in(bin_folder: Path) -> None:
    put(bin_folder / "srun", STARTER.replace("KINDS", "pmi2"))
    words = ("--out", "a={run}/a{task}.npy", "-D", "N={task}", "b c")
    _, out, _ = run(bin_folder, "MPICH", "x.dasm", *words, SLURM_ARRAY_TASK_ID="3")
    folder = bin_folder.parent / "runs" / "try-7"
    assert out.splitlines()[0].endswith(f" x.dasm --out a={folder}/a3.npy -D N=3 b c ")
    assert "threads 1" in out


def test_a_setting_of_the_user_stays(bin_folder: Path) -> None:
    put(bin_folder / "srun", STARTER.replace("KINDS", "pmix"))
    _, out, _ = run(bin_folder, "Open MPI", "x.dasm", OMPI_MCA_osc="rdma")
    assert "osc rdma" in out


def test_a_site_has_a_file_of_its_own(bin_folder: Path) -> None:
    """Modules, as sites load them there, are scripts that break under strict settings."""
    put(bin_folder / "srun", STARTER.replace("KINDS", "pmi2"))
    site = bin_folder.parent / "site.sh"
    standard = (ROOT / "slurm" / "site.sh").read_text()
    results = bin_folder.parent / "results"
    own = f"DVM_OPTIONS=(--memory 2G)\nRUNS='{results}'\n"
    site.write_text(f"echo $NOT_SET; false\n{standard}\n{own}")
    code, out, err = run(bin_folder, "MPICH", "x.dasm", DVM_SITE=str(site))
    assert code == 0, err
    report = results / "try-7" / "report.json"
    assert out.splitlines()[1].endswith(f" --report {report} --memory 2G x.dasm "), out


def test_a_study_takes_words_with_spaces_as_they_are(tmp_path: Path) -> None:
    """As of a folder with a space in its name, where Python and its launcher are."""
    folder = tmp_path / "with some spaces"
    folder.mkdir()
    for name in (*TOOLS, "rmdir"):
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    put(folder / "mpiexec", "#!/bin/bash\n")
    given = environment(folder, "MPICH")
    study = "[[ $* != *jobs.scaling* ]] || { printf '%s\\n' \"$@\"; exit; }"
    put(folder / "python", f"#!/bin/bash\n{study}\necho MPICH\n")
    site = tmp_path / "site.sh"
    standard = (ROOT / "slurm" / "site.sh").read_text()
    site.write_text(f"{standard}\nDVM_OPTIONS=(--record 'my records/{{run}}' --memory 2G)\n")
    done = subprocess.run(
        ["bash", str(ROOT / "slurm" / "scaling.sh"), "--scale", "0.5"],
        env=given | {"DVM_SITE": str(site)},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    assert words[:3] == ["-m", "jobs.scaling", "run"]
    launcher, options = (words[words.index(name) + 1] for name in ("--launcher", "--options"))
    started = launch_words(launcher, ranks=3, nodes=2)
    assert started == [str(folder / "mpiexec"), "-n", "3", "-bind-to", "core"]
    assert shlex.split(options) == ["--record", "my records/{run}", "--memory", "2G"]
    assert words[words.index("--folder") + 1] == str(tmp_path / "runs" / "scaling-7")
    assert words[-2:] == ["--scale", "0.5"]


def test_outside_of_an_allocation_nothing_is_started(bin_folder: Path) -> None:
    given = environment(bin_folder, "MPICH")
    del given["SLURM_JOB_ID"]
    done = subprocess.run(
        ["bash", str(ROOT / "slurm" / "primes.sh")],
        env=given, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 8
    assert "there is no allocation: submit the script" in done.stderr
    assert not (bin_folder.parent / "runs").exists()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_signals_reach_the_launcher_and_its_code_is_the_jobs(
    bin_folder: Path, number: signal.Signals
) -> None:
    """Slurm tells the script; the launcher hears SIGUSR1, which it hands on to the ranks."""
    put(bin_folder / "srun", ENDLESS)
    with subprocess.Popen(
        ["bash", str(ROOT / "slurm" / "job.sh"), "x.dasm"],
        env=environment(bin_folder, "MPICH"),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (143, "heard\n")
    assert "the ranks are asked to end" in err


def test_a_signal_before_the_start_starts_nothing(bin_folder: Path) -> None:
    """The job's time may be up while its input is made."""
    put(bin_folder / "srun", ENDLESS)
    told = bin_folder.parent / "told"
    slow = f"#!/bin/bash\necho ready >&2; until [[ -e {told} ]]; do sleep 0.05; done; echo MPICH\n"
    given = environment(bin_folder, "MPICH")
    put(bin_folder / "python", slow)
    with subprocess.Popen(
        ["bash", str(ROOT / "slurm" / "job.sh"), "x.dasm"],
        env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        while process.stderr.readline() != "ready\n":
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGUSR1)
        told.touch()
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (143, "")
