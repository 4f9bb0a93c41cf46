"""Messages between ranks over MPI: nothing blocks, nothing is pickled, order is kept per pair.

Messages for one rank are collected and leave together, as one buffer: its pieces are a length and
a message each. Whoever waits gives its time away in short sleeps, since on a full machine the
rank that it waits for may need the core.
Invariant: what one rank sent to another is received in the order in which it was sent.

This is the only module beside `dsm.window` that imports mpi4py. Importing it loads the MPI library
and does not start it: `start` does.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import mpi4py
import numpy as np
from numpy.typing import NDArray

mpi4py.rc.initialize = False
mpi4py.rc.finalize = False
# A rank has one thread; a library that need not lock is faster.
mpi4py.rc.thread_level = "single"

from mpi4py import MPI  # noqa: E402

from dvm_mpi import config  # noqa: E402
from dvm_mpi.control.bells import Bells  # noqa: E402
from dvm_mpi.control.messages import Message  # noqa: E402
from dvm_mpi.control.payload import payload_of  # noqa: E402
from dvm_mpi.control.wire import CodecError, decode, encode  # noqa: E402
from dvm_mpi.dsm.traffic import Ledger  # noqa: E402

#: The tags of messages, and of rows that are gathered; the probe of the windows has another.
_TAG: Final = 1
_GATHER_TAG: Final = 3
_WORD: Final = np.dtype("<i8")

Bytes = NDArray[np.uint8]

_ALL_TO_COME: Final = "all ranks to come to the end"


class Nap:
    """Sleeps that grow while nothing happens, so that idle ranks leave the cores to others.

    Parameters
    ----------
    wait
        Sleeps for so many seconds, or until there is a reason to wake; None: just sleeps.
    """

    def __init__(self, wait: Callable[[float], object] | None = None) -> None:
        self._wait = wait
        self._next_s = config.NAP_S_MIN

    def sleep(self) -> None:
        """Sleep, twice as long as the last time."""
        (self._wait or time.sleep)(self._next_s)
        self._next_s = min(2 * self._next_s, config.NAP_S_MAX)

    def end(self) -> None:
        """Begin with the shortest again: something has happened."""
        self._next_s = config.NAP_S_MIN


def library() -> tuple[str, str, str]:
    """Return the MPI library's name, all that it says of its version, and what loads it.

    MPI is not started for that.
    """
    return MPI.get_vendor()[0], MPI.Get_library_version(), MPI.__file__


def start() -> Transport:
    """Start MPI, once in a process, and return the transport between all its ranks.

    The addresses of an engine's view must have been reserved: Open MPI would put data there.
    """
    if not MPI.Is_initialized():
        # PMIx maps its tables in the middle of the launcher's largest hole of addresses, and fails
        # where a rank has no hole there, as around the view. With `hash` it copies them.
        os.environ.setdefault("PMIX_MCA_gds", "hash")
        MPI.Init_thread(MPI.THREAD_SINGLE)
    return Transport(MPI.COMM_WORLD)


def is_started() -> bool:
    """Tell whether MPI runs in this process."""
    return bool(MPI.Is_initialized()) and not MPI.Is_finalized()


def finish() -> None:
    """End MPI; every rank must come here, and no window may be left.

    Without its launcher MPI cannot end in order; there is nothing to be done then.
    """
    if is_started():
        with suppress(MPI.Exception):
            MPI.Finalize()


def abort(exit_code: int) -> None:
    """End every rank of the job at once; does not return while MPI runs."""
    if is_started():
        MPI.COMM_WORLD.Abort(exit_code)


class Transport:
    """The ranks of one communicator.

    Parameters
    ----------
    comm
        An intracommunicator; it is duplicated, so that nobody else's messages are met.
    """

    def __init__(self, comm: MPI.Intracomm) -> None:
        self.comm = comm.Dup()
        self.rank: int = self.comm.Get_rank()
        self.size: int = self.comm.Get_size()
        #: What this rank moves; windows of the same rank count here as well.
        self.traffic = Ledger(self.size)
        #: Of the ranks of this host; None: nobody is woken, and all sleep as long as they meant to.
        self._bells: Bells | None = None
        #: Messages not sent yet, by rank.
        self._outbox: dict[int, list[Message]] = {}
        #: Messages from this rank to itself.
        self._to_self: list[Message] = []
        #: Sends under way, and their buffers, which MPI reads until they are done.
        self._sends: list[MPI.Request] = []
        self._sent_buffers: list[Bytes] = []
        #: Buffers that are arriving, in order of arrival: source, request, buffer.
        self._arriving: deque[tuple[int, Any, Bytes]] = deque()
        self._status = MPI.Status()
        #: Buffers sent to each rank, and buffers that have arrived whole, ever.
        self._sent_counts = np.zeros(self.size, np.int64)
        self._arrived_count = 0
        #: Bytes of all buffers that have arrived, ever; what was sent is in `traffic`.
        self.received_bytes = 0
        #: What a call that all ranks make together waits for; empty outside of such calls. And the
        #: ranks that have not come to it yet, on rank 0, where that is known.
        self.waits_for = ""
        self.missing: list[int] = []

    # --- sleep ----------------------------------------------------------------------------------
    def hang_bells(self, job: str, hosts: Sequence[int]) -> None:
        """Let messages wake ranks of the same host, where the system allows it.

        Every rank does so before the first message. `job` is unique among the runs of a host;
        `hosts` says by rank which one it is on.
        """
        own = hosts[self.rank]
        neighbours = [rank for rank, host in enumerate(hosts) if host == own and rank != self.rank]
        if neighbours:
            with suppress(OSError):
                self._bells = Bells(job, self.rank, neighbours)

    def wait(self, sleep_s: float) -> bool:
        """Sleep for so long at most; return whether a message from a rank of this host ended it."""
        if self._bells is not None:
            return self._bells.wait(sleep_s)
        time.sleep(sleep_s)
        return False

    # --- messages -------------------------------------------------------------------------------
    def send(self, rank: int, message: Message) -> None:
        """Queue a message; it leaves with the next `flush`. Its arrays must not change any more."""
        if rank == self.rank:
            self.traffic.handed_over(rank, *payload_of([message]))
            self._to_self.append(message)
        else:
            self._outbox.setdefault(rank, []).append(message)

    def flush(self) -> None:
        """Start to send what has been queued, one buffer for each rank."""
        for rank, messages in self._outbox.items():
            buffer = pack(messages)
            self.traffic.sent(rank, buffer.size, len(messages), *payload_of(messages))
            self._sends.append(self.comm.Isend([buffer, MPI.BYTE], rank, _TAG))
            self._sent_buffers.append(buffer)
            self._sent_counts[rank] += 1
            if self._bells is not None:
                self._bells.ring(rank)
        self._outbox.clear()

    @property
    def sends_pending(self) -> int:
        """Buffers that MPI has not finished with: a measure of how far others lag behind."""
        return len(self._sends)

    def receive(self) -> list[tuple[int, Message]]:
        """Return every message that has arrived whole, with its source; never waits.

        Raises
        ------
        CodecError
            A buffer is none that a peer of this version sends.
        """
        arrived = self.take_own()
        self._probe()
        # Of each source only what nothing earlier of the same source is still missing before.
        late: set[int] = set()
        for _ in range(len(self._arriving)):
            source, request, buffer = self._arriving.popleft()
            if source in late or not request.Test():
                late.add(source)
                self._arriving.append((source, request, buffer))
            else:
                self._arrived_count += 1
                self.received_bytes += buffer.size
                arrived += [(source, message) for message in unpack(buffer)]
        self._forget_sent()
        return arrived

    def is_quiet(self) -> bool:
        """Whether nothing is here, on its way in or waits to leave; a look that takes nothing."""
        if self._arriving or self._outbox or self._to_self or self._sends:
            return False
        # Twice, as in `_next_arrived`.
        is_here = self.comm.Iprobe(MPI.ANY_SOURCE, _TAG) or self.comm.Iprobe(MPI.ANY_SOURCE, _TAG)
        return not is_here

    def take_own(self) -> list[tuple[int, Message]]:
        """Return what this rank has sent to itself since the last time, as `receive` does."""
        own = [(self.rank, message) for message in self._to_self]
        self._to_self.clear()
        return own

    def _probe(self) -> None:
        """Start to receive what is announced: large buffers come only while their sender helps."""
        for _ in range(config.RECEIVES_AT_ONCE):
            message = self._next_arrived()
            if message is None:
                return
            source = self._status.Get_source()
            buffer = np.empty(self._status.Get_count(MPI.BYTE), dtype=np.uint8)
            self._arriving.append((source, message.Irecv([buffer, MPI.BYTE]), buffer))

    def _next_arrived(self) -> Any:
        """Return the next message that is here, None if there is none."""
        message = self.comm.Improbe(MPI.ANY_SOURCE, _TAG, self._status)
        if message is None:
            # MPICH and Open MPI look at what they hold, and only then fetch what has come: what
            # this call would find, the first one would leave for the next turn.
            message = self.comm.Improbe(MPI.ANY_SOURCE, _TAG, self._status)
        return message

    def _forget_sent(self) -> None:
        if self._sends:
            done = set(MPI.Request.Testsome(self._sends) or ())
            if done:
                kept = [row for row in range(len(self._sends)) if row not in done]
                self._sends = [self._sends[row] for row in kept]
                self._sent_buffers = [self._sent_buffers[row] for row in kept]

    # --- all ranks together ---------------------------------------------------------------------
    def gather(self, row: Bytes, what: str, turn: Callable[[], None]) -> Bytes | None:
        """Return every rank's row as (size, len(row)) on rank 0, None elsewhere.

        *Collective.* Rows have one length.

        Parameters
        ----------
        what
            Every rank is waited for to do, for `waits_for`: "start".
        turn
            Called while others are waited for.
        """
        if self.rank:
            self.waits_for = "rank 0 to take what this rank says"
            self._wait([self.comm.Isend([row, MPI.BYTE], 0, _GATHER_TAG)], turn)
            return None
        rows = np.empty((self.size, row.size), np.uint8)
        rows[0] = row
        missing = self._await_rows(rows)
        nap = Nap()
        while missing := _not_done(missing):
            self.missing = list(missing)
            self.waits_for = f"{named_ranks(self.missing)} to {what}"
            turn()
            nap.sleep()
        self._waited()
        return rows

    def _await_rows(self, rows: Bytes) -> dict[int, Any]:
        """Begin to take every other rank's row into its place; on rank 0."""
        return {
            rank: self.comm.Irecv([rows[rank], MPI.BYTE], rank, _GATHER_TAG)
            for rank in range(1, self.size)
        }

    def _waited(self) -> None:
        self.waits_for, self.missing = "", []

    def add_up(self, row: NDArray[np.int64], turn: Callable[[], None]) -> NDArray[np.int64]:
        """Return the sum of every rank's row on rank 0, something else elsewhere.

        *Collective.* Rows have one length; `turn` as for `gather`.
        """
        self.waits_for = "all ranks to add up what they have counted"
        total = np.zeros_like(row)
        request = self.comm.Ireduce([row, MPI.INT64_T], [total, MPI.INT64_T], op=MPI.SUM, root=0)
        self._wait([request], turn)
        return total

    def broadcast(self, data: Bytes | None, what: str, turn: Callable[[], None]) -> Bytes:
        """Return rank 0's `data` on every rank; the others give None.

        *Collective.* Rank 0 is waited for to do `what`; `turn` as for `gather`.
        """
        self.waits_for = f"rank 0 to {what}" if self.rank else "ranks to take what rank 0 says"
        length = np.array([0 if data is None else data.size], _WORD)
        self._wait([self.comm.Ibcast([length, MPI.INT64_T], root=0)], turn)
        buffer = np.empty(int(length[0]), np.uint8) if data is None else data
        self._wait([self.comm.Ibcast([buffer, MPI.BYTE], root=0)], turn)
        return buffer

    def _wait(self, requests: list[Any], turn: Callable[[], None]) -> None:
        nap = Nap()
        while not all(request.Test() for request in requests):
            turn()
            nap.sleep()
        self._waited()

    # --- end ------------------------------------------------------------------------------------
    def drain(
        self, turn: Callable[[], None], take: Callable[[Message], None] = lambda message: None
    ) -> None:
        """Let everything that was sent arrive, give what comes in to `take`, and wait for all.

        *Collective.* After it no message of this transport is under way. What `take` sends is lost.
        Every rank learns how many buffers were sent to it: a barrier would not do, since it may
        come by another way, and sooner, than what was sent before it. And each tells rank 0 that
        it is here, so that it is known who is missing.
        """
        self.flush()
        here = np.zeros((self.size, 1), np.uint8)
        if self.rank:
            missing = {0: self.comm.Isend([here[0], MPI.BYTE], 0, _GATHER_TAG)}
        else:
            missing = self._await_rows(here)
        expected = np.zeros(1, np.int64)
        told = self.comm.Ireduce_scatter_block(
            [self._sent_counts, MPI.INT64_T], [expected, MPI.INT64_T], op=MPI.SUM
        )
        nap = Nap()
        while True:
            is_told = told.Test()
            missing = _not_done(missing)
            self._take_all(take)
            is_all_here = self._arrived_count == expected[0] and not self._sends
            if is_told and is_all_here and not missing:
                break
            self.missing = [] if self.rank else list(missing)
            if self.missing:
                self.waits_for = f"{named_ranks(self.missing)} to come to the end"
            else:
                self.waits_for = "the rest of what was sent" if is_told else _ALL_TO_COME
            turn()
            nap.sleep()
        self._waited()

    def _take_all(self, take: Callable[[Message], None]) -> None:
        for _, message in self.receive():
            take(message)

    def close(self) -> None:
        """Give the communicator back. *Collective*, after `drain` and when no window is left."""
        if self._bells is not None:
            self._bells.close()
        self.comm.Free()


def _not_done(requests: dict[int, Any]) -> dict[int, Any]:
    """Return the requests that are still under way."""
    return {rank: request for rank, request in requests.items() if not request.Test()}


def named_ranks(ranks: list[int]) -> str:
    """Return `rank 3`, or `ranks 3, 7 and 12 more`."""
    shown = ", ".join(map(str, ranks[: config.RANKS_SHOWN_MAX]))
    hidden = len(ranks) - config.RANKS_SHOWN_MAX
    more = f" and {hidden:,} more" if hidden > 0 else ""
    return f"rank{'s' if len(ranks) > 1 else ''} {shown}{more}"


def pack(messages: list[Message]) -> Bytes:
    """Lay messages out as one buffer: for each its length in bytes, then its encoding."""
    parts: list[Bytes] = []
    for message in messages:
        encoded = encode(message)
        parts += [np.array([encoded.size], _WORD).view(np.uint8), encoded]
    return np.concatenate(parts)


def unpack(buffer: Bytes) -> list[Message]:
    """Undo `pack`; arrays of the messages are views of `buffer`.

    Raises
    ------
    CodecError
        The buffer is none that `pack` makes.
    """
    messages: list[Message] = []
    position = 0
    while position < buffer.size:
        if buffer.size - position < _WORD.itemsize:
            raise CodecError("a buffer of messages ends within a length")
        length = int(buffer[position : position + _WORD.itemsize].view(_WORD)[0])
        position += _WORD.itemsize
        if not 0 < length <= buffer.size - position:
            raise CodecError(f"a message of {length} bytes does not fit into its buffer")
        messages.append(decode(buffer[position : position + length]))
        position += length
    return messages
