"""What the time of a rank is counted by: steps, and amounts of what each of them does.

A real rank that is measured and a simulated one that is priced count the same things with the
functions of this file. Times are fitted to the amounts of the one, and charged for those of the
other.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final

import numpy as np

from dvm_mpi.control.coordinator_state import Counters
from dvm_mpi.control.messages import BatchesDealt, Dispatched, Finished
from dvm_mpi.control.wire import MESSAGES
from dvm_mpi.dsm import messages as memory
from dvm_mpi.layout import PAGE_SHIFT, WORD_BYTES

#: Amounts of one step, in the order of `STEPS`.
Amounts = tuple[float, ...]

# fmt: off
#: Every step of a turn, with what it is counted by. The first is how often.
STEPS: Final[dict[str, tuple[str, ...]]] = {
    # A turn in which something was done: all of it that is in no other step.
    "turn": ("turns", "messages"),
    # A turn in which there was nothing to do.
    "idle": ("turns",),
    # From MPI to messages, and back; buffers are those of other ranks.
    "receive": ("calls", "buffers", "messages", "bytes"),
    "send": ("calls", "buffers", "messages", "bytes"),
    # The coordinator, where an event had consequences, and where it had none.
    # `relayed` are those of its messages that leaders hand on as they are; `shares` the batches in
    # messages for several workers.
    "decide": (
        "events", "records", "runners", "attempts", "epochs", "messages", "relayed", "shares",
    ),
    "hear": ("events",),
    # A leader: what it takes, and what it hands on.
    "lead": ("takes", "leaves", "messages"),
    # A home.
    "look_up": ("messages", "pages", "bytes"),
    "apply": ("messages", "runs", "pages"),
    "serve": ("messages", "bytes"),
    # A worker; `execute` has what a slice takes beside its instructions.
    "begin": ("messages", "batches", "attempts", "lookups", "pages"),
    "install": ("messages", "pages", "bytes"),
    "poll": ("calls", "reads", "bytes"),
    "execute": ("slices", "attempts", "children", "lookups", "pages"),
}
# fmt: on


#: Fields of every message.
_NAMES: Final = {kind: tuple(field.name for field in fields(kind)) for kind in MESSAGES}


def of_coordinator(
    before: Amounts, after: Amounts, messages: int, relayed: int, shares: int
) -> tuple[str, Amounts]:
    """Return the step of one event, from `told` before and after it and the messages sent.

    `relayed`: how many of these leaders hand on as they are; `shares`: as of `shares_of`, of all.
    """
    changed = tuple(b - a for a, b in zip(before, after, strict=True))
    if not messages and not any(changed):
        return "hear", (1,)
    return "decide", (1, *changed, messages, relayed, shares)


def shares_of(message: Any) -> int:
    """Return how many batches a message has for several workers."""
    return len(message.batches) if isinstance(message, BatchesDealt) else 0


def told(counters: Counters) -> Amounts:
    """Return what `of_coordinator` compares: records, runners, attempts, epochs."""
    c = counters
    records = c.commits + c.aborts + c.retries + c.fenced
    return records, c.runners, c.attempts, c.epochs


def of_home(message: Any, replies: Any) -> tuple[str, Amounts]:
    """Return the step of a home that handled a message; `replies` as of `Home.handle`."""
    if isinstance(message, memory.LookupRequested):
        return "look_up", (1, message.pages.size, replies[0][1].content.nbytes)
    if isinstance(message, memory.ApplyRequested):
        return "apply", (1, len(message.runs), pages_of(message.runs))
    data = message.data.nbytes if isinstance(message, memory.Staged) else 0
    return "serve", (1, data)


def pages_of(runs: Any) -> int:
    """Return how many pages runs touch; one that several of them touch counts once."""
    if len(runs) == 0:
        return 0
    order = np.argsort(runs["start"], kind="stable")
    starts, lengths = runs["start"][order], runs["length"][order]
    first = starts >> PAGE_SHIFT
    reached = np.maximum.accumulate((starts + lengths - 1 >> PAGE_SHIFT) + 1)
    # Of each only what those before it have not reached.
    fresh_from = np.maximum(first, np.concatenate([first[:1], reached[:-1]]))
    return int(np.maximum(reached - fresh_from, 0).sum())


def of_worker(message: Any, sent: Any) -> tuple[str, Amounts]:
    """Return the step of a worker that handled a message; `sent` as of `Worker.handle`."""
    if isinstance(message, memory.LookupAnswered):
        return "install", (1, message.pages.size, message.content.nbytes)
    batches, attempts = 0, 0
    if isinstance(message, Dispatched):
        batches, attempts = 1, len(message.attempts)
    return "begin", (1, batches, attempts, *_wanted(sent))


def of_poll(bytes_installed: int) -> tuple[str, Amounts]:
    """Return the step of a worker that looked for pages beside the messages."""
    return "poll", (1, 1 if bytes_installed else 0, bytes_installed)


def of_slice(sent: Any) -> tuple[str, Amounts]:
    """Return the step of a slice; `sent` as of `Worker.run_slice`."""
    attempts = children = 0
    for _, message in sent:
        if isinstance(message, Finished):
            attempts += len(message.records)
            children += len(message.children)
    return "execute", (1, attempts, children, *_wanted(sent))


def _wanted(sent: Any) -> tuple[int, int]:
    """Return how many lookups are asked for, and the pages in them."""
    asked = [m.pages.size for _, m in sent if isinstance(m, memory.LookupRequested)]
    return len(asked), sum(asked)


def wire_bytes(message: Any) -> int:
    """Return about how many bytes a message has on the wire: its arrays, and a word a field."""
    names = _NAMES[type(message)]
    size = WORD_BYTES * (2 + len(names))
    for name in names:
        value = getattr(message, name)
        if isinstance(value, np.ndarray):
            size += value.nbytes
    return size
