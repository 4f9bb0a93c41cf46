"""Attempts of a history in words: what became of each, and all that it did."""

from __future__ import annotations

from collections.abc import Iterator

from dvm_mpi.engine.interface import End
from dvm_mpi.io.report import counted
from dvm_mpi.sim.alone import Alone
from dvm_mpi.sim.history import EndedAttempt, History
from dvm_mpi.sim.steps import StepKeeper, TraceText

_ABORTS = frozenset({End.ABORT, End.ABORT_DELETE})
#: Stored ranges, children and the like that are listed.
_LISTED_MAX = 20
#: Bytes of a stored range that are shown.
_SHOWN_BYTES = 16
#: A difference shows two values, which may be long.
_DIFFERENCE_COLUMNS = 400


class Listing:
    """Tells of the attempts of one history."""

    def __init__(self, history: History, text: TraceText) -> None:
        self._history = history
        self._text = text
        self._epochs = dict(history.orders)
        #: The newest attempt of each runner.
        self._newest = {(g.id, g.runner): number for number, g in sorted(history.given.items())}

    def fate(self, number: int) -> str:
        """Return what became of an attempt."""
        ended = self._history.ended.get(number)
        failure = self._history.failure
        if ended is None:
            return "unfinished"
        if failure is not None and failure.number == number:
            return "trapped"
        if number not in self._epochs:
            given = self._history.given[number]
            is_last = self._newest[given.id, given.runner] == number
            return "not ordered" if is_last and self._history.ended_early else "lost"
        return "aborted" if ended.end in _ABORTS else f"epoch {self._epochs[number]}"

    def table(self, numbers: list[int]) -> Iterator[str]:
        """Yield a heading and a line for each attempt."""
        yield (
            f"{'attempt':>8}  {'runner':<14}  {'fate':<11}  {'instructions':>12}  {'rank':>4}  "
            "began at"
        )
        for number in numbers:
            given, ended = self._history.given[number], self._history.ended.get(number)
            executed = "" if ended is None else f"{ended.instructions:,}"
            yield (
                f"{number:>8}  {given.id:<#14x}  {self.fate(number):<11}  {executed:>12}  "
                f"{given.worker:>4}  {self._text.namer.name(given.entry)}"
            )


def trace_lines(alone: Alone, kept: StepKeeper, fate: str) -> Iterator[str]:
    """Yield the trace of an attempt that ran alone: its steps, what it left, and the verdict."""
    text, given = kept.text, alone.given
    yield (
        f"attempt {given.number} of runner {given.id:#x}, which began at "
        f"{text.namer.name(given.entry)}, on rank {given.worker}, as of epoch {given.snapshot:,}"
    )
    yield from kept.lines()
    ended = alone.again
    if ended is not None:
        yield from _left(ended, text)
    yield f"  recorded: {fate}"
    differences = alone.differences()
    if not differences:
        yield f"  it did what was recorded: {counted(alone.recorded.instructions, 'instruction')}"
    for difference in differences:
        yield f"  NOT AS RECORDED: {shortened(difference)}"


def shortened(line: str) -> str:
    """Return a line cut to a length that people read."""
    cut = len(line) - _DIFFERENCE_COLUMNS
    return line if cut <= 0 else f"{line[:_DIFFERENCE_COLUMNS]}… ({cut:,} characters more)"


def _left(ended: EndedAttempt, text: TraceText) -> Iterator[str]:
    """Yield what an attempt stored, created and printed."""
    for start, length, content in ended.stores[:_LISTED_MAX]:
        yield f"  stored {counted(length, 'byte')} at {text.namer.name(start)}: {_bytes(content)}"
    yield from _more(len(ended.stores), "stored range")
    for child in ended.children[:_LISTED_MAX]:
        kind = "watcher" if child.fact("template") else "runner"
        ranges = ", ".join(f"{text.namer.name(s)} for {n:,}" for s, n in child.heap[:_LISTED_MAX])
        yield (
            f"  created {kind} {child.fact('id'):#x} at {text.namer.name(child.fact('entry'))}, "
            f"heap [{ranges}]"
        )
    yield from _more(len(ended.children), "created runner")
    if ended.console:
        yield f"  printed {ended.console.decode('utf-8', 'replace')!r}"


def _more(count: int, noun: str) -> Iterator[str]:
    if count > _LISTED_MAX:
        yield f"  and {counted(count - _LISTED_MAX, f'more {noun}')}"


def _bytes(content: bytes | None) -> str:
    if content is None:
        return "(not recorded)"
    more = " …" if len(content) > _SHOWN_BYTES else ""
    return content[:_SHOWN_BYTES].hex(" ") + more
