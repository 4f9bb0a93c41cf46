"""The common part of the tests of several ranks: a failure is told, by rank 0, and ends in time."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from tests.ranks.launch import ROOT, Ended, Launch


@pytest.fixture
def run_test(tmp_path: Path) -> Callable[..., Ended]:
    """Return what runs the body of one test on some ranks, under the hooks of tests/mpi."""

    def run(rank_count: int, body: str, *options: str, mark: str = "") -> Ended:
        text = f"import pytest, time\n@pytest.mark.mpi({mark})\ndef test_it(comm):\n    {body}\n"
        (tmp_path / "test_it.py").write_text(text)
        # The settings of the project, whose folder may hold this one, are not meant.
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        plugins = ("-p", "no:cacheprovider", "-p", "tests.mpi.conftest", "--color=no")
        command = (sys.executable, "-m", "pytest", "--with-mpi", *plugins, *options, "test_it.py")
        with Launch(rank_count, command, tmp_path, {"PYTHONPATH": str(ROOT)}) as launch:
            return launch.wait(PATIENCE_S)

    return run


def test_passes_where_all_ranks_pass(run_test: Callable[..., Ended]) -> None:
    ended = run_test(3, "assert comm.size == 3")
    assert ended.code == 0, ended
    assert ended.out.count("1 passed") == 3


def test_failure_of_one_rank_is_a_failure_of_all(run_test: Callable[..., Ended]) -> None:
    ended = run_test(3, "assert comm.rank != 1, 'only here'")
    assert ended.code != 0
    assert ended.out.count("1 failed in") == 1
    assert ended.out.count("1 passed, 1 error in") == 2, "ranks 0 and 2"
    assert "rank 1, call:" in ended.out


def test_rank_that_fails_does_not_leave_the_others_waiting_for_it(
    run_test: Callable[..., Ended],
) -> None:
    ended = run_test(3, "assert comm.rank != 1, 'only here'; comm.Barrier()")
    assert ended.code != 0
    assert "rank 1, call:" in ended.err
    assert "only here" in ended.err
    assert "the other ranks do not come" in ended.err


def test_rank_that_hangs_ends_all_with_its_stack(run_test: Callable[..., Ended]) -> None:
    body = "time.sleep(1000 if comm.rank == 1 else 0)"
    ended = run_test(2, body, "--timeout=10", "--timeout-method=thread")
    assert ended.code != 0
    assert "Timeout" in ended.out
    assert body in ended.out, "the stack says where it hangs"


def test_unknown_keyword_of_the_mark_is_refused(run_test: Callable[..., Ended]) -> None:
    """pytest-mpi would run the test on any number of ranks, in silence."""
    ended = run_test(1, "pass", mark="minimum=2")
    assert ended.code == pytest.ExitCode.USAGE_ERROR
    assert "the mark mpi takes min_size only, not minimum" in ended.err


def test_too_few_ranks_skip(run_test: Callable[..., Ended]) -> None:
    assert "1 skipped" in run_test(1, "pass", mark="min_size=2").out
