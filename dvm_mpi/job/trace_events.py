"""From rows of journals to events of a trace, as JSON texts.

A process of the trace is a rank, a thread is a part of it. Spans of one thread never overlap, but
lie inside one another: that is what Chrome's format asks for. Arrows are written when both of their
ends are known, so none is left open.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.diagnosis import Narrator, hexadecimal
from dvm_mpi.control.journal import Fate, Gauge, RowKind, Work
from dvm_mpi.control.wire import MESSAGES
from dvm_mpi.engine.interface import End

#: Threads of a rank, in the order in which they are shown; those of epochs come behind.
_COORDINATOR, _EPOCHS, _WORKER, _RUNNERS, _FETCHES, _HOME, _WORK = range(1, 8)
_THREADS: Final = {
    _COORDINATOR: "coordinator",
    _WORKER: "worker",
    _RUNNERS: "single runners",
    _FETCHES: "waits for pages",
    _HOME: "home",
    _WORK: "start, files",
}
#: Threads of one process are numbered from so many times the process's number.
_THREADS_PER_PROCESS: Final = 100
#: Where epochs overlap they are in lanes: threads from this one on.
_FIRST_LANE: Final = 20
_LANES_MAX: Final = 64

_GAUGES: Final = {
    Gauge.QUEUED: ("runners queued", "runners"),
    Gauge.RUNNING: ("runners running", "runners"),
    Gauge.COMMITS_PER_S: ("commits/s", "commits"),
    Gauge.RETRIES_PER_S: ("retries/s", "retries"),
    Gauge.RESIDENT_BYTES: ("memory of the home", "bytes"),
    Gauge.SENT_BYTES_PER_S: ("sent bytes/s", "bytes"),
    Gauge.RECEIVED_BYTES_PER_S: ("received bytes/s", "bytes"),
    Gauge.SENDS_PENDING: ("buffers not taken by others", "buffers"),
}
_WORKS: Final = {
    Work.STARTING: "start",
    Work.LOADING: "load",
    Work.COMPILING: "prepare the engine",
    Work.WRITING: "write",
}
_ENDS: Final = {
    End.COMMIT: "commit",
    End.ABORT: "abort",
    End.COMMIT_DELETE: "commit, delete the template",
    End.ABORT_DELETE: "abort, delete the template",
    End.TRAP: "trap",
}
_FATES: Final = {
    Fate.ORDERED: "ordered",
    Fate.LOST: "lost",
    Fate.PUBLISHED_NOTHING: "published nothing",
    Fate.TRAPPED: "trapped: the program ends",
}

L = TypeVar("L")
R = TypeVar("R")


class Pairs(Generic[L, R]):
    """Two things with one number that come in any order; of those that wait the oldest goes."""

    def __init__(self, waiting_max: int = config.TRACE_PAIRS_MAX) -> None:
        self._left: dict[int, L] = {}
        self._right: dict[int, R] = {}
        self._waiting_max = waiting_max

    def put_left(self, number: int, left: L) -> tuple[R | None, L | None]:
        """Return the right one, if it is there; and a left one that has waited for too long."""
        if number in self._right:
            return self._right.pop(number), None
        self._left[number] = left
        is_full = len(self._left) > self._waiting_max
        return None, self._left.pop(next(iter(self._left))) if is_full else None

    def put_right(self, number: int, right: R) -> L | None:
        """Return the left one, if it is there."""
        if number in self._left:
            return self._left.pop(number)
        self._right[number] = right
        if len(self._right) > self._waiting_max:
            del self._right[next(iter(self._right))]
        return None

    def lefts(self) -> list[L]:
        """Return the left ones that still wait, and forget them."""
        waiting, self._left = list(self._left.values()), {}
        return waiting


#: A place in the trace that an arrow begins or ends at: process, thread, ns.
_Spot = tuple[int, int, int]
#: What became of an attempt, and the place in its epoch.
_Known = tuple[Fate, int, int, _Spot | None]


class TraceEvents:
    """Turns rows into events.

    Parameters
    ----------
    narrator
        Of the program: labels and source lines.
    names
        Of the processes, by rank.
    begins_ns
        Time 0 of the trace; what is before it is moved there.
    """

    def __init__(self, narrator: Narrator, names: list[str], begins_ns: int) -> None:
        self._narrator = narrator
        self._names = names
        self._begins_ns = begins_ns
        self._texts: dict[tuple[str, int], str] = {}
        self._named: set[tuple[int, int]] = set()
        self._out: list[str] = []
        #: When the last epoch of each lane ended.
        self._lanes: list[int] = []
        #: Epochs by number: thread, begin, end.
        self._epochs: dict[int, tuple[int, int, int]] = {}
        #: Chosen attempts that were ordered in epochs not visible yet: number, when, losses.
        self._ordered: dict[int, list[tuple[int, int, int]]] = {}
        #: How wrong the clock of a rank may have been, at most; ns.
        self.clock_error_ns = 0
        self._runners: Pairs[tuple[int, tuple[int, ...]], _Known] = Pairs()
        self._batches: Pairs[_Spot, _Spot] = Pairs()
        tell: dict[RowKind, Callable[[int, tuple[int, ...]], None]] = {
            RowKind.RAN: self._ran,
            RowKind.RECORD: self._record,
            RowKind.RUNNER: self._runner,
            RowKind.FETCHED: self._fetched,
            RowKind.ARRIVED: self._arrived,
            RowKind.LOOKED_UP: self._looked_up,
            RowKind.STAGED: self._staged,
            RowKind.APPLIED: self._applied,
            RowKind.DECIDED: self._decided,
            RowKind.DISPATCHED: self._dispatched,
            RowKind.FATE: self._fate,
            RowKind.CAUSED: self._caused,
            RowKind.EPOCH: self._epoch,
            RowKind.GAUGE: self._gauge,
            RowKind.WORKED: self._worked,
            RowKind.CLOCK: self._clock,
        }
        assert tell.keys() == set(RowKind), "every kind of row has its event"
        self._tell = [tell[kind] for kind in RowKind]

    def take(self, rank: int, rows: NDArray[Any]) -> list[str]:
        """Return the events of rows of one rank, which come in the order of its journal."""
        for row in rows.tolist():
            self._tell[row[0]](rank, row)
        out, self._out = self._out, []
        return out

    def facts(self, facts: dict[str, str]) -> list[str]:
        """Return the event that tells of the run as a whole, at time 0."""
        arguments = json.dumps(facts)[1:-1]
        self._instant(0, _WORK, self._begins_ns, '"run"', arguments, scope="g")
        out, self._out = self._out, []
        return out

    def dropped(self, rank: int, count: int, at_ns: int) -> list[str]:
        """Return the event that says how much of a rank is missing."""
        self._instant(rank, _WORK, at_ns, f'"{count} rows dropped"', f'"rows":{count}')
        out, self._out = self._out, []
        return out

    def rest(self) -> list[str]:
        """Return the events of what has waited for its other half in vain."""
        for rank, row in self._runners.lefts():
            self._tell_runner(rank, row, None)
        out, self._out = self._out, []
        return out

    # --- events ---------------------------------------------------------------------------------
    def _ts(self, ns: int) -> str:
        """Return a moment in µs."""
        ns = max(ns - self._begins_ns, 0)
        return f"{ns // 1000}.{ns % 1000:03}"

    def _thread(self, rank: int, thread: int) -> str:
        """Return process and thread of an event; names them when they are met first."""
        pid = rank + 1
        tid = pid * _THREADS_PER_PROCESS + thread
        if (rank, thread) not in self._named:
            self._named.add((rank, thread))
            self._name(rank, thread, pid, tid)
        return f'"pid":{pid},"tid":{tid}'

    def _name(self, rank: int, thread: int, pid: int, tid: int) -> None:
        if (rank, 0) not in self._named:
            self._named.add((rank, 0))
            name = json.dumps(self._names[rank])
            for key, value in (("process_name", f'"name":{name}'), ("process_sort_index", None)):
                text = value or f'"sort_index":{rank}'
                self._out.append(f'{{"ph":"M","name":"{key}","pid":{pid},"args":{{{text}}}}}')
        name = json.dumps(_THREADS.get(thread) or f"epochs, lane {thread - _FIRST_LANE + 1}")
        order = _EPOCHS * 100 + thread if thread >= _FIRST_LANE else thread * 100
        for key, text in (
            ("thread_name", f'"name":{name}'),
            ("thread_sort_index", f'"sort_index":{order}'),
        ):
            self._out.append(
                f'{{"ph":"M","name":"{key}","pid":{pid},"tid":{tid},"args":{{{text}}}}}'
            )

    def _span(
        self, rank: int, thread: int, begin: int, end: int, name: str, arguments: str
    ) -> None:
        """Write a span; `name` and `arguments` are JSON. None is shorter than a nanosecond."""
        where = self._thread(rank, thread)
        begin = max(begin, self._begins_ns)
        duration = max(end - begin, 1)
        self._out.append(
            f'{{"ph":"X","name":{name},{where},"ts":{self._ts(begin)},'
            f'"dur":{duration // 1000}.{duration % 1000:03},"args":{{{arguments}}}}}'
        )

    def _instant(
        self, rank: int, thread: int, at: int, name: str, arguments: str, scope: str = "t"
    ) -> None:
        where = self._thread(rank, thread)
        self._out.append(
            f'{{"ph":"i","s":"{scope}","name":{name},{where},"ts":{self._ts(at)},'
            f'"args":{{{arguments}}}}}'
        )

    def _arrow(self, name: str, number: int, source: _Spot, target: _Spot) -> None:
        """Write an arrow, unless two clocks that differ would turn it round."""
        if target[2] < source[2]:
            return
        for phase, (rank, thread, at) in (('"s"', source), ('"f","bp":"e"', target)):
            self._out.append(
                f'{{"ph":{phase},"name":"{name}","cat":"{name}","id":{number},'
                f'{self._thread(rank, thread)},"ts":{self._ts(at)}}}'
            )

    def _label(self, entry: int) -> str:
        """Return where an attempt begins, as JSON."""
        return self._text("label", entry, self._narrator.name)

    def _line(self, pc: int) -> str:
        """Return the source line of an instruction, as JSON."""
        return self._text("line", pc, self._narrator.place)

    def _text(self, sort: str, address: int, tell: Callable[[int], str]) -> str:
        text = self._texts.get((sort, address))
        if text is None:
            text = json.dumps((tell(address) if address >= 0 else "") or hexadecimal(address))
            if len(self._texts) < config.TRACE_PAIRS_MAX:
                self._texts[sort, address] = text
        return text

    # --- worker ---------------------------------------------------------------------------------
    def _ran(self, rank: int, row: tuple[int, ...]) -> None:
        _, begin, end, first, entry, instructions, size, snapshot, busy_ns, begins = row
        name = self._label(entry) if entry >= 0 else '"runners"' if size else '"runner goes on"'
        self._span(
            rank,
            _WORKER,
            begin,
            end,
            name,
            f'"instructions":{instructions},"runners of the batch":{size},"snapshot":{snapshot},'
            f'"first attempt":{first},"us in slices":{busy_ns / 1000}',
        )
        if first and begins:
            spot = (rank, _WORKER, begin)
            source = self._batches.put_right(first, spot)
            if source is not None:
                self._arrow("batch", first, source, spot)

    def _record(self, rank: int, row: tuple[int, ...]) -> None:
        _, at, _, attempts, instructions, children, stored, staged, _, _ = row
        self._instant(
            rank,
            _WORKER,
            at,
            '"record"',
            f'"attempts":{attempts},"instructions":{instructions},"children":{children},'
            f'"stored bytes":{stored},"staged write sets":{staged}',
        )

    def _runner(self, rank: int, row: tuple[int, ...]) -> None:
        known, late = self._runners.put_left(row[3], (rank, row))
        if known is not None:
            self._tell_runner(rank, row, known)
        if late is not None:
            self._tell_runner(*late, None)

    def _tell_runner(self, rank: int, row: tuple[int, ...], known: _Known | None) -> None:
        _, begin, end, number, runner_id, entry, instructions, how, pc, snapshot = row
        arguments = (
            f'"attempt":{number},"runner":"{hexadecimal(runner_id)}","begins at":'
            f'{self._label(entry)},"ends at":{self._line(pc)},"end":"{_ENDS[End(how)]}",'
            f'"instructions":{instructions},"snapshot":{snapshot}'
        )
        if known is not None:
            fate, epoch, losses, _ = known
            arguments += f',"fate":"{_FATES[fate]}","lost before":{losses}'
            if fate in {Fate.ORDERED, Fate.LOST}:
                arguments += f',"{"epoch" if fate is Fate.ORDERED else "lost to epoch"}":{epoch}'
        self._span(rank, _RUNNERS, begin, end, self._label(entry), arguments)
        if known is not None and known[3] is not None:
            # Inside the span, at its end.
            source = (rank, _RUNNERS, max(begin, end - 1))
            self._arrow("commit", number, source, known[3])

    def _fetched(self, rank: int, row: tuple[int, ...]) -> None:
        _, begin, end, pages, size, homes, last_home, snapshot, _, _ = row
        self._span(
            rank,
            _FETCHES,
            begin,
            end,
            f'"{pages} pages"',
            f'"pages":{pages},"bytes":{size},"homes":{homes},"last home":{last_home},'
            f'"snapshot":{snapshot}',
        )

    def _arrived(self, rank: int, row: tuple[int, ...]) -> None:
        home, pages = row[3], row[4]
        arguments = f'"home":{home},"pages":{pages}'
        self._instant(rank, _FETCHES, row[1], f'"from home {home}"', arguments)

    # --- home -----------------------------------------------------------------------------------
    def _looked_up(self, rank: int, row: tuple[int, ...]) -> None:
        _, begin, end, worker, pages, size, snapshot, _, _, _ = row
        self._span(
            rank,
            _HOME,
            begin,
            end,
            '"look up"',
            f'"worker":{worker},"pages":{pages},"bytes":{size},"snapshot":{snapshot}',
        )

    def _staged(self, rank: int, row: tuple[int, ...]) -> None:
        _, begin, end, worker, size, is_last = row[:6]
        arguments = f'"worker":{worker},"bytes":{size},"is last":{is_last}'
        self._span(rank, _HOME, begin, end, '"stage"', arguments)

    def _applied(self, rank: int, row: tuple[int, ...]) -> None:
        _, begin, end, epoch, size, write_sets, frames = row[:7]
        self._span(
            rank,
            _HOME,
            begin,
            end,
            f'"apply epoch {epoch}"',
            f'"epoch":{epoch},"inline bytes":{size},"write sets":{write_sets},'
            f'"frames in use":{frames}',
        )

    # --- coordinator ----------------------------------------------------------------------------
    def _decided(self, rank: int, row: tuple[int, ...]) -> None:
        _, begin, end, message, records, commits, retries, sent, aborts, _ = row
        name = MESSAGES[message].__name__ if message >= 0 else "time"
        self._span(
            rank,
            _COORDINATOR,
            begin,
            end,
            f'"{name}"',
            f'"records":{records},"commits":{commits},"retries":{retries},"aborts":{aborts},'
            f'"runners dispatched":{sent}',
        )

    def _dispatched(self, rank: int, row: tuple[int, ...]) -> None:
        _, at, _, worker, first, count, snapshot = row[:7]
        self._instant(
            rank,
            _COORDINATOR,
            at,
            f'"batch for worker {worker}"',
            f'"worker":{worker},"runners":{count},"first attempt":{first},"snapshot":{snapshot}',
        )
        spot = (rank, _COORDINATOR, at)
        target, _ = self._batches.put_left(first, spot)
        if target is not None:
            self._arrow("batch", first, spot, target)

    def _fate(self, rank: int, row: tuple[int, ...]) -> None:
        _, at, _, number, fate, epoch, losses = row[:7]
        if fate == Fate.ORDERED:
            self._ordered.setdefault(epoch, []).append((number, at, losses))
        else:
            self._know(number, (Fate(fate), epoch, losses, None))

    def _know(self, number: int, known: _Known) -> None:
        runner = self._runners.put_right(number, known)
        if runner is not None:
            self._tell_runner(*runner, known)

    def _caused(self, rank: int, row: tuple[int, ...]) -> None:
        _, at, _, epoch, _, number = row[:6]
        if epoch in self._epochs:
            thread, begin, end = self._epochs[epoch]
            source = (rank, thread, min(max(begin, end - 1), at))
            self._arrow("cause", number, source, (rank, _COORDINATOR, at))

    def _epoch(self, rank: int, row: tuple[int, ...]) -> None:
        _, begin, end, epoch, closed, commits, size = row[:7]
        thread = self._lane(begin, end)
        arguments = f'"epoch":{epoch},"commits":{commits},"inline bytes":{size}'
        self._span(rank, thread, begin, end, f'"epoch {epoch}"', arguments)
        if closed > begin:
            self._span(rank, thread, begin, closed, '"open"', "")
        if end > closed:
            self._span(rank, thread, closed, end, '"applied at homes"', "")
        self._epochs[epoch] = (thread, begin, end)
        if len(self._epochs) > config.TRACE_PAIRS_MAX:
            del self._epochs[next(iter(self._epochs))]
        # Epochs are published in their order: rows of those before have had no room.
        for earlier in [number for number in self._ordered if number < epoch]:
            for number, _, losses in self._ordered.pop(earlier):
                self._know(number, (Fate.ORDERED, earlier, losses, None))
        for number, at, losses in self._ordered.pop(epoch, []):
            spot = (rank, thread, min(max(at, begin), end))
            self._know(number, (Fate.ORDERED, epoch, losses, spot))

    def _lane(self, begin: int, end: int) -> int:
        """Return a thread on which no epoch is under way; epochs come in the order of begins."""
        free = [lane for lane, until in enumerate(self._lanes) if until <= begin]
        lane = free[0] if free else len(self._lanes)
        assert lane < _LANES_MAX, "more epochs in flight than there may be"
        if not free:
            self._lanes.append(end)
        self._lanes[lane] = max(end, begin + 1)
        return _FIRST_LANE + lane

    # --- a rank ---------------------------------------------------------------------------------
    def _gauge(self, rank: int, row: tuple[int, ...]) -> None:
        name, unit = _GAUGES[Gauge(row[3])]
        self._thread(rank, _WORK)
        self._out.append(
            f'{{"ph":"C","name":"{name}","pid":{rank + 1},"ts":{self._ts(row[1])},'
            f'"args":{{"{unit}":{row[4]}}}}}'
        )

    def _worked(self, rank: int, row: tuple[int, ...]) -> None:
        work = Work(row[3])
        thread = _WORKER if work is Work.COMPILING else _WORK
        self._span(rank, thread, row[1], row[2], f'"{_WORKS[work]}"', "")

    def _clock(self, rank: int, row: tuple[int, ...]) -> None:
        offset, error = row[3], row[4]
        self.clock_error_ns = max(self.clock_error_ns, error)
        arguments = f'"added us":{offset / 1000},"error us":{error / 1000 if error >= 0 else -1}'
        self._instant(rank, _WORK, row[1], '"clock"', arguments)


def names_of_ranks(hosts: list[str]) -> list[str]:
    """Return what the processes of a trace are called."""
    return [f"rank {rank} on {host}" for rank, host in enumerate(hosts)]


def end_of(rows: NDArray[Any]) -> int:
    """Return the latest moment that rows tell of, 0 if there are none."""
    return int(np.max(rows["end"], initial=0))
