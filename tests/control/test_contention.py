"""Where attempts lose: counted by place, with the byte that others had stored first."""

from __future__ import annotations

import numpy as np
import pytest

from dvm_mpi.config import CONTENTION_LOSSES_TOLD
from dvm_mpi.control.contention import (
    ContendedSite,
    Contention,
    is_worth_telling,
    lowest_newer,
)
from dvm_mpi.dsm.conflict import ConflictSet
from dvm_mpi.engine.interface import End, TrapKind
from dvm_mpi.layout import PAGE_BYTES, RANGE
from tests.control.coordinator import FIRST, A, B, C, Child, D, Ends, X, Y, lose, with_children


def note(contention: Contention, *lost: tuple[int, int, int], address: int = 0) -> list[int]:
    """Count attempts `(entry, pc, losses)` together; return the positions that were asked about."""
    asked: list[int] = []

    def find(position: int) -> int:
        asked.append(position)
        return address

    entries, pcs, losses = (np.array(column) for column in zip(*lost, strict=True))
    contention.note(entries, pcs, losses, find)
    return asked


def test_losses_are_counted_by_entry_and_place() -> None:
    contention = Contention()
    assert note(contention, (1, 10, 1), (1, 10, 4), (1, 20, 2), (2, 10, 1), address=70) == [0, 2, 3]
    note(contention, (1, 20, 3), (1, 20, 1), address=50)
    assert contention.sites() == (
        ContendedSite(entry=1, pc=20, losses=3, most=3, address=50),
        ContendedSite(entry=1, pc=10, losses=2, most=4, address=70),
        ContendedSite(entry=2, pc=10, losses=1, most=1, address=70),
    )


def test_addresses_are_looked_for_seldom() -> None:
    contention = Contention()
    asked = [note(contention, (1, 10, 1), address=100 - i) for i in range(20)]
    assert [i + 1 for i, positions in enumerate(asked) if positions] == [1, 2, 4, 8, 16]
    assert contention.sites()[0].address == 85


def test_of_too_many_places_those_with_few_losses_are_forgotten() -> None:
    contention = Contention(sites_kept=2)
    for pc, times in ((10, 3), (20, 1), (30, 4), (40, 2), (50, 1)):
        note(contention, *[(1, pc, 1)] * times)
    assert [site.pc for site in contention.sites()] == [30, 10]


def test_the_lowest_byte_is_found_wherever_it_is() -> None:
    conflicts = ConflictSet()
    ranges = np.array([(0, 100), (200, 4096)], dtype=RANGE)

    def store(start: int, length: int, epoch: int) -> None:
        one = np.array([(start, length)], dtype=RANGE)
        conflicts.resolve(np.array([0]), np.array([0, 1]), one, np.array([True]), epoch)

    store(2000, 1, 1)
    assert lowest_newer(conflicts, ranges, 0) == 2000
    for start, length, lowest in ((4000, 500, 4000), (3000, 3, 3000), (150, 51, 200), (99, 1, 99)):
        conflicts = ConflictSet()
        store(start, length, 5)
        assert lowest_newer(conflicts, ranges, 3) == lowest
    with pytest.raises(AssertionError, match="nobody stored there"):
        lowest_newer(conflicts, ranges, 5)


@pytest.mark.parametrize(
    ("losses", "attempts", "is_told"),
    [(0, 0, False), (2, 3, False), (CONTENTION_LOSSES_TOLD, 300, True), (1000, 100_000, False)],
)
def test_it_is_told_if_many_lose(losses: int, attempts: int, is_told: bool) -> None:
    assert is_worth_telling(losses, attempts) is is_told


# --- as the coordinator counts them -------------------------------------------------------------
def test_a_run_without_losses_has_no_places() -> None:
    c = with_children(Child(A), Child(B))
    c.ends(c.one(A), stores=[X])
    c.ends(c.one(B), stores=[Y])
    assert c.scheduler.state.contention.sites() == ()


def test_a_runner_that_loses_again_and_again() -> None:
    c = with_children(Child(A), Child(B))
    lose(c, A, B, times=2, place=X + 8)
    (site,) = c.scheduler.state.contention.sites()
    assert (site.entry, site.losses, site.most, site.address) == (A, 2, 2, X + 8)


def test_a_trap_on_what_has_changed_is_counted_where_it_was() -> None:
    """An attempt that traps is a loser like others, if it stored what others stored meanwhile."""
    c = with_children(Child(A), Child(B), workers=1)
    a, b = c.one(A), c.one(B)
    trap = int(TrapKind.DIVISION_BY_ZERO)
    c.finish(Ends(a, stores=[X]), Ends(b, End.TRAP, stores=[X], trap=trap))
    (site,) = c.scheduler.state.contention.sites()
    # The test's workers say that it was the runner's first instruction.
    assert (site.entry, site.pc, site.address) == (B, B, X)


def test_what_was_only_loaded_counts_under_serializable() -> None:
    c = with_children(Child(A), Child(B), isolation="serializable")
    loser = c.one(B)
    c.ends(c.one(A), stores=[Y + 3])
    c.ends(loser, stores=[X], loads=[(Y, 8)])
    (site,) = c.scheduler.state.contention.sites()
    assert site.address == Y + 3


def test_neighbours_of_one_page_met_over_it() -> None:
    """They stored no byte in common; the address is one that the winner stored."""
    c = with_children(Child(A), Child(B), Child(C), Child(D), conflict_unit="page")
    loser = c.one(B)
    c.ends(c.one(A), stores=[X + 64])
    c.ends(loser, stores=[X + 8])
    c.ends(c.one(C), stores=[X + PAGE_BYTES])
    (site,) = c.scheduler.state.contention.sites()
    assert (site.entry, site.losses, site.address) == (B, 1, X + 64)
    assert c.runs(FIRST) == []
