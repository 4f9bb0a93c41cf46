"""One compiler at work for all who wait, whoever dies; and nobody waits inside a call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvm_mpi.errors import CompileError
from dvm_mpi.native import background
from dvm_mpi.native.compilation import Compilation, Target
from tests.patience import PATIENCE_S

#: Waits for a library as a rank does, until somebody ends it.
WAITING = """
import sys, time
from pathlib import Path
from dvm_mpi.native.compilation import Compilation, Target
waiting = Compilation([Target("endless", "endless", Path(sys.argv[1]))])
while not waiting.is_done:
    waiting.step()
    if waiting._child is not None:
        print(waiting._child.pid, flush=True)
    time.sleep(0.01)
"""


@pytest.fixture
def target(tmp_path) -> Target:
    return Target("tiny", "tiny", tmp_path / "tiny")


@pytest.fixture
def endless(tmp_path) -> Target:
    """Return a library whose compiler never ends."""
    return Target("endless", "endless", tmp_path / "endless")


@pytest.fixture
def started() -> Iterator[Callable[..., Compilation]]:
    """Return what makes compilations; whatever they run ends with the test."""
    made: list[Compilation] = []

    def start(*targets: Target) -> Compilation:
        made.append(Compilation(targets))
        return made[-1]

    yield start
    for each in made:
        each.close()


def step_until(condition: Callable[[], bool], *steppers: Compilation) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < ends, "it takes too long"
        for each in steppers:
            each.step()
        time.sleep(0.005)


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(") ")[2][0]
    except OSError:
        return False
    return state != "Z"


def test_of_those_in_need_one_compiles(target, started) -> None:
    first, second = started(target), started(target)
    assert not first.is_ready("tiny")
    assert second.waits_for == "the tiny library, which is about to be compiled"
    first.step()
    second.step()
    assert first._child is not None
    assert second._child is None
    named = f"the tiny library, which process {first._child.pid} on {os.uname().nodename} compiles"
    assert first.waits_for.startswith(named)
    assert second.waits_for.startswith(f"{named} since ")
    step_until(lambda: first.is_done and second.is_done, first, second)
    assert first.is_ready("tiny")
    assert second.waits_for == ""
    assert target.path is not None


def test_a_step_waits_for_nothing(endless, started) -> None:
    """Neither who compiles nor who waits for that: this compiler never ends."""
    first, second = started(endless), started(endless)
    for _ in range(100):
        first.step()
        second.step()
    assert first._child is not None
    assert not first.is_done
    assert not second.is_done


def test_what_is_there_needs_no_compiler(target, started) -> None:
    target.stem.with_suffix(".so").touch()
    waiting = started(target)
    assert waiting.is_done
    waiting.step()
    assert not list(target.stem.parent.glob("*.lock"))


def test_libraries_come_in_order(tmp_path, started) -> None:
    targets = [Target(name, "tiny", tmp_path / name) for name in ("one", "two")]
    waiting = started(*targets)
    step_until(lambda: waiting.is_ready("one"), waiting)
    assert not waiting.is_ready("two")
    assert targets[1].path is None
    targets[1].stem.with_suffix(".so").touch()
    step_until(lambda: waiting.is_done, waiting)


def test_who_waits_takes_over_from_a_process_that_is_killed(endless, started) -> None:
    """A rank that was killed takes its compiler along; the lock goes with them."""
    begun = endless.stem.with_name("begun")
    first = subprocess.Popen(
        [sys.executable, "-c", WAITING, str(endless.stem)],
        stdout=subprocess.PIPE,
        env=background.environment({**os.environ, "ENDLESS_BEGUN": str(begun)}),
    )
    try:
        assert first.stdout is not None
        compiler = int(first.stdout.readline())
        second = started(endless)
        second.step()
        assert second._child is None, "the lock is taken"
        step_until(begun.exists, second)
    finally:
        first.kill()
        first.communicate()
    step_until(lambda: not is_alive(compiler))
    step_until(lambda: second._child is not None, second)


def test_a_compiler_that_dies_is_an_error_and_no_obstacle(endless, started) -> None:
    waiting = started(endless)
    waiting.step()
    assert waiting._child is not None
    waiting._child.send_signal(signal.SIGKILL)
    with pytest.raises(CompileError, match=r"the endless library .* ended with signal SIGKILL"):
        step_until(lambda: waiting.is_done, waiting)
    after = started(endless)
    after.step()
    assert after._child is not None


def test_what_a_compiler_says_is_told(tmp_path, started) -> None:
    waiting = started(Target("none", "no_such_module", tmp_path / "none"))
    with pytest.raises(CompileError, match=r"(?s)ended with status 1 .*named 'no_such_module'"):
        step_until(lambda: waiting.is_done, waiting)


def test_a_file_system_without_locks_is_no_obstacle(target, started, monkeypatch) -> None:
    def refuse(file, operation):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    first, second = started(target), started(target)
    first.step()
    second.step()
    assert first._child is not None
    assert second._child is not None
    step_until(lambda: first.is_done and second.is_done, first, second)


def test_closing_ends_the_compiler(endless, started) -> None:
    waiting = started(endless)
    waiting.step()
    assert waiting._child is not None
    process = waiting._child.pid
    waiting.close()
    assert not is_alive(process)
    waiting.close()
