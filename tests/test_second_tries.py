"""Second tries in continuous integration: told, and few; none elsewhere, nor for pure tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tests.conftest
from tests.conftest import SECOND_TRIES_MAX

FAILS_AT_FIRST = """\
from pathlib import Path

import pytest

@pytest.mark.parametrize("number", range({count}))
def test_late(number):
    mark = Path(__file__).with_name(f"{{number}}.mark")
    was_there = mark.exists()
    mark.touch()
    assert was_there, "came too late"
"""


def run(folder: Path, *, count: int = 1, place: str = "ranks", ci: str = "true") -> tuple[int, str]:
    """Run `count` tests that fail at first; return the exit code and what was printed."""
    tests_folder = folder / "tests" / place
    tests_folder.mkdir(parents=True)
    # A root of its own: the folder may be within the project's.
    (folder / "pytest.ini").write_text("[pytest]\n")
    shutil.copy(tests.conftest.__file__, folder / "tests" / "conftest.py")
    (tests_folder / "test_late.py").write_text(FAILS_AT_FIRST.format(count=count))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests"],
        cwd=folder, env={**os.environ, "CI": ci}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stdout


def test_a_test_of_processes_that_passes_at_last_is_told(tmp_path: Path) -> None:
    code, out = run(tmp_path, count=SECOND_TRIES_MAX)
    assert code == 0
    assert "first try of tests/ranks/test_late.py::test_late[0]" in out
    assert "AssertionError: came too late" in out
    assert f"{SECOND_TRIES_MAX} second tries\n" in out


def test_too_many_fail_the_whole(tmp_path: Path) -> None:
    code, out = run(tmp_path, count=SECOND_TRIES_MAX + 1)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert f"more than {SECOND_TRIES_MAX}: failed" in out


@pytest.mark.parametrize(("place", "ci"), [("dsm", "true"), ("ranks", "")])
def test_nobody_else_gets_one(tmp_path: Path, place: str, ci: str) -> None:
    code, out = run(tmp_path, place=place, ci=ci)
    assert code == pytest.ExitCode.TESTS_FAILED
    assert "1 failed" in out
