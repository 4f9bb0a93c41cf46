"""What rank 0 does with a storm of records: `python -m bench.commit_storm`.

Nothing but the pure coordinator runs here: buffers of messages come in, are decoded and handled by
`Scheduler.handle`, and what it has to say is encoded into buffers again. Each record stores eight
bytes, every tenth creates a runner with an automatic stack and a declared range, every hundredth
stores into the bytes of a watcher, whose instance then runs as well. All of it is timed: leases,
acknowledgements of homes, ticks, dispatch, and publishing. What workers and homes do is not: their
part is played by `Crowd`, between the timed calls, and so is the making of new runners in place of
those that have ended, so that there are as many at the end as at the beginning.

Times are processor time of this thread.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import itertools
import os
import pstats
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.crowd import Crowd

#: Records of one message.
BATCH: Final = 1_024
#: Messages, one of each worker, after which ended runners are made up for.
MESSAGES_AT_ONCE: Final = 4
_WARM_UP_ROUNDS: Final = 8
#: From so many on the memory of one can be told.
_LIVE_WORTH_WEIGHING: Final = 100_000
#: Children of one parent that are to be born in 10 ms.
FAMILY: Final = 10_240
_NS_PER_US: Final = 1_000


@dataclass(slots=True)
class Stages:
    """Processor time by what it was spent on, in nanoseconds."""

    spent_ns: dict[str, int] = field(default_factory=dict)
    _open: list[int] = field(default_factory=list)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed; what it calls that is timed too counts there only."""

        def call(*arguments: Any, **options: Any) -> Any:
            self._open.append(0)
            began = time.thread_time_ns()
            try:
                return function(*arguments, **options)
            finally:
                took = time.thread_time_ns() - began
                inner = self._open.pop()
                self.spent_ns[name] = self.spent_ns.get(name, 0) + took - inner
                if self._open:
                    self._open[-1] += took

        return call

    def watch(self, crowd: Crowd) -> None:
        """Time the parts of a coordinator, each for itself."""
        scheduler: Any = crowd.scheduler
        crowd.decode = self.timed("decode", crowd.decode)
        crowd.encode = self.timed("encode", crowd.encode)
        scheduler._ordering.take = self.timed("order", scheduler._ordering.take)
        scheduler._publishing.publish = self.timed("publish", scheduler._publishing.publish)
        scheduler._close = self.timed("close", scheduler._close)
        scheduler._dispatch = self.timed("dispatch", scheduler._dispatch)
        scheduler.handle = self.timed("rest of handle", scheduler.handle)


@dataclass(frozen=True, slots=True)
class Result:
    """One storm: what its records took, and what one runner and one watcher hold."""

    #: Times of stretches of `MESSAGES_AT_ONCE` messages, and of all by what they went to.
    taken_ns: list[int]
    stages_ns: dict[str, int]
    runner_bytes: float
    watcher_bytes: float

    @property
    def records(self) -> int:
        """How many records came in."""
        return len(self.taken_ns) * MESSAGES_AT_ONCE * BATCH


def resident_bytes() -> int:
    """Return the memory that this process holds."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def storm(live: int, messages: int, *, stages: bool, profile: cProfile.Profile | None) -> Result:
    """Let `messages` come in while `live` runners and as many watchers are there."""
    crowd = Crowd(batch=BATCH)
    before = resident_bytes()
    crowd.populate(runners=live)
    between = resident_bytes()
    crowd.populate(watchers=live)
    after = resident_bytes()
    told = Stages()
    # What runs first is slower: libraries are loaded, arrays grow to their size.
    for _ in range(_WARM_UP_ROUNDS):
        _stretch(crowd, None)
        crowd.refill()
    if stages:
        told.watch(crowd)
    taken_ns = []
    for _ in range(messages // MESSAGES_AT_ONCE):
        taken_ns.append(_stretch(crowd, profile))
        spent = dict(told.spent_ns)
        crowd.refill()
        told.spent_ns = spent
    crowd.check()
    return Result(taken_ns, told.spent_ns, (between - before) / live, (after - between) / live)


def _stretch(crowd: Crowd, profile: cProfile.Profile | None) -> int:
    """Let a message of each worker come in, up to the publishing of all; return the time."""
    took_ns = 0
    for number in itertools.count():
        if number >= MESSAGES_AT_ONCE and crowd.is_visible:
            return took_ns
        buffers = crowd.next_buffers() if number < MESSAGES_AT_ONCE else crowd.applied_buffers()
        if profile is not None:
            profile.enable()
        began = time.thread_time_ns()
        out = crowd.take(buffers)
        took_ns += time.thread_time_ns() - began
        if profile is not None:
            profile.disable()
        crowd.receive(out)
    raise AssertionError("counting has ended")


def family_ms(children: int, rounds: int) -> list[float]:
    """Return how long each of some parents took to create so many children, to the last publish."""
    crowd = Crowd(batch=BATCH)
    crowd.populate(runners=children)
    taken = []
    for _ in range(rounds):
        buffers = crowd.family_buffers(children)
        began = time.thread_time_ns()
        out = crowd.take(buffers)
        took_ns = time.thread_time_ns() - began
        crowd.receive(out)
        while not crowd.is_visible:
            buffers = crowd.applied_buffers()
            began = time.thread_time_ns()
            out = crowd.take(buffers)
            took_ns += time.thread_time_ns() - began
            crowd.receive(out)
        taken.append(took_ns / 1e6)
    return taken


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--live", type=int, nargs="+", default=[1_000, 1_000_000])
    parser.add_argument("--messages", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3, help="storms of each size, in turn")
    parser.add_argument("--stages", action="store_true", help="time the parts (costs a little)")
    parser.add_argument("--profile", action="store_true", help="print what took the time")
    parser.add_argument("--callers", default="", help="with --profile: who calls this")
    parser.add_argument("--no-family", action="store_true", help="storms only")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"load average {load:.1f} on {os.cpu_count()} processors, as it begins", flush=True)
    found: dict[int, list[Result]] = {live: [] for live in options.live}
    # As a rank does before it runs a program.
    gc.freeze()
    profile = cProfile.Profile(time.thread_time) if options.profile else None
    for _ in range(options.rounds):
        for live, results in found.items():
            results.append(storm(live, options.messages, stages=options.stages, profile=profile))
    for live, results in found.items():
        taken_us = [
            took_ns / _NS_PER_US / (MESSAGES_AT_ONCE * BATCH)
            for result in results
            for took_ns in result.taken_ns
        ]
        median, best = statistics.median(taken_us), min(taken_us)
        last = results[0]
        print(
            f"{live:,} runners and {live:,} watchers: {1e6 / median:,.0f} records/s, "
            f"{median:.3f} us each; the quickest stretch {1e6 / best:,.0f}/s, {best:.3f} us"
        )
        if live >= _LIVE_WORTH_WEIGHING:
            print(
                f"    resident memory: {last.runner_bytes:.0f} bytes a runner, "
                f"{last.watcher_bytes:.0f} a watcher"
            )
        for name, ns in sorted(last.stages_ns.items(), key=lambda item: -item[1]):
            print(f"    {name:16} {ns / _NS_PER_US / last.records:.3f} us")
    if not options.no_family:
        taken = family_ms(FAMILY, 21)
        print(f"{FAMILY:,} children of one parent: {statistics.median(taken):.2f} ms")
    if profile is not None:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        pstats.Stats(profile).sort_stats("cumtime").print_stats(60)
        if options.callers:
            pstats.Stats(profile).print_callers(options.callers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
