"""Small racing programs, each with a truth that holds in any order of events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from tests.sim.machine import Run


# --- truths -------------------------------------------------------------------------------------
def counters(run: Run) -> None:
    assert run.words("counters", 3) == [6, 6, 6]
    assert sorted(run.history.console) == sorted(b"abc" * 6)


def bank(run: Run) -> None:
    accounts = run.words("accounts", 8)
    assert sum(accounts) == 800
    assert min(accounts) >= 0
    assert set(run.history.console) <= set(b"+")


def append(run: Run) -> None:
    assert run.word("length") == 12
    assert sorted(run.words("list", 12)) == list(range(1, 13))


def neighbours(run: Run) -> None:
    assert run.retries == 0
    assert run.words("bytes", 3) == [
        int.from_bytes(range(first, first + 8), "little") for first in (1, 9, 17)
    ]
    assert run.words("quads", 24) == [0x0101010101010101 * (i + 1) for i in range(24)]


def watchers(run: Run) -> None:
    assert run.words("noted", 6) == [1] * 6
    assert run.word("tries") == 6
    assert run.history.console == b"." * 6


def counting_watcher(run: Run) -> None:
    assert run.word("seen") == 8
    assert run.history.console.endswith(b"8")
    assert sorted(run.history.console) == list(run.history.console)


def chains(run: Run) -> None:
    def total(depth: int, number: int, passed: int) -> tuple[int, int]:
        """Return the sum that a link and its children add, and how many ends there are."""
        held = passed + number
        if depth == 0:
            return held, 1
        if number % 2 and number > 1:
            return 0, 0
        parts = [total(depth - 1, 2 * number + child, held) for child in (0, 1)]
        return sum(p[0] for p in parts), sum(p[1] for p in parts)

    expected, ends = total(4, 1, 1)
    assert run.word("total") == expected
    assert run.history.console == b"|" * ends


def stacks(run: Run) -> None:
    sums = [i + i + 100 for i in range(6)]
    assert run.word("done") == sum(sums)
    assert run.history.console == b"!" * 6
    told = [run.word("stacks", 32 * i + 18) for i in range(6)]
    assert told == [0 if i % 2 else sums[i] for i in range(6)], "odd children abort"


def large(run: Run) -> None:
    assert run.word("shared") == 6


def sleepers(run: Run) -> None:
    assert [run.word("cells", 512 * page) for page in range(3)] == [6] * 3
    seen = run.words("seen", 6)
    assert all(1 <= count <= 6 for count in seen), "no reader saw a torn state"
    assert sorted(run.history.console) == sorted(ord("0") + count for count in seen)


def trap(run: Run) -> None:
    assert run.history.failure is not None
    assert run.history.console == b"01234"
    assert run.word("counter") == 5


@dataclass(frozen=True, slots=True)
class Case:
    """One program with its truth, and how many seeds it gets."""

    name: str
    truth: Callable[[Run], None]
    seeds: int
    defines: dict[str, int] = field(default_factory=dict)


CASES = (
    Case("counters", counters, 20),
    Case("bank", bank, 15),
    Case("append", append, 20),
    Case("neighbours", neighbours, 15),
    Case("watchers", watchers, 20),
    Case("watchers", watchers, 20, {"ANEW": 1}),
    Case("counting_watcher", counting_watcher, 15),
    Case("chains", chains, 15),
    Case("stacks", stacks, 15),
    Case("sleepers", sleepers, 20),
    Case("large", large, 15),
    Case("trap", trap, 10),
)
assert sum(case.seeds for case in CASES) == 200
