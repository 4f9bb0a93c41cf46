"""How a worker asks for addresses: for more each time, and with what a limit must know."""

from __future__ import annotations

from dvm_mpi.config import LEASE_BLOCKS_MAX, LEASE_GROWTH
from dvm_mpi.control.messages import OF_THE_WORKER, LeaseRequested
from dvm_mpi.engine.interface import Exit, Lease, LeaseKind
from dvm_mpi.layout import PAGE_SHIFT


class Asking:
    """What one worker has asked for."""

    def __init__(self, worker: int) -> None:
        self._worker = worker
        #: Blocks of each kind to ask for next.
        self._blocks = dict.fromkeys(LeaseKind, 1)
        #: The attempt that asked last, and how many ids were leased for it so far.
        self._number = self._leased_ids = 0

    def request(self, stopped: Exit, number: int, *, is_own: bool) -> LeaseRequested:
        """Return the message for an attempt that needs addresses, its own or the worker's."""
        kind = stopped.lease
        assert kind is not None
        if number != self._number:
            self.resume(number, 0)
        blocks = self._blocks[kind]
        if kind is not LeaseKind.MALLOC:
            self._blocks[kind] = min(blocks * LEASE_GROWTH, LEASE_BLOCKS_MAX)
        return LeaseRequested(
            self._worker,
            int(kind),
            stopped.lease_bytes,
            number if is_own else OF_THE_WORKER,
            blocks,
            self._leased_ids,
            stopped.pc,
        )

    def note(self, lease: Lease) -> None:
        """Take note of what is given to the attempt that asked last."""
        if lease.kind is LeaseKind.ID:
            self._leased_ids += (lease.end - lease.start) >> PAGE_SHIFT

    def leased_ids(self, number: int) -> int:
        """Return how many ids were leased for an attempt, which is set aside now."""
        return self._leased_ids if number == self._number else 0

    def resume(self, number: int, leased_ids: int) -> None:
        """Go on counting for an attempt."""
        self._number, self._leased_ids = number, leased_ids
