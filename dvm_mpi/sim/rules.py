"""Rules of a run that its memory alone does not show: who may run when, and who must.

A run in which a child starts before its parent's commit, or in which a watcher sleeps through a
store, may still be perfectly isolated. These checks look at dispatches and commits only.
Source: docs/memory-model.md, "Runners" and "Watchers".
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi.config import LOSSES_BEFORE_RUNNING_ALONE
from dvm_mpi.engine.interface import End
from dvm_mpi.sim.history import CreatedRunner, GivenAttempt, History, Span
from dvm_mpi.sim.loss import Loss
from dvm_mpi.values import dataclass, field

_DELETIONS: Final = frozenset({End.COMMIT_DELETE, End.ABORT_DELETE})


@dataclass(slots=True)
class _Born:
    """A runner or template, and the commit that made it."""

    creator: int
    epoch: int
    runner: CreatedRunner
    #: Its attempts by number, in the order of dispatch.
    attempts: list[int] = field(default_factory=list)

    @property
    def is_template(self) -> bool:
        return bool(self.runner.fact("template"))


class Rules:
    """Checks one history; `broken` tells what is wrong, one line each."""

    def __init__(self, history: History, loss: Loss) -> None:
        self.broken: list[str] = []
        self._history = history
        self._loss = loss
        self._epochs = dict(history.orders)
        self._born = self._births()
        self._stores = self._committed_stores()

    def check(self) -> list[str]:
        """Return what is wrong with the run."""
        self._check_order()
        self._check_blocks()
        self._check_recalled()
        for given in self._history.given.values():
            self._check_start(given)
        for id_, born in self._born.items():
            if born.is_template:
                self._check_watcher(id_, born)
            else:
                self._check_ran_once(id_, born)
            self._check_retries(id_, born)
        return self.broken

    # --- what was created -----------------------------------------------------------------------
    def _births(self) -> dict[int, _Born]:
        born: dict[int, _Born] = {}
        for number, epoch in self._history.orders:
            for child in self._history.ended[number].children:
                if child.fact("id") in born:
                    self.broken.append(f"id {child.fact('id'):#x} was given out twice")
                born[child.fact("id")] = _Born(number, epoch, child)
        for number, given in sorted(self._history.given.items()):
            if given.id in born:
                born[given.id].attempts.append(number)
        return born

    def _check_order(self) -> None:
        """Every attempt is ordered once, after its snapshot, in epochs that never fall."""
        orders = self._history.orders
        if len(self._epochs) != len(orders):
            self.broken.append("an attempt was ordered twice")
        if any(left > right for (_, left), (_, right) in pairwise(orders)):
            self.broken.append("epochs fall within the commit order")
        for number, epoch in orders:
            snapshot = self._history.given[number].snapshot
            if snapshot >= epoch:
                self.broken.append(f"attempt {number} of snapshot {snapshot} committed at {epoch}")

    # --- who may run ----------------------------------------------------------------------------
    def _check_start(self, given: GivenAttempt) -> None:
        """Every attempt has a creator whose commit it sees, and what its creator declared."""
        born = self._born.get(given.id)
        if born is None:
            if given.id != self._history.given[1].id:
                self.broken.append(
                    f"attempt {given.number} is of runner {given.id:#x}, which no commit created"
                )
            return
        if given.snapshot < born.epoch:
            self.broken.append(
                f"attempt {given.number} began on snapshot {given.snapshot}, before its parent's "
                f"commit (attempt {born.creator}, epoch {born.epoch})"
            )
        runner = born.runner
        stack = runner.fact("stack_base"), runner.fact("stack_bytes")
        declared = [*runner.heap, *runner.watched]
        if not runner.fact("stack_automatic"):
            declared.append(stack)
        expected = (runner.fact("entry"), stack, _joined(declared), runner.image)
        if expected != (given.entry, given.stack, given.grants, given.image):
            self.broken.append(
                f"attempt {given.number} was not given what attempt {born.creator} declared"
            )

    def _check_ran_once(self, id_: int, born: _Born) -> None:
        ended = [n for n in born.attempts if n in self._epochs]
        if len(ended) > 1 or (not ended and not self._history.ended_early):
            self.broken.append(
                f"runner {id_:#x} of attempt {born.creator} ended {len(ended)} times, not once"
            )

    def _check_blocks(self) -> None:
        """No byte is in two blocks that commits got from `malloc`."""
        blocks = sorted(
            (start, start + length)
            for number, _ in self._history.orders
            for start, length in self._history.ended[number].mallocs
        )
        self.broken += [
            f"the block at {start:#x} was given out twice"
            for (_, end), (start, _) in pairwise(blocks)
            if start < end
        ]

    def _check_recalled(self) -> None:
        """What came back from a worker before it began has not run there."""
        self.broken += [
            f"attempt {number} came back before it had begun, and ended after all"
            for number in sorted(self._history.recalled & self._history.ended.keys())
        ]

    # --- who runs again -------------------------------------------------------------------------
    def _check_retries(self, id_: int, born: _Born) -> None:
        """Who lost, lost to somebody, sees that commit when it runs again, and wins in the end."""
        #: The last attempt and the losses of each runner that has not won yet.
        losing: dict[int, tuple[int, int]] = {}
        for number in born.attempts:
            given = self._history.given[number]
            lost, losses = losing.pop(given.runner, (0, 0))
            epoch = self._lost_to(lost, born) if lost else None
            if epoch is not None and given.snapshot < epoch:
                self.broken.append(
                    f"attempt {number} began on snapshot {given.snapshot}, before epoch {epoch} "
                    f"which it had lost to as attempt {lost}"
                )
            if number in self._history.given_up | self._history.recalled:
                losing[given.runner] = lost, losses
            elif number in self._history.ended and not self._is_decided(number):
                losing[given.runner] = number, losses + 1
                if self._lost_to(number, born) is None:
                    # A record that comes behind the trap that ends the program is not ordered.
                    if not self._history.ended_early:
                        self.broken.append(f"attempt {number} lost to nobody")
                elif losses == LOSSES_BEFORE_RUNNING_ALONE:
                    self.broken.append(f"runner {id_:#x} lost {losses + 1} times")

    def _is_decided(self, number: int) -> bool:
        """Whether an attempt was the runner's last: it committed, or its trap ended the program."""
        failure, ended = self._history.failure, self._history.ended[number]
        is_fatal = failure is not None and ended.end == End.TRAP and ended.trap_pc == failure.pc
        return number in self._epochs or is_fatal

    def _lost_to(self, number: int, born: _Born) -> int | None:
        """Return the first epoch in which another runner stored what made it lose, if any did."""
        given = self._history.given[number]
        own = [n for n in born.attempts if self._history.given[n].runner == given.runner]
        _, _, epoch, writer = self._stores
        kept = self._loss.spans(self._history.ended[number])
        rival = self._touches(kept) & (epoch > given.snapshot) & ~np.isin(writer, own)
        return int(epoch[rival].min()) if rival.any() else None

    def _touches(self, spans: Iterable[Span]) -> NDArray[np.bool_]:
        """Say of each committed store whether it touches a byte of `spans`."""
        start, end, _, _ = self._stores
        touches = np.zeros(len(start), dtype=bool)
        for first, length in spans:
            touches |= (start < first + length) & (end > first)
        return touches

    # --- watchers -------------------------------------------------------------------------------
    def _committed_stores(self) -> NDArray[np.int64]:
        """Return (4, n): start, end, epoch and attempt of every store that was committed."""
        rows = [
            (start, start + length, epoch, number)
            for number, epoch in self._history.orders
            for start, length, _ in self._history.ended[number].stores
        ]
        return np.array(rows, dtype=np.int64).reshape(-1, 4).T

    def _covering(self, born: _Born) -> list[int]:
        """Return the epochs of stores into watched bytes since the template was armed."""
        _, _, epoch, number = self._stores
        since = self._history.given[born.creator].snapshot
        touches = self._touches(born.runner.watched)
        counts = touches & (epoch > since) & (number != born.creator)
        return [int(e) for e in np.unique(epoch[counts])]

    def _firings(self, born: _Born) -> list[int]:
        """Return the snapshots of the instances, without their retries, in order.

        An attempt that was recalled has taken none: it is as if it had never been sent.
        """
        snapshots = []
        unfinished: set[int] = set()
        for number in born.attempts:
            if number in self._history.recalled:
                continue
            given = self._history.given[number]
            if given.runner not in unfinished:
                snapshots.append(given.snapshot)
            (unfinished.discard if number in self._epochs else unfinished.add)(given.runner)
        return snapshots

    def _check_watcher(self, id_: int, born: _Born) -> None:
        """Every covering commit is held by an instance, and every instance by a covering commit."""
        deletions = [
            self._epochs[number]
            for number in born.attempts
            if number in self._epochs and self._history.ended[number].end in _DELETIONS
        ]
        covering, firings = self._covering(born), self._firings(born)
        name = f"watcher {id_:#x} of attempt {born.creator}"
        if not deletions and not self._history.ended_early:
            last = max(firings, default=0)
            missed = [epoch for epoch in covering if epoch > last]
            if missed:
                self.broken.append(f"{name} slept through commits of the epochs {missed}")
        if deletions and any(snapshot >= min(deletions) for snapshot in firings):
            self.broken.append(f"{name} fired after its deletion in epoch {min(deletions)}")
        armed_at = self._history.given[born.creator].snapshot
        for earlier, later in pairwise([armed_at, *firings]):
            if not any(earlier < epoch <= later for epoch in covering):
                self.broken.append(
                    f"{name} fired on snapshot {later} without a commit since {earlier}"
                )


def _joined(ranges: list[Span]) -> tuple[Span, ...]:
    """Return ranges sorted, those that touch or overlap joined, empty ones dropped."""
    joined: list[Span] = []
    for start, length in sorted(ranges):
        if length == 0:
            continue
        if joined and start <= joined[-1][0] + joined[-1][1]:
            first = joined[-1][0]
            joined[-1] = first, max(sum(joined[-1]), start + length) - first
        else:
            joined.append((start, length))
    return tuple(joined)
