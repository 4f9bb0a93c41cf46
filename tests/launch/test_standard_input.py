"""What is behind launchers' standard input, in a folder that plays /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvm_mpi.launch.standard_input import is_terminal, launcher_input, may_hold_input


def process(proc: Path, pid: int, name: str, parent: int, stdin: str) -> None:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(f"{name}\n")
    (folder / "stat").write_text(f"{pid} ({name}) S {parent} 7 7 0 -1\n")
    (folder / "fd" / "0").symlink_to(stdin)


@pytest.mark.parametrize("launcher", ["mpiexec", "prterun", "srun"])
def test_the_launchers_standard_input_counts(tmp_path: Path, launcher: str) -> None:
    process(tmp_path, 30, "python", 20, "pipe:[9]")
    process(tmp_path, 20, "proxy) S (", 10, "/dev/null")
    process(tmp_path, 10, launcher, 5, "/dev/pts/7")
    process(tmp_path, 5, "bash", 1, "/dev/pts/3")
    assert launcher_input(30, tmp_path) == "/dev/pts/7"


def test_without_a_launcher_in_sight_nothing_is_known(tmp_path: Path) -> None:
    process(tmp_path, 30, "python", 20, "/dev/pts/3")
    process(tmp_path, 20, "slurmstepd", 1, "/dev/pts/3")
    assert launcher_input(30, tmp_path) == ""


def test_of_a_process_that_may_not_be_looked_at_nothing_is_known(tmp_path: Path) -> None:
    process(tmp_path, 30, "python", 20, "pipe:[9]")
    assert launcher_input(30, tmp_path) == ""


def test_this_process_is_the_default() -> None:
    assert launcher_input() == ""


@pytest.mark.parametrize(
    ("name", "terminal", "input_"),
    [
        ("/dev/pts/3", True, False),
        ("/dev/tty1", True, False),
        ("/dev/null", False, False),
        ("", False, False),
        ("pipe:[123]", False, True),
        ("/data/dev/pts/0", False, True),
    ],
)
def test_names_of_the_kernel_tell_what_it_is(name: str, terminal: bool, input_: bool) -> None:
    assert (is_terminal(name), may_hold_input(name)) == (terminal, input_)
