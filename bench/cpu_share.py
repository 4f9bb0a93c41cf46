"""Whether `--cpu-share` holds, beside a competing process and without one: `make cpu-share`.

Every rank of `programs/spin.dasm` computes without end. Rank i is bound to core i, and so is a
process that does nothing but count, if there is to be a competitor. What a rank used in ten seconds
is taken from `/proc`: the processor time of all its threads, in ticks of 10 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from bench.launch import ROOT, launcher

OUTPUT: Final = Path("build/bench/cpu-share.json")
PROGRAM: Final = "bench/programs/spin.dasm"
#: How far what is used may be from the share, as a part of the share.
TOLERANCE: Final = 0.05
#: How long a run is left alone first: the rest of its start is not to be measured.
SETTLE_S: Final = 2.0
_COMPETITOR: Final = "while True: pass"
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")


@contextmanager
def _running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a process with all that it starts; nothing of it is left afterwards."""
    # A group of its own, but no session: where the system shares cores between sessions first, all
    # competitors are to weigh together what all ranks do.
    process = subprocess.Popen(
        command, cwd=ROOT, text=True, stdin=subprocess.DEVNULL, process_group=0, **options
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def descendants(pid: int) -> list[int]:
    """Return a process and all that it started, parents first."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *(below for child in children for below in descendants(int(child)))]


def ranks_of(pid: int) -> list[int]:
    """Return those of a launcher's processes that run DVM, or its own if there is no launcher."""
    found = []
    for process in descendants(pid):
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        if words[1:3] == [b"-m", b"dvm_mpi"]:
            found.append(process)
    return found


def _used_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def measure(ranks: int, share: float, has_competitor: bool, seconds: float) -> dict[str, Any]:
    """Run one combination; `used` has what each rank used of its core."""
    cores = sorted(os.sched_getaffinity(0))
    if ranks > len(cores):
        sys.exit(f"bench: {ranks} ranks want a core each, and there are {len(cores)}")
    starter = [launcher(), "-n", str(ranks)] if ranks > 1 else []
    words = ["-m", "dvm_mpi", PROGRAM, "--quiet", "--memory", "64M", "--cpu-share", str(share)]
    with ExitStack() as stack:
        run = stack.enter_context(
            _running(
                [*starter, sys.executable, *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        )
        assert run.stdout is not None
        if run.stdout.readline() != "spinning\n":
            sys.exit("bench: the run did not begin")
        found = ranks_of(run.pid)
        assert len(found) == ranks, f"{len(found)} processes run DVM"
        for rank, core in zip(found, cores, strict=False):
            for thread in Path(f"/proc/{rank}/task").iterdir():
                os.sched_setaffinity(int(thread.name), {core})
            if has_competitor:
                other = stack.enter_context(_running([sys.executable, "-c", _COMPETITOR]))
                os.sched_setaffinity(other.pid, {core})
        time.sleep(SETTLE_S)
        began, before = time.perf_counter(), [_used_s(rank) for rank in found]
        time.sleep(seconds)
        after, passed = [_used_s(rank) for rank in found], time.perf_counter() - began
    used = [(b - a) / passed for a, b in zip(before, after, strict=True)]
    return {"ranks": ranks, "share": share, "has_competitor": has_competitor, "used": used}


def main() -> int:
    """Run as a command; the status tells whether the share was held by every rank."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5])
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, as it begins")
    print("| ranks | competitor on each core | share | used by each rank | |")
    print("|---|---|---|---|---|")
    rows = []
    for share in options.shares:
        for ranks in options.ranks:
            for has_competitor in (False, True):
                row = measure(ranks, share, has_competitor, options.seconds)
                is_held = all(abs(used - share) <= TOLERANCE * share for used in row["used"])
                rows.append(row | {"is_held": is_held})
                used = ", ".join(f"{used:.3f}" for used in row["used"])
                told = "" if is_held else "not within 5 %"
                other = "yes" if has_competitor else "no"
                print(f"| {ranks} | {other} | {share} | {used} | {told} |", flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return int(not all(row["is_held"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
