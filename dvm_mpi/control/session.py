"""The phases of a run on several ranks, as the coordinator sees them: a state machine.

Load everywhere, run the program, write everywhere, leave together. A failure on any rank, from
a file that cannot be read to a signal, shortens the way: the first one decides the exit code and
its text is the one that is told.
Invariant: `RunEnded` is sent once, and nothing is asked of any rank after it.
"""

from __future__ import annotations

from enum import Enum

from dvm_mpi import config
from dvm_mpi.control.coordinator_state import Complete
from dvm_mpi.control.messages import (
    Message,
    ProgramEnded,
    RankFailed,
    RankFinished,
    RankLoaded,
    RunEnded,
)
from dvm_mpi.values import dataclass


class Phase(Enum):
    """Where the run is, in words for a message about a long wait."""

    LOADING = "the program and its inputs are being loaded"
    RUNNING = "the program runs"
    MAKING = "output files are being made"
    WRITING = "ranks write their parts of the outputs"
    SETTLING = "output files are being put in place"
    OVER = "the run is over"


# --- actions ------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Begin:
    """Start the program's first runner."""


@dataclass(frozen=True, slots=True)
class MakeOutputs:
    """Tell how the program ended; if it ended well, make the output files; then `made`."""

    ending: Complete


@dataclass(frozen=True, slots=True)
class SettleOutputs:
    """Every rank has written its part: put the files in place; then `settled`."""


@dataclass(frozen=True, slots=True)
class TellFailure:
    """Tell the user why the run ends before its time; drop output files that were begun."""

    failure: RankFailed


@dataclass(frozen=True, slots=True)
class ToAll:
    """Send a message to every rank, this one included."""

    message: Message


Action = Begin | MakeOutputs | SettleOutputs | TellFailure | ToAll
Event = RankLoaded | RankFinished | RankFailed | Complete


class Session:
    """One run of `rank_count` ranks."""

    def __init__(self, rank_count: int) -> None:
        self.phase = Phase.LOADING
        #: Ranks that have not said yet what this phase waits for, ascending.
        self.awaited = set(range(rank_count))
        self.loaded_bytes = 0
        #: What each rank told at its end, as JSON, by rank.
        self.figures: dict[int, str] = {}
        self._rank_count = rank_count
        self._exit_code = 0

    def handle(self, event: Event) -> tuple[Action, ...]:
        """Take one event and return what must be done, in this order."""
        if self.phase is Phase.OVER:
            return ()
        if isinstance(event, RankFailed):
            self.phase = Phase.OVER
            self.awaited = set()
            return (TellFailure(event), ToAll(RunEnded(event.exit_code)))
        if isinstance(event, Complete):
            assert self.phase is Phase.RUNNING
            self.phase = Phase.MAKING
            return (MakeOutputs(event),)
        self.awaited.remove(event.rank)
        if isinstance(event, RankLoaded):
            assert self.phase is Phase.LOADING
            self.loaded_bytes += event.loaded_bytes
            after: tuple[Phase, Action] = (Phase.RUNNING, Begin())
        else:
            assert self.phase is Phase.WRITING
            self.figures[event.rank] = event.figures
            after = (Phase.SETTLING, SettleOutputs())
        if self.awaited:
            return ()
        self.phase = after[0]
        return (after[1],)

    def made(self, visible: int, places: str, exit_code: int) -> tuple[Action, ...]:
        """Note that the output files are there, or that none will be, and how the run will end."""
        if self.phase is not Phase.MAKING:
            return ()
        self._exit_code = exit_code
        self.phase = Phase.WRITING
        self.awaited = set(range(self._rank_count))
        return (ToAll(ProgramEnded(visible, places)),)

    def settled(self) -> tuple[Action, ...]:
        """Note that the output files are in place."""
        if self.phase is not Phase.SETTLING:
            return ()
        self.phase = Phase.OVER
        return (ToAll(RunEnded(self._exit_code)),)

    @property
    def is_over(self) -> bool:
        """Whether all ranks have been told to leave."""
        return self.phase is Phase.OVER

    @property
    def waits_for(self) -> str:
        """Tell what this phase waits for."""
        if not self.awaited:
            return self.phase.value
        shown = ", ".join(map(str, sorted(self.awaited)[: config.RANKS_SHOWN_MAX]))
        hidden = len(self.awaited) - config.RANKS_SHOWN_MAX
        more = f" and {hidden:,} more" if hidden > 0 else ""
        return f"{self.phase.value}; rank {shown}{more} still to come"
