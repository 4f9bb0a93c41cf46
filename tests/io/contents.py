"""Contents of reports that no run has made, for tests of the page."""

from __future__ import annotations

from typing import Any

ACTIVITIES = ("executing", "serving", "coordinating", "loading", "waiting", "idle")
MATRICES = ("payload_fetched", "payload_stored", "control", "messages")
HOSTILE = "</td><script>fetch('http://x')</script>&amp;\"'$x$"


def content_of(ranks: int = 4, buckets: int = 8, **fields: Any) -> dict[str, Any]:
    """Return a content with figures in every section; `fields` replace some."""
    per_row = -(-ranks // 128)
    row_count = -(-ranks // per_row)
    shares = {"executing": 600, "serving": 100, "waiting": 50, "idle": 250}
    columns = _columns(ranks, {name: shares.get(name, 0) * buckets for name in ACTIVITIES})
    over_time = {name: [[shares.get(name, 0)] * buckets] * row_count for name in ACTIVITIES}
    matrix = [[i * 10 + j for j in range(min(ranks, 64))] for i in range(min(ranks, 64))]
    content: dict[str, Any] = {
        "report_version": 3,
        "program": "jobs/kmeans/kmeans.dasm",
        "command": ["kmeans.dasm", "--report", "run.html"],
        "exit_code": 0,
        "exit_meaning": "the program ended; its outputs are written",
        "fault": "",
        "started_at": "2026-03-03T09:00:00+00:00",
        "ranks": ranks,
        "data_plane": "rma",
        "engine": "interp",
        "isolation": "snapshot",
        "conflict_unit": "byte",
        "deterministic": False,
        "seed": None,
        "startup_s": 0.5,
        "load_s": 0.25,
        "compile_s": 0.0,
        "work_s": 8.0,
        "output_s": 0.1,
        "runners": 1153,
        "commits": 1000,
        "aborts": 53,
        "traps": 0,
        "retries": 700,
        "watchers_left": 0,
        "instructions": 4_000_000_000,
        "bytes_fetched": 12_345_678,
        "bytes_committed": 999,
        "peak_memory_bytes": 210_000_000,
        "contention": [
            {"line": f"lib/k.dasm:{7 + i}", "label": "add", "entry": "add",
             "losses": 420 // (i + 1), "most": 3, "address": 4096, "name": "sums+0x8"}
            for i in range(2)
        ],
        "by_rank": columns,
        "utilisation": {
            "bucket_s": 1.0, "ranks_per_row": per_row, **over_time, "instructions": [5] * buckets,
        },
        "memory_over_time": {
            "bucket_s": 1.0,
            **{name: [10_000_000 * (b + 1) for b in range(buckets)]
               for name in ("resident_bytes", "frame_bytes", "staged_bytes")},
        },
        "runner_lengths": [
            {"entry": "add", "attempts": 1700, "instructions": 34_000, "longest": 31,
             "classes": {"0": 1, "5": 1699}},
            {"entry": "main", "attempts": 1, "instructions": 70_000, "longest": 70_000,
             "classes": {"17": 1}},
        ],
        "hot_pages": [
            {"address": 0x440000000 + 4096 * i, "name": f"sums+{4096 * i:#x}" if i else "sums",
             "fetches": 9 - i, "versions": 5, "shared": 64,
             "stored_by": ["add (k.dasm:7)", "sub (k.dasm:9)"]}
            for i in range(3)
        ],
        "traffic": dict.fromkeys(MATRICES, matrix),
        "lines": [{"line": "k.dasm:9", "text": "add a, b, a", "instructions": 900, "share": 0.9}],
        "versions": {"dvm": "0.1.0", "python": "3.11.7"},
        "host": {"name": "node0", "system": "Linux", "machine": "x86_64", "processors": 2},
    }  # fmt: skip
    return content | fields


def _columns(ranks: int, times_ms: dict[str, int]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"host": [f"node{rank // 2}" for rank in range(ranks)]}
    for name, time_ms in times_ms.items():
        columns[f"{name}_s"] = [time_ms / 1000] * ranks
    for name in ("instructions", "resident_bytes", "frame_bytes", "staged_bytes"):
        columns[name] = [1_000_000 + rank for rank in range(ranks)]
    return columns


#: As little as a report can hold: of version 1, or of a run that was killed at once.
EMPTY: dict[str, Any] = {"report_version": 1, "program": "p.dasm", "exit_code": None}
