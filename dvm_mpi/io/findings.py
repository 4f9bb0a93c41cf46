"""What to look at first in a report: a few sentences, each with its figures and a remedy.

Thresholds are rules of thumb. They decide what is said, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from dvm_mpi.io.report import counted, scaled

#: Shares from which something is worth a sentence.
_LOST: Final = 0.05
_IDLE: Final = 0.3
_WAITING: Final = 0.2
_COORDINATING: Final = 0.5
_ONE_RUNNER: Final = 0.25
#: How far a rank's idle share is above the others' mean.
_APART: Final = 0.2
#: Runners of fewer instructions cost more to dispatch than to run, if there are so many of them.
_SHORT: Final = 10_000
_MANY: Final = 1_000
#: Commits to shared pages, as a share of all, and at least.
_SHARED: Final = 0.1
_SHARED_LEAST: Final = 10
#: Sorts of runners that share pages, named in one sentence.
_SHARERS_SHOWN: Final = 3

Content = Mapping[str, Any]


def findings(content: Content) -> list[str]:
    """Return sentences about a report's content, the gravest first; never empty."""
    found = [
        text
        for look in (_lost, _idle, _waiting, _coordinating, _short, _one_runner, _shared, _phases)
        for text in look(content)
    ]
    if content.get("watchers_left"):
        left = counted(content["watchers_left"], "watcher")
        found.append(f"{left} still armed at the end: somebody waited for a store that never came.")
    return found or ["Nothing stands out."]


def attempts_of(content: Content) -> int:
    """Return how many attempts ended."""
    return sum(int(content.get(name, 0)) for name in ("commits", "aborts", "traps", "retries"))


def shares_of(content: Content) -> dict[str, list[float]]:
    """Return for each activity its share of each rank's time."""
    columns = content.get("by_rank") or {}
    names = [name for name in columns if name.endswith("_s")]
    walls = [sum(values) for values in zip(*(columns[name] for name in names), strict=True)]
    return {
        name.removesuffix("_s"): [
            value / wall if wall else 0.0 for value, wall in zip(columns[name], walls, strict=True)
        ]
        for name in names
    }


def percent(share: float) -> str:
    """Return a share as text: `42 %`, `0.3 %`."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.1f} %"  # noqa: PLR2004


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _lost(content: Content) -> Iterator[str]:
    attempts, retries = attempts_of(content), int(content.get("retries", 0))
    sites = content.get("contention") or []
    if not sites or retries < _LOST * attempts:
        return
    worst = sites[0]
    yield (
        f"{percent(retries / attempts)} of all attempts lost and ran again; "
        f"{percent(worst['losses'] / retries)} of these at {worst['line']} (in {worst['entry']}), "
        f"since others had stored to {worst['name'] or hex(worst['address'])}. Let each runner "
        "store to bytes of its own, and join them afterwards."
    )


def _idle(content: Content) -> Iterator[str]:
    idle = shares_of(content).get("idle", [])
    mean = _mean(idle)
    if mean >= _IDLE:
        yield (
            f"Ranks were idle {percent(mean)} of their time: there were too few runners for "
            f"{counted(len(idle), 'rank')}, or they came one after another. More and smaller parts "
            "help, or fewer ranks."
        )
    if len(idle) > 1:
        worst = max(range(len(idle)), key=idle.__getitem__)
        others = (sum(idle) - idle[worst]) / (len(idle) - 1)
        if idle[worst] >= _IDLE and idle[worst] - others >= _APART:
            yield (
                f"Rank {worst} was idle {percent(idle[worst])} of its time, the others "
                f"{percent(others)} on average."
            )


def _waiting(content: Content) -> Iterator[str]:
    mean = _mean(shares_of(content).get("waiting", []))
    if mean >= _WAITING:
        yield (
            f"Ranks waited {percent(mean)} of their time for pages or addresses although they had "
            "runners: see which pages are hot; runners that load less, or the same pages one after "
            "another on one rank, wait less."
        )


def _coordinating(content: Content) -> Iterator[str]:
    shares = shares_of(content).get("coordinating", [])
    if shares and shares[0] >= _COORDINATING and len(shares) > 1:
        yield (
            f"Rank 0 spent {percent(shares[0])} of its time on coordination: it is what the others "
            "wait for. Longer and fewer runners help."
        )


def _short(content: Content) -> Iterator[str]:
    for row in content.get("runner_lengths") or []:
        mean = row["instructions"] / max(row["attempts"], 1)
        if row["attempts"] >= _MANY and mean < _SHORT:
            yield (
                f"{scaled(row['attempts'])} attempts of {row['entry']} executed "
                f"{scaled(mean)} instructions on average: to send one out costs about "
                f"as much as {scaled(_SHORT)}. Let one runner do the work of several."
            )
            return


def _one_runner(content: Content) -> Iterator[str]:
    total, ranks = int(content.get("instructions", 0)), int(content.get("ranks", 1))
    for row in content.get("runner_lengths") or []:
        if ranks > 1 and row["longest"] >= max(_ONE_RUNNER * total, 1):
            yield (
                f"One attempt of {row['entry']} executed {percent(row['longest'] / total)} of all "
                f"instructions ({scaled(row['longest'])}): while it ran alone, the other ranks had "
                "nothing to do. Divide it."
            )
            return


def _shared(content: Content) -> Iterator[str]:
    by_name: dict[str, int] = {}
    stored_by: dict[str, list[str]] = {}
    for row in content.get("hot_pages") or []:
        name = row["name"].partition("+")[0] or hex(row["address"])
        by_name[name] = by_name.get(name, 0) + row["shared"]
        known = stored_by.setdefault(name, [])
        known += [who for who in row.get("stored_by") or [] if who not in known]
    commits = int(content.get("commits", 0))
    name = max(by_name, key=lambda key: (by_name[key], key), default="")
    if name and by_name[name] >= max(_SHARED * commits, _SHARED_LEAST):
        yield (
            f"Pages of {name} were shared: {counted(by_name[name], 'commit')} stored there beside "
            f"bytes that others had stored meanwhile{_by(stored_by[name])}. "
            "Nobody lost by that, but each rank had to "
            "fetch these pages again. Let the parts of different runners begin on pages of their "
            "own (multiples of 4,096 bytes)."
        )


def _by(runners: list[str]) -> str:
    return f", in runners of {', '.join(runners[:_SHARERS_SHOWN])}" if runners else ""


def _phases(content: Content) -> Iterator[str]:
    work = float(content.get("work_s", 0))
    for name, words, remark in (
        ("load_s", "Loading", ""),
        ("compile_s", "Waiting for compiled code", " It is in the cache now."),
        ("output_s", "Writing the outputs", ""),
    ):
        if content.get(name, 0) > max(work, 1.0):
            took = f"{words} took {content[name]:.1f} s"
            yield f"{took}, longer than the work ({work:.1f} s).{remark}"
