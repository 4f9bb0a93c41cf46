"""Draws a part of a timeline (`--trace`) for documents: `python -m docs.draw_timeline`.

Not a viewer: that is Perfetto. It knows the names that `job/trace_events.py` gives to tracks.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes

#: Tracks that are drawn, by how their names begin; colour; how many rows of the picture they take.
TRACKS: Final = {
    "coordinator": ("#7a5195", 1),
    "epochs": ("#bc5090", 1),
    "worker": ("#2f6f9f", 1),
    "single runners": ("#9aa5b1", 1),
    "waits for pages": ("#ffa600", 1),
    "home": ("#3a9d5d", 1),
}
#: Spans of the worker's track are told apart by name.
SHADES: Final = ("#2f6f9f", "#74add1", "#08519c", "#8c96c6", "#41b6c4")
ARROWS: Final = {"commit": "#555555", "cause": "#d62728", "batch": "#1f77b4"}

Event = dict[str, Any]


def read(path: Path) -> list[Event]:
    """Return the events of a timeline, of one that was cut off as well."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    events: list[Event] = json.loads(text if text.rstrip().endswith("]") else text + "]")
    return events


def rows_of(events: Iterable[Event]) -> dict[int, tuple[float, str, str]]:
    """Return where each drawn thread lies, from the top: height, its kind, its text."""
    names = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    threads = {
        e["tid"]: (e["pid"], e["args"]["name"]) for e in events if e["name"] == "thread_name"
    }
    orders = {e["tid"]: e["args"]["sort_index"] for e in events if e["name"] == "thread_sort_index"}
    rows: dict[int, tuple[float, str, str]] = {}
    at = 0.0
    last_pid = None
    for tid in sorted(threads, key=lambda t: (threads[t][0], orders[t])):
        pid, name = threads[tid]
        kind = next((kind for kind in TRACKS if name.startswith(kind)), None)
        if kind is None:
            continue
        if pid != last_pid:
            at -= 0.7
            last_pid = pid
        at -= TRACKS[kind][1]
        rows[tid] = (at, kind, f"{names[pid].split(' on ')[0]}: {name}")
    return rows


def shades_of(events: Iterable[Event]) -> dict[str, str]:
    """Return a colour for each label at which runners begin."""
    names = dict.fromkeys(e["name"] for e in events if "first attempt" in e.get("args", ()))
    return {name: SHADES[number % len(SHADES)] for number, name in enumerate(names)}


def draw_spans(
    axes: Axes,
    events: list[Event],
    rows: dict[int, tuple[float, str, str]],
    shades: dict[str, str],
) -> None:
    """Draw the spans; those of workers by name, those of epochs with what is inside them."""
    met: set[str] = set()
    for event in events:
        if event["ph"] != "X" or event.get("tid") not in rows:
            continue
        height, kind, _ = rows[event["tid"]]
        colour, inset = TRACKS[kind][0], 0.12
        if kind in {"worker", "single runners"}:
            inset = 0.12 if kind == "worker" else 0.3
            colour = shades.get(event["name"], colour)
            met.add(event["name"])
        elif event["name"] == "open":
            colour, inset = "#e7b9d0", 0.22
        elif event["name"] == "applied at homes":
            colour, inset = "#bc5090", 0.22
        axes.broken_barh(
            [(event["ts"] / 1e3, max(event["dur"] / 1e3, 0.01))],
            (height + inset, 1 - 2 * inset),
            facecolor=colour,
            edgecolor="white",
            linewidth=0.2,
        )
    for name in [name for name in shades if name in met]:
        axes.broken_barh([], (0, 0), facecolor=shades[name], label=f"runners: {name}")


def draw_arrows(axes: Axes, events: list[Event], rows: dict[int, tuple[float, str, str]]) -> None:
    """Draw the arrows whose both ends are on drawn tracks."""
    ends: dict[tuple[str, int], dict[str, Event]] = {}
    for event in events:
        if event["ph"] in {"s", "f"} and event["tid"] in rows:
            ends.setdefault((event["cat"], event["id"]), {})[event["ph"]] = event
    whole = {key: pair for key, pair in ends.items() if pair.keys() == {"s", "f"}}
    for (kind, _), pair in whole.items():
        source, target = ((e["ts"] / 1e3, rows[e["tid"]][0] + 0.5) for e in pair.values())
        axes.annotate(
            "",
            xy=target,
            xytext=source,
            arrowprops={"arrowstyle": "-|>", "color": ARROWS[kind], "lw": 0.6, "alpha": 0.5},
            annotation_clip=True,
        )
    for kind in sorted({kind for kind, _ in whole}):
        axes.plot([], [], color=ARROWS[kind], lw=1, label=f"arrow: {kind}")


def draw(events: list[Event], begin_ms: float, end_ms: float, path: Path) -> None:
    """Draw a window of the timeline, in milliseconds since its first slice of a runner."""
    rows = rows_of(events)
    zero = min(e["ts"] for e in events if e["ph"] == "X" and "first attempt" in e["args"])
    moved = [e | {"ts": e["ts"] - zero} for e in events if "ts" in e]
    inside = [
        e for e in moved if e["ts"] / 1e3 < end_ms and (e["ts"] + e.get("dur", 0)) / 1e3 >= begin_ms
    ]
    figure, axes = pyplot.subplots(figsize=(13, 0.27 * len(rows) + 1.6))
    draw_spans(axes, inside, rows, shades_of(events))
    draw_arrows(axes, inside, rows)
    axes.set_xlim(begin_ms, end_ms)
    axes.set_ylim(min(height for height, _, _ in rows.values()) - 0.2, 0)
    axes.set_yticks([height + 0.5 for height, _, _ in rows.values()])
    axes.set_yticklabels([text for _, _, text in rows.values()], fontsize=7)
    axes.set_xlabel("ms since the first runner")
    axes.grid(axis="x", linewidth=0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.09), ncols=8, fontsize=7, frameon=False)
    figure.savefig(path, dpi=110, bbox_inches="tight")


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trace", type=Path)
    parser.add_argument("--window", nargs=2, type=float, default=(0, 300), metavar="MS")
    parser.add_argument("--output", type=Path, default=Path("docs/images/timeline.png"))
    options = parser.parse_args()
    draw(read(options.trace), *options.window, options.output)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
