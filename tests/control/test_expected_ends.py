"""The last few that are about to end are awaited by the epoch, and nobody else is."""

from __future__ import annotations

import pytest

from dvm_mpi.config import (
    ENDS_AWAITED_MAX,
    ENDS_AWAITED_US_MAX,
    ENDS_PART,
    ENDS_SOON_US,
    EPOCH_US_MAX,
    SHARE_FUEL_MIN,
)
from dvm_mpi.control.joining import join
from dvm_mpi.control.messages import AsleepChanged
from tests.control.coordinator import FIRST, A, B, C, Child, Coordinator, Ends, X

#: How long attempts of A take, and when those of the second wave are expected to end.
TOOK_US = 2 * ENDS_PART * ENDS_SOON_US
ENDS_US = 2 * TOOK_US
NEARLY_US = ENDS_US - ENDS_SOON_US // 2


def second_wave(
    workers: int = 2, share_fuel_min: int = SHARE_FUEL_MIN, beside: tuple[int, ...] = ()
) -> Coordinator:
    """Return a machine that runs A on all workers, but those that run `beside`, and has before."""
    c = Coordinator(workers=workers, share_fuel_min=share_fuel_min, batch=1)
    c.ends(c.one(FIRST), children=[Child(A)] * workers)
    c.apply()
    c.tick(TOOK_US)
    wave = [Child(entry) for entry in (*beside, *[A] * (workers - len(beside)))]
    for number, attempt in enumerate(c.runs(A), 1):
        c.ends(attempt, children=wave if number == workers else [])
    c.apply()
    assert len({attempt.worker for attempt in c.running.values()}) == workers
    return c


def test_who_is_about_to_end_is_awaited() -> None:
    c = second_wave()
    c.tick(NEARLY_US)
    c.ends(c.runs(A)[0], stores=[X])
    c.tick(NEARLY_US + EPOCH_US_MAX)
    assert not c.applying, "though nothing else is left to do for a worker"
    c.ends(c.one(A), stores=[X + 8])
    ((_, request),) = c.applying
    assert len(request.tokens) == 2


def test_who_is_late_is_awaited_a_moment() -> None:
    c = second_wave()
    c.tick(NEARLY_US)
    c.ends(c.runs(A)[0], stores=[X])
    # They began together, and should end together.
    until_us = NEARLY_US + ENDS_SOON_US
    assert c.scheduler.due_at_us == until_us
    c.tick(until_us - 1)
    assert not c.applying
    c.tick(until_us)
    ((_, request),) = c.applying
    assert len(request.tokens) == 1


def test_no_epoch_waits_for_one_after_the_other() -> None:
    """Each of them is about to end, when the one before it has."""
    c = second_wave(workers=3)
    first, second, _ = c.runs(A)
    c.tick(NEARLY_US)
    c.ends(first, stores=[X])
    c.tick(ENDS_US)
    c.ends(second, stores=[X + 8])
    assert not c.applying
    # As if the last one had begun later.
    c.scheduler._ends._since_us[:] += ENDS_SOON_US - 1  # type: ignore[union-attr]
    assert c.scheduler.due_at_us == NEARLY_US + ENDS_AWAITED_US_MAX
    c.tick(NEARLY_US + ENDS_AWAITED_US_MAX)
    assert len(c.applying) == 1


@pytest.mark.parametrize("later_us", [2 * ENDS_SOON_US, -2 * ENDS_SOON_US])
def test_who_has_long_to_go_or_is_very_late_is_not(later_us: int) -> None:
    c = second_wave()
    c.scheduler._ends._since_us[c.runs(A)[1].worker] += later_us  # type: ignore[union-attr]
    c.tick(NEARLY_US)
    c.ends(c.runs(A)[0], stores=[X])
    assert len(c.applying) == 1


def test_nor_is_anybody_for_longer_than_a_part_of_what_its_like_took() -> None:
    c = second_wave()
    c.tick(TOOK_US + 3 * ENDS_PART)
    c.ends(c.runs(A)[0], stores=[X])
    c.tick(TOOK_US + 3 * ENDS_PART + 2)
    assert not c.applying
    c.tick(TOOK_US + 3 * ENDS_PART + 3)
    assert len(c.applying) == 1


def test_nor_is_anybody_when_runners_are_born() -> None:
    c = second_wave()
    c.tick(NEARLY_US)
    c.ends(c.runs(A)[0], stores=[X], children=[Child(C)])
    assert len(c.applying) == 1


def test_a_watcher_that_is_born_is_nothing_to_begin_with() -> None:
    c = second_wave()
    c.tick(NEARLY_US)
    c.ends(c.runs(A)[0], stores=[X], children=[Child(C, watched=[(X, 16)])])
    assert not c.applying
    c.ends(c.one(A), stores=[X + 8])
    ((_, request),) = c.applying
    assert len(request.tokens) == 2
    c.apply()
    assert len(c.runs(C)) == 1


def test_nor_beside_one_of_whom_nothing_is_known() -> None:
    c = second_wave(workers=3, beside=(B,))
    c.tick(NEARLY_US)
    c.ends(c.runs(A)[0], stores=[X])
    assert len(c.applying) == 1


def test_nor_are_many() -> None:
    c = second_wave(workers=ENDS_AWAITED_MAX + 2)
    c.tick(NEARLY_US)
    c.ends(c.runs(A)[0], stores=[X])
    assert len(c.applying) == 1
    c.apply()
    c.ends(c.runs(A)[0], stores=[X + 8])
    assert not c.applying, "now they are few"


def test_nor_is_who_sleeps() -> None:
    c = second_wave(workers=3)
    c.tick(NEARLY_US)
    sleeper, other, _ = c.runs(A)
    c.handle(AsleepChanged(sleeper.worker, 1))
    c.scheduler._ends._entry[sleeper.worker] = -1  # type: ignore[union-attr]
    c.ends(other, stores=[X])
    assert not c.applying, "the third one is awaited, whatever the sleeper does"


def test_without_shares_nobody_is_awaited() -> None:
    c = second_wave(share_fuel_min=0)
    c.tick(NEARLY_US)
    c.ends(c.runs(A)[0], stores=[X])
    assert len(c.applying) == 1


def test_ends_that_came_together_are_taken_for_their_like_as_well() -> None:
    """A first wave takes long, since nothing is there yet; of later ones all records are joined."""
    c = second_wave()
    c.tick(TOOK_US + 4 * ENDS_PART)
    both = [c.record(Ends(attempt, stores=[X + 8 * attempt.worker])) for attempt in c.runs(A)]
    c.running.clear()
    c.handle(join(both))
    ends = c.scheduler._ends
    assert ends is not None
    assert ends._took_us[A] == 4 * ENDS_PART
