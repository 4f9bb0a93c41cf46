"""What a rank watches beside its work: signals, its launcher, long waits; and its last words.

`turn` is called over and over, by whatever the rank is doing. What ends the run in order goes to
the coordinator; `die` is for what the other ranks cannot be told.
"""

from __future__ import annotations

import os
import platform
import signal
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from dvm_mpi import config
from dvm_mpi.errors import EXIT_CODE_MEANINGS, DvmError, ExitCode, RankLostError, WorldError
from dvm_mpi.job.long_wait import LongWait
from dvm_mpi.job.parts import say
from dvm_mpi.launch import abort, segments
from dvm_mpi.launch.environment import Launch, Launcher
from dvm_mpi.launch.postmortem import PostMortem
from dvm_mpi.launch.signals import Signals, leave_now

if TYPE_CHECKING:
    from dvm_mpi.control.rank import Rank
    from dvm_mpi.control.session import Phase
    from dvm_mpi.control.transport import Transport
    from dvm_mpi.job.owner import Owner

#: Ends after which nobody asks what the run was doing: the message says it all.
_TOLD_ENOUGH: Final = frozenset(
    {ExitCode.OK, ExitCode.WATCHERS_LEFT, ExitCode.READER_GONE, ExitCode.FILE}
)
#: How often a rank looks whether its launcher is still there.
_LOOK_S: Final = 0.25


def _warn(text: str) -> None:
    say(f"dvm: {text}")


class Vigil:
    """The eyes of one rank; `transport` and `rank` are set as soon as they are there.

    Parameters
    ----------
    owner
        Of the run; on rank 0 only.
    """

    def __init__(self, launch: Launch, signals: Signals, owner: Owner | None) -> None:
        self.transport: Transport | None = None
        self.rank: Rank | None = None
        self._launch = launch
        self._signals = signals
        self._owner = owner
        self._post_mortem: PostMortem | None = None
        #: What the post-mortem file says that the run is at.
        self._noted_phase: Phase | None = None
        self._look_at_s = 0.0
        self._long_wait = LongWait()
        #: When a signal came; the run must be over soon after.
        self._asked_at_s = 0.0

    def begin_post_mortem(self, folder: Path, job: str, command: Sequence[str]) -> None:
        """From now on, keep the state of the run in a file."""
        words = ("python", "-m", "dvm_mpi", *command)
        self._post_mortem = PostMortem(folder, job, words, warn=_warn)

    # --- while it runs --------------------------------------------------------------------------
    def at_ease(self) -> AbstractContextManager[None]:
        """Return a context in which signals end this process at once: for a call that may hang."""
        return self._signals.suspended()

    def turn(self) -> None:
        """Obey signals, look after the launcher, and show and keep what goes on."""
        if self._signals.take_dump_request():
            told = self.rank.describe() if self.rank is not None else self._starting_text()
            say(f"dvm: rank {self._launch.rank} on {platform.node()}: {told}")
        if self._signals.ending:
            self._obey(signal.Signals(self._signals.ending))
        now_s = time.monotonic()
        if now_s >= self._look_at_s:
            self._look_at_s = now_s + _LOOK_S
            if self._signals.parent_died():
                self._orphaned()
            self._tell_long_wait(now_s)
            if self._owner is not None and self._post_mortem is not None:
                self._post_mortem.update(self._state_text)
        if self._owner is not None:
            self._note_phase(self._owner)
            self._owner.each_turn()

    def _starting_text(self) -> str:
        waits_for = self.transport.waits_for if self.transport is not None else ""
        return f"starting; waits for {waits_for}" if waits_for else "starting"

    def _tell_long_wait(self, now_s: float) -> None:
        """Tell, on rank 0, what a call of all ranks together waits for if it takes long.

        Raises
        ------
        RankLostError
            It has taken too long.
        """
        transport, owner = self.transport, self._owner
        if transport is None or owner is None:
            return
        is_over = self.rank is not None and self.rank.exit_code is not None
        patience_s = config.LOST_AT_END_S if is_over else config.LOST_AT_START_S
        try:
            told = self._long_wait.look(
                now_s, transport.waits_for, transport.missing, patience_s, owner.hosts
            )
        except RankLostError as error:
            if self.rank is not None and self.rank.exit_code == ExitCode.OK:
                raise RankLostError(
                    f"{error}\n  the program had ended before, and its outputs are in place"
                ) from error
            raise
        if told:
            owner.tell(told)

    def _note_phase(self, owner: Owner) -> None:
        """Note when what begins has begun; a new phase goes to the post-mortem file at once."""
        owner.note_beginnings(time.perf_counter())
        coordinator = owner.coordinator
        if coordinator is None or coordinator.session.phase is self._noted_phase:
            return
        self._noted_phase = coordinator.session.phase
        if self._post_mortem is not None and not coordinator.session.is_over:
            self._post_mortem.hurry()
            self._post_mortem.update(self._state_text)

    def _obey(self, asked: signal.Signals) -> None:
        """End the run for a signal, in order if that goes fast."""
        now_s = time.monotonic()
        is_ctrl_c = asked is signal.SIGINT
        code, name = int(ExitCode.INTERRUPTED if is_ctrl_c else ExitCode.TERMINATED), asked.name
        if not self._asked_at_s:
            if self._is_told_by_another():
                leave_now(code)
            self._asked_at_s = now_s
            if self.rank is None:
                if not self._launch.speaks_for_all:
                    # Most likely it came to all ranks; one of them tells, and ends the others.
                    time.sleep(config.SPEAKER_S)
                    if self.transport is None:
                        leave_now(code)
                # There is nothing to be asked about later.
                if self._post_mortem is not None:
                    self._post_mortem.remove()
                self._post_mortem = None
                self.die(f"dvm: ended by {name} before the program ran", code)
            text = f"dvm: ended by {name}; what had been committed was printed"
            if self._launch.launcher is Launcher.OPEN_MPI and asked is signal.SIGTERM:
                text += " (Open MPI's mpiexec sends it also when another rank has died)"
            self.rank.fail(code, text)
        elif now_s - self._asked_at_s > config.GRACE_S:
            self.die(f"dvm: ended by {name}; not every rank came to the end", code)

    def _orphaned(self) -> None:
        text = f"the launcher died under rank {self._launch.rank} on {platform.node()}"
        if self._owner is not None:
            self._keep_post_mortem(text, "")
            self._owner.close_trace()
            self._owner.report_death(text, int(ExitCode.LOST))
        say(f"dvm: {text}; it ends")
        segments.unlink_mapped()
        leave_now(int(ExitCode.LOST))

    def _state_text(self) -> str:
        """Return the state of the run, of this rank only if it is not rank 0, as lines."""
        coordinator = None if self._owner is None else self._owner.coordinator
        if coordinator is not None:
            state = coordinator.describe()
            # For the next time: nobody answers who is asked when it is too late.
            coordinator.ask_some()
        elif self.rank is not None:
            state = {f"rank {self._launch.rank}": self.rank.describe()}
        else:
            state = {"phase": "the run starts"}
        return "\n".join(f"{name:<10} {text}" for name, text in state.items())

    # --- ends -----------------------------------------------------------------------------------
    def _keep_post_mortem(self, reason: str, text: str) -> None:
        if self._post_mortem is None:
            return
        path = self._post_mortem.keep(reason, f"{text}\n{self._state_text()}".strip())
        if path is not None:
            say(f"  what was known then: {path}")

    def settle(self, owner: Owner, exit_code: ExitCode) -> None:
        """Keep the file where somebody may ask what the run was doing, else remove it."""
        assert self._post_mortem is not None
        if self._signals.parent_died():
            # Seen in its consequences first: nobody reads our output any more.
            self._keep_post_mortem("the launcher died", f"{owner.fault}\n")
        elif exit_code in _TOLD_ENOUGH:
            self._post_mortem.remove()
        else:
            self._keep_post_mortem(EXIT_CODE_MEANINGS[exit_code], f"{owner.fault}\n")

    def forget(self) -> None:
        """Remove the file of a run that never began."""
        if self._owner is not None and self._post_mortem is not None:
            self._post_mortem.remove()

    def tell_before_mpi(self, error: DvmError) -> None:
        """Tell what is equally wrong everywhere, or on all ranks of a node; and let all ranks end.

        Who is not to speak waits for the end. If it does not come, nobody else knows.
        """
        is_of_node = error.exit_code == ExitCode.LIMIT
        launch = self._launch
        speaks = launch.speaks_for_node if is_of_node else launch.speaks_for_all
        leaves_it = isinstance(error, WorldError) or not abort.ends_with_one(launch)
        if (leaves_it and not speaks) or not abort.is_to_tell(
            launch, 0.0 if speaks else config.SPEAKER_S
        ):
            # What that one says is to be taken before the launcher hears that this one has left.
            time.sleep(config.SPEAKER_S)
            return
        say(error.message)
        if launch.rank:
            say(f"  at rank {launch.rank} on {platform.node()}")
        abort.leave_after_telling(launch, os.environ, int(error.exit_code))

    def die(self, text: str, exit_code: int) -> NoReturn:
        """Tell a fault that the other ranks cannot be told in order, and end them all."""
        where = f"rank {self._launch.rank} on {platform.node()}"
        if self._owner is not None:
            self._owner.close()
            self._owner.close_trace()
        if not self._is_told_by_another():
            say(f"{text.rstrip()}\n  at {where}; all ranks are ended")
            self._keep_post_mortem(f"{where} failed", text)
            if self._owner is not None:
                self._owner.report_death(text, exit_code)
        # Those that map them after this are to end as well.
        segments.unlink_mapped()
        if self.transport is not None:
            from dvm_mpi.control import transport

            abort.let_output_pass()
            transport.abort(exit_code)
        abort.end_job(self._launch, os.environ, exit_code)
        leave_now(exit_code)

    def _is_told_by_another(self) -> bool:
        return self._post_mortem is not None and self._post_mortem.is_told_by_another()
