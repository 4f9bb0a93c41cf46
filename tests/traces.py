"""Reads traces of `--trace`, and checks them against the rules of Chrome's format."""

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

Event = dict[str, Any]
#: What an event of each phase has beside `ph` and `name`.
_FIELDS = {
    "X": {"pid", "tid", "ts", "dur", "args"},
    "i": {"pid", "tid", "ts", "s", "args"},
    "C": {"pid", "ts", "args"},
    "s": {"pid", "tid", "ts", "cat", "id"},
    "f": {"pid", "tid", "ts", "cat", "id", "bp"},
}


def read_trace(path: Path) -> list[Event]:
    """Return the events of a trace that is complete."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    events: list[Event] = json.loads(data)
    return events


def ns(event: Event, key: str = "ts") -> int:
    rounded: int = round(event[key] * 1000)
    return rounded


def named(events: list[Event], key: str) -> dict[int, str]:
    """Return names of processes by pid, or of threads by tid."""
    number = "pid" if key == "process_name" else "tid"
    return {e[number]: e["args"]["name"] for e in events if e["name"] == key}


def on(events: list[Event], thread: str, phase: str = "X") -> list[Event]:
    """Return the events of all threads whose name begins so."""
    threads = named(events, "thread_name")
    return [e for e in events if e["ph"] == phase and threads[e["tid"]].startswith(thread)]


def total(events: list[Event], argument: str) -> int:
    return sum(int(e["args"][argument]) for e in events)


def check_trace(events: list[Event]) -> None:
    """Assert that a viewer reads this as it was meant."""
    processes, threads = named(events, "process_name"), named(events, "thread_name")
    places: dict[int, int] = {}
    for event in events:
        if event["ph"] == "M":
            continue
        assert event.keys() == _FIELDS[event["ph"]] | {"ph", "name"}, event
        assert event["ts"] >= 0, event
        assert event["pid"] in processes, event
        if event["ph"] == "C":
            assert all(value >= 0 for value in event["args"].values()), event
        else:
            assert event["tid"] in threads, event
            assert places.setdefault(event["tid"], event["pid"]) == event["pid"], "one process"
    names = [(e["name"], e["pid"], e.get("tid")) for e in events if e["ph"] == "M"]
    assert len(names) == len(set(names)), "nothing is named twice"
    _check_nesting(events)
    _check_arrows(events)


def _check_nesting(events: list[Event]) -> None:
    """Spans of a thread lie apart or inside one another, in the order in which a viewer sorts."""
    spans = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            assert event["dur"] > 0, event
            spans[event["tid"]].append(event)
    for own in spans.values():
        # Of those that begin together the first in the file is the outer one.
        open_until: list[int] = []
        for event in sorted(own, key=ns):
            begin, end = ns(event), ns(event) + ns(event, "dur")
            while open_until and open_until[-1] <= begin:
                open_until.pop()
            assert not open_until or end <= open_until[-1], f"crosses another: {event}"
            open_until.append(end)


def _check_arrows(events: list[Event]) -> None:
    """Every arrow has one begin and one end, later, each inside a span of its thread."""
    spans = defaultdict(list)
    ends: dict[tuple[str, int], dict[str, list[Event]]] = defaultdict(lambda: {"s": [], "f": []})
    for event in events:
        if event["ph"] == "X":
            spans[event["tid"]].append((ns(event), ns(event) + ns(event, "dur")))
        elif event["ph"] in "sf":
            ends[event["cat"], event["id"]][event["ph"]].append(event)
    for (cat, number), found in ends.items():
        assert len(found["s"]) == len(found["f"]) == 1, (cat, number, found)
        source, target = found["s"][0], found["f"][0]
        assert ns(source) <= ns(target), (source, target)
        for event in (source, target):
            at = ns(event)
            assert any(b <= at < e for b, e in spans[event["tid"]]), f"not in a span: {event}"
