"""Who tries whom, and what counts as an answer; tests/mpi/test_window.py measures real windows."""

from __future__ import annotations

import time

import numpy as np
import pytest

from dvm_mpi import config
from dvm_mpi.dsm import probe
from dvm_mpi.dsm.probe import MAILBOX_BYTES, Cell, Finding, pair_up

# fmt: off
PAIRS = [
    # node of each rank            target, partner
    ([7],                          []),
    ([7, 7],                       [(0, 1)]),
    ([7, 7, 7],                    [(0, 1)]),
    ([7, 5],                       [(0, 1)]),
    ([7, 7, 5, 5],                 [(0, 2)]),
    ([7, 7, 7, 5, 5, 5],           [(0, 3), (1, 2), (4, 5)]),
    ([7, 5, 7, 5, 7, 5],           [(0, 1), (2, 4), (3, 5)]),
    ([1, 2, 3],                    [(0, 1)]),
    ([1, 1, 2, 2, 3, 3],           [(0, 2), (4, 5)]),
    ([1, 1, 1, 2, 3, 3, 3],        [(0, 3), (1, 2), (4, 5)]),
]
# fmt: on


@pytest.mark.parametrize(("nodes", "pairs"), PAIRS)
def test_pairs_are_of_all_kinds_and_disjoint(nodes, pairs):
    assert pair_up(nodes) == pairs
    ranks = [rank for pair in pairs for rank in pair]
    assert len(ranks) == len(set(ranks))


class _Request:
    """A read that is complete after some looks; then its target's state is in the block."""

    def __init__(self, target, state, looks):
        self.target, self.state, self.looks = target, state, looks

    def Test(self):
        self.looks -= 1
        if self.looks > 0:
            return False
        self.target[Cell.STATE] = self.state
        return True


class _Windows:
    """Gives each read the next of the states in which its target may have been."""

    def __init__(self, states, looks=1):
        self.states, self.looks, self.reads = states, looks, 0

    def read_mailbox(self, rank, offset, target):
        assert (rank, offset, target.size) == (3, 0, probe.READ_BYTES)
        state = self.states[min(self.reads, len(self.states) - 1)]
        self.reads += 1
        return [_Request(target, state, self.looks)]


def reads_while_busy(windows, attempt=1):
    steps = probe._read_while_busy(windows, 3, attempt)
    yielded = 0
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            times_s, looks = stop.value
            assert looks == yielded
            return len(times_s), looks
        yielded += 1


BUSY, DONE = probe._busy(1), probe._done(1)
BEFORE = probe._done(0)


def test_only_what_a_busy_target_answered_counts():
    """What was answered before it began, in this attempt or the last, proves nothing."""
    enough = config.PROBE_READS
    windows = _Windows([BEFORE] * 9 + [BUSY] * 50)
    assert reads_while_busy(windows) == (enough, 0)
    assert windows.reads == 9 + enough


def test_a_target_that_answers_when_it_is_done_does_not_answer():
    windows = _Windows([BEFORE, BEFORE, DONE], looks=5)
    assert reads_while_busy(windows) == (0, 12)


def test_too_few_answers_are_told_as_what_they_are():
    assert reads_while_busy(_Windows([BUSY] * (config.PROBE_READS - 1) + [DONE])) == (
        config.PROBE_READS - 1,
        0,
    )


class _Comm:
    """Sends at once; notes the attempts that the target is asked for."""

    def __init__(self):
        self.asked = []

    def Isend(self, number, target, tag):
        del tag
        assert target == 3
        self.asked.append(int(number[0]))
        return _Request(np.zeros(MAILBOX_BYTES, np.uint8), 0, 1)


class _Stretches:
    """A target, of which each attempt finds so many busy reads, after so many looks at each."""

    def __init__(self, *stretches):
        self.stretches, self.comm, self.reads, self.satisfied = stretches, _Comm(), 0, None

    def read_mailbox(self, rank, offset, target):
        assert (rank, offset) == (3, 0)
        attempt = self.comm.asked[-1]
        if len(self.comm.asked) > self.reads:
            self.reads, self.left = len(self.comm.asked), self.stretches[attempt][0]
        self.left -= 1
        state = probe._busy(attempt) if self.left >= 0 else probe._done(attempt)
        return [_Request(target, state, self.stretches[attempt][1])]

    def write_mailbox(self, rank, offset, data):
        assert (rank, offset) == (3, Cell.SATISFIED)
        self.satisfied = data.tolist()


def tried(windows):
    """Return the median time, and how often the target had to compute."""
    steps = probe._try(windows, 3)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            assert windows.comm.asked.pop() == probe._NO_MORE
            return stop.value, len(windows.comm.asked)


NO_CORE, IN_VAIN, GOOD = (3, 2), (0, 300), (config.PROBE_READS, 2)


def test_a_stretch_in_which_the_partner_had_no_core_proves_nothing():
    windows = _Stretches(*[NO_CORE] * 20, IN_VAIN, IN_VAIN, GOOD)
    median_us, attempts = tried(windows)
    assert (median_us > 0, attempts) == (True, 23)
    assert windows.satisfied == [23]


def test_a_target_that_does_not_answer_is_asked_a_few_times():
    assert tried(_Stretches(*[IN_VAIN] * 9)) == (0, config.PROBE_ATTEMPTS)
    assert tried(_Stretches(*[NO_CORE] * 99)) == (0, config.PROBE_ATTEMPTS_MAX)


def test_a_satisfied_partner_ends_the_computing(monkeypatch: pytest.MonkeyPatch):
    """With a day to compute, this returns because of the mailbox, and not because of the time."""
    monkeypatch.setattr(config, "PROBE_BUSY_S", 86_400.0)
    mailbox = np.zeros(MAILBOX_BYTES, np.uint8)
    mailbox[Cell.SATISFIED] = 2
    probe._compute(mailbox, 1)
    assert mailbox[Cell.STATE] == DONE


def test_an_earlier_attempts_satisfaction_does_not_count(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(config, "PROBE_BUSY_S", 0.005)
    began = time.perf_counter()
    mailbox = np.zeros(MAILBOX_BYTES, np.uint8)
    mailbox[Cell.SATISFIED] = 1
    probe._compute(mailbox, 1)
    assert time.perf_counter() - began >= 0.005


def test_findings_are_told_in_words():
    assert str(Finding(True, 0, 0)) == "one rank alone reads its own memory"
    assert str(Finding(True, 3, 17)).endswith("in 17 µs")
    assert "does not let others" in str(Finding(False, 3, 0))
