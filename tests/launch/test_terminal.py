"""Terminals behind launchers, in a folder that plays /proc."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvm_mpi.launch.terminal import launcher_has_terminal


def process(proc: Path, pid: int, name: str, parent: int, stdin: str) -> None:
    folder = proc / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(f"{name}\n")
    (folder / "stat").write_text(f"{pid} ({name}) S {parent} 7 7 0 -1\n")
    (folder / "fd" / "0").symlink_to(stdin)


@pytest.mark.parametrize(
    ("stdin", "is_terminal"),
    [
        ("/dev/pts/3", True),
        ("/dev/tty1", True),
        ("/dev/null", False),
        ("pipe:[123]", False),
        ("/home/user/dev/pts/0", False),
    ],
)
@pytest.mark.parametrize("launcher", ["mpiexec", "prterun", "srun"])
def test_the_launchers_standard_input_counts(
    tmp_path: Path, launcher: str, stdin: str, is_terminal: bool
) -> None:
    process(tmp_path, 30, "python", 20, "pipe:[9]")
    process(tmp_path, 20, "proxy) S (", 10, "/dev/null")
    process(tmp_path, 10, launcher, 5, stdin)
    process(tmp_path, 5, "bash", 1, "/dev/pts/3")
    assert launcher_has_terminal(30, tmp_path) is is_terminal


def test_without_a_launcher_in_sight_there_is_none(tmp_path: Path) -> None:
    process(tmp_path, 30, "python", 20, "/dev/pts/3")
    process(tmp_path, 20, "slurmstepd", 1, "/dev/pts/3")
    assert not launcher_has_terminal(30, tmp_path)


def test_a_process_that_may_not_be_looked_at_is_none(tmp_path: Path) -> None:
    process(tmp_path, 30, "python", 20, "pipe:[9]")
    assert not launcher_has_terminal(30, tmp_path)


def test_this_process_is_the_default() -> None:
    assert not launcher_has_terminal()
