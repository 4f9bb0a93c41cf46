"""In which order the parts of a one-process machine take their turns.

Messages between one pair of parts keep their order, as MPI keeps it; everything else is free.
`InOrder` takes what was posted first; `Shuffled` draws from a seed, to find what an order hides.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from dvm_mpi.control.messages import Message

#: A part of the machine: ("coordinator" | "worker" | "home", number).
Part = tuple[str, int]

#: A message and the part of the machine that gets it.
Sent = tuple[Part, Message]

COORDINATOR: Final[Part] = ("coordinator", 0)


class Delivery(Protocol):
    """Holds messages under way and says what happens next."""

    def post(self, source: Part, target: Part, message: Message) -> None:
        """Take a message for delivery."""

    def next(self, runnable: list[int]) -> tuple[Part, Message] | int | None:
        """Return a message to deliver, a worker that runs a slice, or None if neither is there."""

    @property
    def slice_fuel(self) -> int | None:
        """Fuel of the next slice; None for the usual one."""

    @property
    def may_lengthen(self) -> bool:
        """Whether a slice may be longer where that changes the order of nothing."""


class InOrder:
    """All messages first, oldest first; then the workers in turn.

    `slice_fuel`: of every slice; the usual fuel if it is None.
    """

    def __init__(self, slice_fuel: int | None = None) -> None:
        self._slice_fuel = slice_fuel
        self._messages: deque[tuple[Part, Message]] = deque()
        self._turn = 0

    def post(self, source: Part, target: Part, message: Message) -> None:
        """Append to the one queue."""
        del source
        self._messages.append((target, message))

    def next(self, runnable: list[int]) -> tuple[Part, Message] | int | None:
        """Return the oldest message, else the next worker after the last one that ran."""
        if self._messages:
            return self._messages.popleft()
        if not runnable:
            return None
        worker = next((w for w in runnable if w >= self._turn), runnable[0])
        self._turn = worker + 1
        return worker

    @property
    def slice_fuel(self) -> int | None:
        """The same for all."""
        return self._slice_fuel

    @property
    def may_lengthen(self) -> bool:
        """Whether lengths are not the usual ones, and no message is under way."""
        return self._slice_fuel is not None and not self._messages


class Shuffled:
    """Any message that is first between its pair, or any worker's slice, drawn from a seed."""

    def __init__(self, seed: int, fuel_max: int) -> None:
        # Workers need the names of this module only.
        import random  # noqa: PLC0415

        self._random = random.Random(seed)
        self._channels: dict[tuple[Part, Part], deque[Message]] = {}
        self._fuel_max = fuel_max

    def post(self, source: Part, target: Part, message: Message) -> None:
        """Append to the pair's own queue."""
        self._channels.setdefault((source, target), deque()).append(message)

    def next(self, runnable: list[int]) -> tuple[Part, Message] | int | None:
        """Draw among the non-empty pairs and the runnable workers."""
        pairs = list(self._channels)
        if not pairs and not runnable:
            return None
        drawn = self._random.randrange(len(pairs) + len(runnable))
        if drawn >= len(pairs):
            return runnable[drawn - len(pairs)]
        pair = pairs[drawn]
        channel = self._channels[pair]
        message = channel.popleft()
        if not channel:
            del self._channels[pair]
        return pair[1], message

    @property
    def slice_fuel(self) -> int | None:
        """Draw short and long slices alike."""
        return int(self._fuel_max ** self._random.random()) + 1

    @property
    def may_lengthen(self) -> bool:
        """Never: lengths are drawn."""
        return False
