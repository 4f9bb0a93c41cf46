"""What starts the commands of these tests: no process may outlive its test."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from tests.ranks.launch import Launch

SLEEP = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"


def python(code: str) -> tuple[str, str, str]:
    return sys.executable, "-c", code


@pytest.mark.parametrize("rank_count", [0, 3])
def test_output_and_exit_code_are_the_commands(tmp_path: Path, rank_count: int) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    with Launch(rank_count, python(code), tmp_path) as launch:
        ended = launch.wait(PATIENCE_S)
    assert ended.code == 7
    assert ended.out.count("out\n") >= 1
    assert ended.err.count("err\n") >= 1
    assert ended.seconds > 0
    assert list(tmp_path.iterdir()) == []


def test_ranks_are_found_by_their_number(tmp_path: Path) -> None:
    with Launch(3, python(SLEEP), tmp_path) as launch:
        while launch.ranks().keys() != {0, 1, 2}:
            assert launch.process.poll() is None
        pids = launch.ranks()
        assert len(set(pids.values())) == 3
        os.kill(pids[1], signal.SIGKILL)
        ended = launch.wait(PATIENCE_S)
    assert ended.code != 0


def test_nothing_is_left_of_what_takes_too_long(tmp_path: Path) -> None:
    with Launch(2, python(f"print('before', flush=True); {SLEEP}"), tmp_path) as launch:
        while launch.output()[0].count("before") < 2:
            assert launch.process.poll() is None
        with pytest.raises(TimeoutError, match=r"after 0.2 s\nbefore"):
            launch.wait(0.2)
        assert launch.processes() == []


def test_nothing_is_left_of_a_test_that_fails(tmp_path: Path) -> None:
    """A process with a session of its own is in no process group that we know."""
    orphan = f"import os; os.fork() and os._exit(0); os.setsid(); {SLEEP}"
    launch = Launch(0, python(orphan), tmp_path)
    launch.process.wait()
    assert len(launch.processes()) == 1
    with pytest.raises(RuntimeError, match="the test fails"), launch:
        raise RuntimeError("the test fails")
    assert launch.processes() == []
