"""Signals in processes of their own; what only notes is tried by calling it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dvm_mpi.config import SIGNAL_ECHO_S
from dvm_mpi.launch.signals import Signals
from tests.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
#: What asks a run to end.
ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1]

PREAMBLE = """
import os, signal, sys, threading, time
from dvm_mpi.launch.signals import Signals, leave_now
"""
#: Notes one signal and goes on until a second one ends it; a line of input ends the time of echoes.
STUBBORN = """
now = 0.0
with Signals(clock=lambda: now) as signals:
    print("ready", flush=True)
    while not signals.ending:
        time.sleep(0.001)
    print("noted", signal.Signals(signals.ending).name, flush=True)
    sys.stdin.readline()
    now = 1e9
    print("goes on", flush=True)
    time.sleep(10_000)
"""
#: Says every dump that is asked for.
DUMPING = """
def innermost():
    print("ready", flush=True)
    while not signals.take_dump_request():
        time.sleep(0.001)
    print("asked", signals.take_dump_request(), flush=True)

with Signals() as signals:
    innermost()
    innermost()
print("end", flush=True)
"""
#: A call into C that never returns and is not interrupted, so that no handler of Python runs.
IN_C = """
import ctypes
def wait_in_c():
    lock, mutex = ctypes.PyDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
    lock(mutex)
    print("ready", flush=True)
    lock(mutex)

with Signals() as signals:
    wait_in_c()
"""


@contextmanager
def started(code: str, *wrapper: str) -> Iterator[subprocess.Popen[str]]:
    """Run code in a process of its own, which is over when the block is left."""
    # Unbuffered output would need no flushing.
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [*wrapper, sys.executable, "-c", PREAMBLE + code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert said(process) == "ready"
        yield process
    finally:
        process.kill()
        process.communicate()


def said(process: subprocess.Popen[str]) -> str:
    """Return the next line, and take no byte more: `communicate` does not look into buffers."""
    assert process.stdout is not None
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(process.stdout.fileno(), 1)):
        line += byte
    return line.decode().rstrip("\n")


@pytest.mark.parametrize("number", ENDING)
def test_second_signal_ends_the_process_at_once_but_an_echo_does_not(
    number: signal.Signals,
) -> None:
    """Ctrl-C reaches a rank from the terminal and from the launcher: that is one signal."""
    with started(STUBBORN) as process:
        process.send_signal(number)
        assert said(process) == f"noted {number.name}"
        process.send_signal(number)
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        assert said(process) == "goes on"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", ENDING)
def test_signal_ends_a_call_that_does_not_return_where_none_is_noted(
    number: signal.Signals,
) -> None:
    """A rank waits within MPI_Init, which hears of no signal, for one that was killed."""
    with started(
        IN_C.replace("    wait_in_c()", "    with signals.suspended(): wait_in_c()")
    ) as process:
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == -number


def test_signals_are_noted_again_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Signals() as signals:
        with signals.suspended():
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.ending == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before


def test_hangup_stays_ignored_under_nohup() -> None:
    with started(STUBBORN, "nohup") as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert said(process) == "noted SIGINT"


def test_echo_is_what_comes_soon() -> None:
    now = 10.0
    left: list[int] = []
    signals = Signals(clock=lambda: now, leave=left.append)
    signals._note_ending(signal.SIGINT, None)
    now += SIGNAL_ECHO_S
    signals._note_ending(signal.SIGTERM, None)
    assert (signals.ending, left) == (signal.SIGINT, [])
    now += 0.01
    signals._note_ending(signal.SIGTERM, None)
    assert left == [143]


def test_handlers_are_put_back() -> None:
    numbers = (*ENDING, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    with Signals():
        assert [signal.getsignal(number) for number in numbers] != before
    assert [signal.getsignal(number) for number in numbers] == before


def test_dump_shows_where_the_process_is_and_it_goes_on() -> None:
    with started(DUMPING) as process:
        process.send_signal(signal.SIGUSR2)
        assert said(process) == "asked False"
        assert said(process) == "ready"
        process.send_signal(signal.SIGUSR2)
        assert said(process) == "asked False"
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out) == (0, "end\n")
        assert err.count("in innermost") == 2


def test_dump_comes_out_of_a_call_that_does_not_return() -> None:
    with started(IN_C) as process:
        began = time.monotonic()
        process.send_signal(signal.SIGUSR2)
        assert process.stderr is not None
        while "in wait_in_c" not in process.stderr.readline():
            assert time.monotonic() - began < PATIENCE_S
        assert process.poll() is None


def test_dead_parent_is_noticed() -> None:
    """The launcher's place is taken by another process, which waits for nobody."""
    code = """
child = os.fork()
if child:
    time.sleep(60)
signals = Signals()
print("ready", flush=True)
print(signals.parent_died(), flush=True)
while not signals.parent_died():
    time.sleep(0.001)
print("orphan", flush=True)
os._exit(0)
"""
    with started(code) as process:
        assert said(process) == "False"
        process.kill()
        assert said(process) == "orphan"


def test_parent_is_known_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container the launcher may be process 1, and orphans may go to another one."""
    for parent, heir in ((1, 0), (500, 700), (500, 1)):
        monkeypatch.setattr(os, "getppid", lambda parent=parent: parent)
        signals = Signals()
        assert not signals.parent_died()
        monkeypatch.setattr(os, "getppid", lambda heir=heir: heir)
        assert signals.parent_died()


def test_hard_exit_prints_what_was_said_and_waits_for_nobody() -> None:
    """A thread that never ends would hold up an ordinary exit."""
    code = """
print("ready", flush=True)
threading.Thread(target=time.sleep, args=(60,)).start()
print("said", end="")
try:
    leave_now(7)
finally:
    print("not said")
"""
    with started(code) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out, err) == (7, "said", "")


def test_hard_exit_does_not_mind_a_write_that_it_interrupts() -> None:
    code = """
class Interrupted:
    def flush(self):
        raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")

print("ready", flush=True)
sys.stdout = Interrupted()
leave_now(9)
"""
    with started(code) as process:
        assert process.wait(PATIENCE_S) == 9


def test_hard_exit_does_not_mind_closed_streams() -> None:
    code = 'print("ready", flush=True); sys.stdout.close(); sys.stderr = None; leave_now(9)'
    with started(code) as process:
        assert process.wait(PATIENCE_S) == 9
