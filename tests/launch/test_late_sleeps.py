from __future__ import annotations

import pytest

from dvm_mpi.launch.late_sleeps import late_sleeps, slack_ns


def test_sleeps_may_end_late_for_a_stretch_only() -> None:
    usual = slack_ns()
    with late_sleeps(usual + 700_000):
        assert slack_ns() == usual + 700_000
    assert slack_ns() == usual


def test_they_end_as_before_when_the_stretch_fails() -> None:
    usual = slack_ns()
    with pytest.raises(OSError, match="no window"), late_sleeps(usual + 700_000):
        raise OSError("no window")
    assert slack_ns() == usual


def test_where_nobody_waits_for_the_processor_nothing_changes() -> None:
    usual = slack_ns()
    with late_sleeps(0):
        assert slack_ns() == usual
