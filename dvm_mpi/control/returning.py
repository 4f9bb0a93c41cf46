"""What a worker gives back when the coordinator recalls a batch (`recalling`)."""

from __future__ import annotations

from collections import deque

import numpy as np

from dvm_mpi.control.messages import BatchReturned, Dispatched


def give_back(worker: int, batches: deque[Dispatched]) -> BatchReturned:
    """Take the batch that would begin last off `batches`, none of which has begun."""
    if not batches:
        return BatchReturned(worker, np.zeros(0, np.int64), np.zeros(0, np.int64))
    batch = batches.pop()
    return BatchReturned(worker, batch.numbers, batch.attempts["runner"].copy())
