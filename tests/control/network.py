"""Ranks without MPI: transports of one process, whose messages wait in queues between each pair."""

from __future__ import annotations

import time
from collections import deque

from dvm_mpi.control.messages import Message
from dvm_mpi.control.wire import decode, encode


class Network:
    """Transports between some ranks."""

    def __init__(self, rank_count: int) -> None:
        #: Messages under way, by source and target.
        self.queues: dict[tuple[int, int], deque[Message]] = {
            (source, target): deque()
            for source in range(rank_count)
            for target in range(rank_count)
        }
        self.transports = [MemoryTransport(self, rank, rank_count) for rank in range(rank_count)]


class MemoryTransport:
    """What `control.transport.Transport` is to its rank, with all messages kept in memory."""

    def __init__(self, network: Network, rank: int, size: int) -> None:
        self.rank = rank
        self.size = size
        self.comm = None
        self.sends_pending = 0
        self._network = network
        self._outbox: list[tuple[int, Message]] = []

    def send(self, rank: int, message: Message) -> None:
        if rank == self.rank:
            self._network.queues[rank, rank].append(message)
        else:
            self._outbox.append((rank, message))

    def flush(self) -> None:
        for rank, message in self._outbox:
            # Nothing that the sender does to its arrays afterwards may reach the receiver.
            self._network.queues[self.rank, rank].append(decode(encode(message)))
        self._outbox.clear()

    def is_quiet(self) -> bool:
        queues = self._network.queues
        return not (self._outbox or any(queues[rank, self.rank] for rank in range(self.size)))

    def take_own(self) -> list[tuple[int, Message]]:
        queue = self._network.queues[self.rank, self.rank]
        own = [(self.rank, message) for message in queue]
        queue.clear()
        return own

    def receive(self) -> list[tuple[int, Message]]:
        arrived: list[tuple[int, Message]] = []
        for source in range(self.size):
            queue = self._network.queues[source, self.rank]
            arrived += [(source, message) for message in queue]
            queue.clear()
        return arrived

    def wait(self, sleep_s: float) -> bool:
        """Sleep: nobody else runs meanwhile, who could send something."""
        time.sleep(sleep_s)
        return False
