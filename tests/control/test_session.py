"""The phases of a run on several ranks, event by event."""

from __future__ import annotations

import pytest

from dvm_mpi import config
from dvm_mpi.control.coordinator_state import Complete
from dvm_mpi.control.messages import ProgramEnded, RankFailed, RankFinished, RankLoaded, RunEnded
from dvm_mpi.control.session import (
    Action,
    Begin,
    MakeOutputs,
    Phase,
    Session,
    SettleOutputs,
    TellFailure,
    ToAll,
)

ENDING = Complete(None, ())
FAILURE = RankFailed(1, 5, "no such file")


def session_in(phase: Phase, ranks: int = 2) -> Session:
    """Return a session that has come to `phase` in order, with nothing heard of it yet."""
    session = Session(ranks)
    steps = {
        Phase.RUNNING: lambda: [session.handle(RankLoaded(r, 100)) for r in range(ranks)],
        Phase.MAKING: lambda: session.handle(ENDING),
        Phase.WRITING: lambda: session.made(7, "places", 0),
        Phase.SETTLING: lambda: [session.handle(RankFinished(r, f"{r}")) for r in range(ranks)],
        Phase.OVER: session.settled,
    }
    for reached, step in steps.items():
        if session.phase is phase:
            break
        step()
        assert session.phase is reached
    return session


def test_program_begins_when_the_last_rank_has_loaded() -> None:
    session = Session(3)
    assert session.handle(RankLoaded(2, 10)) == ()
    assert session.handle(RankLoaded(0, 20)) == ()
    assert session.phase is Phase.LOADING
    assert session.handle(RankLoaded(1, 30)) == (Begin(),)
    assert session.loaded_bytes == 60


def test_files_are_made_before_ranks_write_and_settled_after() -> None:
    session = session_in(Phase.RUNNING)
    assert session.handle(ENDING) == (MakeOutputs(ENDING),)
    assert session.made(7, "places", 3) == (ToAll(ProgramEnded(7, "places")),)
    assert session.handle(RankFinished(1, "one")) == ()
    assert session.handle(RankFinished(0, "zero")) == (SettleOutputs(),)
    assert session.settled() == (ToAll(RunEnded(3)),)
    assert session.phase is Phase.OVER
    assert session.figures == {0: "zero", 1: "one"}


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.OVER])
def test_failure_ends_the_run_in_any_phase(phase: Phase) -> None:
    session = session_in(phase)
    assert session.handle(FAILURE) == (TellFailure(FAILURE), ToAll(RunEnded(5)))
    assert session.phase is Phase.OVER


@pytest.mark.parametrize("phase", list(Phase))
def test_nothing_follows_the_end(phase: Phase) -> None:
    """Messages and tasks that were under way when a rank failed come too late to be heard."""
    session = session_in(phase)
    session.handle(FAILURE)
    late: list[tuple[Action, ...]] = [
        session.handle(RankLoaded(0, 1)),
        session.handle(RankFinished(0, "")),
        session.handle(RankFailed(0, 9, "another")),
        session.handle(ENDING),
        session.made(7, "", 0),
        session.settled(),
    ]
    assert late == [()] * len(late)


def test_a_rank_that_says_the_same_twice_is_a_defect() -> None:
    session = Session(2)
    session.handle(RankLoaded(1, 0))
    with pytest.raises(KeyError):
        session.handle(RankLoaded(1, 0))


def test_what_is_waited_for_names_the_ranks() -> None:
    ranks = config.RANKS_SHOWN_MAX + 3
    session = Session(ranks)
    session.handle(RankLoaded(0, 0))
    shown = ", ".join(map(str, range(1, config.RANKS_SHOWN_MAX + 1)))
    assert session.waits_for == f"{Phase.LOADING.value}; rank {shown} and 2 more still to come"
    assert session_in(Phase.MAKING).waits_for == Phase.MAKING.value
