"""How many bytes of a message are content: pages that are read, and bytes that are stored.

The rest is control. Arguments and private memory of new runners are control, as is what only a
record of the run wants: a program's shared memory is in neither.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from dvm_mpi.control.messages import Finished, Message
from dvm_mpi.dsm import messages as memory
from dvm_mpi.dsm.ranges import expand


def _stored_of(finished: Finished) -> int:
    """Count the bytes of write sets that travel in a record, and nowhere else."""
    children, runs = finished.children, finished.runs
    stored = finished.data.nbytes
    if len(children):
        images = expand(children["image_first"], children["image_count"])
        stored -= int(runs["length"][images].sum())
    is_staged = finished.records["serial"] > 0
    if is_staged.any():
        outcomes = finished.outcomes[is_staged]
        staged = runs[expand(outcomes["run_first"], outcomes["run_count"])]
        # They are here once more if the run is recorded.
        stored -= int(staged["length"][staged["data_first"] >= 0].sum())
    return stored


#: Bytes read and bytes stored, by kind of message; no other kind has any.
_CONTENT: Final[dict[type[Any], Callable[[Any], tuple[int, int]]]] = {
    memory.LookupAnswered: lambda message: (message.content.nbytes, 0),
    memory.PagesHanded: lambda message: (message.content.nbytes, 0),
    memory.StoresPassed: lambda message: (0, message.data.nbytes),
    memory.Staged: lambda message: (0, message.data.nbytes),
    memory.ApplyRequested: lambda message: (0, message.data.nbytes),
    memory.AppliesRequested: lambda message: (0, message.data.nbytes),
    Finished: lambda message: (0, _stored_of(message)),
}


def payload_of(messages: list[Message]) -> tuple[int, int]:
    """Return how many bytes of messages are content of pages, and how many are stored bytes."""
    served = stored = 0
    for message in messages:
        count = _CONTENT.get(type(message))
        if count is not None:
            more = count(message)
            served += more[0]
            stored += more[1]
    return served, stored
