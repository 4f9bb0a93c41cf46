"""What MPICH tells Slurm at its start, in lines that Slurm reads whole.

Slurm's plugin `pmi2` takes one `read` of 1,024 bytes for one command of PMI-1, yet allows values of
1,024 bytes, which stand in a line that has a command, a key and a name as well. MPICH cuts what it
tells others into values of that size at most. Each of them comes from 4,096 bytes in hexadecimal,
with zeros in short: its own address and whatever follows that in memory. Where little of this is
zero, as where Python has just compiled its modules, lines grow too long; Slurm misreads them
("mpi/pmi2: value not properly terminated in client request"), one rank fails, the others wait.

So a child process stands between the two while MPI starts, and allows shorter values. Afterwards
MPICH speaks to Slurm itself.
"""

from __future__ import annotations

import os
import re
import select
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from dvm_mpi.launch.environment import Launch, Launcher

#: Bytes of one command that Slurm reads (`MAX_READLINE` of its `mpi/pmi2/pmi1.c`).
LINE_BYTES: Final = 1024
#: The rest of a line that puts a value: command, name of the job and step, key, line feed.
_REST_BYTES: Final = 128
#: What is allowed instead. MPICH halves it: even, so that nothing is lost by that.
VALUE_BYTES: Final = LINE_BYTES - _REST_BYTES

_CHUNK: Final = 1 << 16
_MAXES: Final = re.compile(rb"(?<=\bvallen_max=)\d+")
_IGNORED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@contextmanager
def short_values(launch: Launch, environ: Mapping[str, str]) -> Iterator[None]:
    """Start MPI in here: MPICH's values are short where Slurm would not read long ones.

    Nothing happens under any other launcher, or where Slurm's descriptor is not to be found.
    """
    slurm = _descriptor(launch, environ)
    if slurm is None:
        yield
        return
    import socket

    ours, relayed = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            ours.close()
            _relay(relayed.fileno(), slurm)
        finally:
            os._exit(0)
    relayed.close()
    kept = os.dup(slurm)
    os.dup2(ours.fileno(), slurm)
    ours.close()
    try:
        yield
    finally:
        # Nobody holds the child's other end any more, so it ends.
        os.dup2(kept, slurm)
        os.close(kept)
        os.waitpid(child, 0)


def shorten(answer: bytes) -> bytes:
    """Return what Slurm says, with a smaller limit of values if it tells limits."""
    if not answer.startswith(b"cmd=maxes "):
        return answer
    return _MAXES.sub(lambda limit: b"%d" % min(int(limit[0]), VALUE_BYTES), answer)


def _descriptor(launch: Launch, environ: Mapping[str, str]) -> int | None:
    """Return where MPICH speaks to Slurm; None if it does not."""
    if launch.launcher is not Launcher.SLURM_PMI2:
        return None
    try:
        descriptor = int(environ["PMI_FD"])
        os.fstat(descriptor)
    except (KeyError, ValueError, OSError):
        return None
    return descriptor


def _relay(rank: int, slurm: int) -> None:
    """Hand on what each says, a command at a time, until one of them has closed its end."""
    for name in _IGNORED:
        # They are for the rank, whose end is the end of this.
        signal.signal(name, signal.SIG_IGN)
    poll = select.poll()
    poll.register(rank, select.POLLIN)
    poll.register(slurm, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            said = os.read(descriptor, _CHUNK)
            if not said:
                return
            if descriptor == rank:
                _write(slurm, said)
            else:
                _write(rank, shorten(said))


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
