"""Bells between ranks of one process."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from dvm_mpi.control import bells
from dvm_mpi.control.bells import Bells
from tests.patience import PATIENCE_S

JOB = f"test-{os.getpid()}"


@pytest.fixture
def pair() -> Iterator[tuple[Bells, Bells]]:
    """Return the bells of two ranks of one host; a third one has none."""
    both = Bells(JOB, 0, (1, 2)), Bells(JOB, 1, (0, 2))
    yield both
    for each in both:
        each.close()


def test_who_is_rung_for_wakes(pair: tuple[Bells, Bells]) -> None:
    pair[0].ring(1)
    assert pair[1].wait(PATIENCE_S)
    assert not pair[1].wait(0)
    assert not pair[0].wait(0)


def test_it_does_not_matter_how_often_somebody_rings(pair: tuple[Bells, Bells]) -> None:
    """A busy rank hears nothing for long: its neighbours go on, and it wakes once."""
    for _ in range(2_000):
        pair[0].ring(1)
    assert pair[1].wait(PATIENCE_S)
    assert not pair[1].wait(0)
    pair[0].ring(1)
    assert pair[1].wait(PATIENCE_S)


def test_who_has_no_bell_is_left_alone(pair: tuple[Bells, Bells]) -> None:
    """It runs where this process cannot see it, is gone, or is on another host."""
    for rank in (2, 2, 7):
        pair[0].ring(rank)
    pair[1].close()
    for _ in range(2):
        pair[0].ring(1)


def test_a_bell_that_hangs_already_is_refused(pair: tuple[Bells, Bells]) -> None:
    with pytest.raises(OSError, match="in use"):
        Bells(JOB, 1, (0,))


def test_a_bell_that_cannot_be_waited_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With so many open files `select` would fail, at every nap."""
    monkeypatch.setattr(bells, "_SELECTED_MAX", 0)
    with pytest.raises(OSError, match="too many"):
        Bells(JOB, 0, (1,))
