"""`--trace` from the command line, in one process."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dvm_mpi import config
from dvm_mpi.errors import ExitCode
from tests.cli.conftest import Command
from tests.cli.test_record import COUNTER, PROGRAM, TRAPS
from tests.traces import Event, check_trace, named, on, read_trace, total

#: A template that sees two commits of the same runner's children.
WATCHER = """\
        .array  cell, sq, 1
        .array  seen, sq, 1
        .private i
        .text
main:   .runner watch, heap=[seen], watch=[cell]
        .runner store, heap=[cell]
        exit:c
store:  add     cell, $1, cell
        exit:c
watch:  add     seen, $1, seen
        exit:cd
"""
#: What a run's parts are called when all of them are in one process.
NAMES = {pid + 1: f"worker and home {pid}" for pid in range(3)}


def figures(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "r.json").read_text())
    return told


def check_figures(events: list[Event], told: dict[str, Any]) -> None:
    """Every batch is accounted for: the trace and the report count the same."""
    decisions, records = on(events, "coordinator"), on(events, "worker", "i")
    for name in ("commits", "retries", "aborts"):
        assert total(decisions, name) == told[name], name
    assert total(records, "attempts") == total(decisions, "records")
    assert total(records, "instructions") == told["instructions"]
    ran = [span for span in on(events, "worker") if span["name"] != "prepare the engine"]
    assert total(ran, "instructions") == told["instructions"]
    assert total(on(events, "waits for pages"), "bytes") == told["bytes_fetched"]
    epochs = [span for span in on(events, "epochs") if span["name"].startswith("epoch ")]
    assert len(epochs) == told["epochs"]


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--workers", "3", "--homes", "2"),
        ("--workers", "2", "--homes", "3", "--seed", "7"),
        ("--workers", "2", "--deterministic"),
    ],
)
def test_a_timeline_accounts_for_all_that_happened(every_dvm: Command, options) -> None:
    text = COUNTER.replace("$6", "$40")
    ended = every_dvm.run(text, *options, "--trace", "t.json", "--report", "r.json")
    assert ended.code == ExitCode.OK
    events = read_trace(every_dvm.folder / "t.json")
    check_trace(events)
    check_figures(events, figures(every_dvm.folder))
    assert f"dvm: trace: {len(events):,} events in t.json; see ui.perfetto.dev" in ended.err
    assert named(events, "process_name").items() <= NAMES.items()
    runners = on(events, "single runners")
    # Every attempt that committed is there, with its label, its line, and its epoch.
    fates = Counter(span["args"].get("fate") for span in runners)
    assert fates["ordered"] == 41
    assert fates["lost"] == figures(every_dvm.folder)["retries"]
    assert {span["name"] for span in runners} == {"main", "child"}
    assert {s["args"]["ends at"] for s in runners if s["name"] == "child"} == {"p.dasm:9"}
    epochs = {span["args"]["epoch"] for span in on(events, "epochs") if "epoch" in span["args"]}
    assert {s["args"]["epoch"] for s in runners if s["args"]["fate"] == "ordered"} <= epochs
    arrows = Counter(event["cat"] for event in events if event["ph"] == "s")
    assert arrows["commit"] == 41
    assert arrows["batch"] == len({s["args"]["first attempt"] for s in on(events, "worker")})
    assert arrows["cause"] == 1, "main, whose first child is followed"


def test_the_program_does_the_same_as_without(dvm: Command) -> None:
    plain = dvm.run(PROGRAM, "--quiet", "--dump", ".")
    cells = np.load(dvm.folder / "cells.npy")
    traced = dvm.run(PROGRAM, "--quiet", "--dump", ".", "--trace", "t.json.gz")
    assert (traced.code, traced.out, traced.err) == (plain.code, plain.out, "")
    assert np.load(dvm.folder / "cells.npy").tolist() == cells.tolist()
    events = read_trace(dvm.folder / "t.json.gz")
    check_trace(events)
    assert [s["args"]["end"] for s in on(events, "single") if s["name"] == "child"].count(
        "abort"
    ) == 1


def test_what_a_watcher_was_woken_by_is_followed(dvm: Command) -> None:
    assert dvm.run(WATCHER, "--trace", "t.json").code == ExitCode.OK
    events = read_trace(dvm.folder / "t.json")
    check_trace(events)
    (woken,) = (s for s in on(events, "single") if s["name"] == "watch")
    assert woken["args"]["end"] == "commit, delete the template"
    assert Counter(e["cat"] for e in events if e["ph"] == "s")["cause"] == 2


def test_of_single_runners_every_n_th(dvm: Command) -> None:
    text = COUNTER.replace("$6", "$40")
    dvm.run(text, "--trace", "t.json", "--trace-sample", "5", "--report", "r.json")
    events = read_trace(dvm.folder / "t.json")
    check_trace(events)
    check_figures(events, figures(dvm.folder))
    attempts = [span["args"]["attempt"] for span in on(events, "single runners")]
    assert attempts
    assert all(attempt % 5 == 0 for attempt in attempts)


def test_a_trap_leaves_the_timeline_up_to_it(dvm: Command) -> None:
    ended = dvm.run(TRAPS, "--trace", "t.json", "--report", "r.json")
    assert ended.code == ExitCode.TRAP
    events = read_trace(dvm.folder / "t.json")
    check_trace(events)
    (child,) = (span for span in on(events, "single runners") if span["name"] == "child")
    assert child["args"]["fate"] == "trapped: the program ends"
    assert child["args"]["ends at"] == "p.dasm:7"
    check_figures(events, figures(dvm.folder))


def test_a_signal_leaves_the_timeline_up_to_it(
    make_command: Callable[[str], Command], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "TRACE_FLUSH_S", 0.01)
    interp = make_command("interp")

    def strike() -> None:
        """Ask this process to end, once the runner is under way."""
        path = interp.folder / "t.json"
        while not path.exists() or '"name":"main"' not in path.read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    # Where nothing is written, it ends with the tests, and the run by the limit of the test.
    threading.Thread(target=strike, daemon=True).start()
    ended = interp.run("main: br:j main\n", "--trace", "t.json")
    assert ended.code == ExitCode.TERMINATED, ended.err
    events = read_trace(interp.folder / "t.json")
    check_trace(events)
    assert total([s for s in on(events, "worker") if s["name"] == "main"], "instructions") > 0


def test_dropped_rows_are_told(dvm: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "TRACE_ROWS_MAX", 40)
    monkeypatch.setattr(config, "TRACE_FLUSH_S", 100)
    ended = dvm.run(COUNTER.replace("$6", "$40"), "--trace", "t.json")
    assert ended.code == ExitCode.OK
    events = read_trace(dvm.folder / "t.json")
    check_trace(events)
    (dropped,) = (e["args"]["rows"] for e in events if e["name"].endswith("rows dropped"))
    assert f"\n  {dropped:,} rows of 1 rank had no room and are missing" in ended.err


def test_wrong_words_are_refused_before_anything_runs(dvm: Command) -> None:
    ended = dvm.run(COUNTER, "--trace-sample", "5")
    assert ended.code == ExitCode.USAGE
    assert "--trace-sample: there is no timeline" in ended.err
    ended = dvm.run(COUNTER, "--trace", "absent/t.json")
    assert ended.code == ExitCode.FILE
    assert "--trace absent/t.json: there is no folder 'absent'" in ended.err
    ended = dvm.run(COUNTER, "--trace", "x", "--dump", ".", "--record", "x")
    assert ended.code == ExitCode.USAGE
    assert "--trace x: this collides with --record x" in ended.err
    ended = dvm.run(COUNTER, "--trace", "counter.npy", "--dump", ".")
    assert ended.code == ExitCode.USAGE
    assert not (dvm.folder / "t.json").exists()
    # A page has its figures beside it.
    ended = dvm.run(COUNTER, "--report", "run.html", "--trace", "run.json")
    assert ended.code == ExitCode.USAGE
    assert "--trace run.json: this collides with --report run.json" in ended.err
    assert not (dvm.folder / "run.json").exists()


def test_a_picture_for_documents_is_drawn(dvm: Command) -> None:
    draw_timeline = pytest.importorskip("docs.draw_timeline")
    dvm.run(COUNTER, "--trace", "t.json.gz", "--workers", "2")
    events = draw_timeline.read(dvm.folder / "t.json.gz")
    assert events == read_trace(dvm.folder / "t.json.gz")
    draw_timeline.draw(events, 0, 1e6, dvm.folder / "t.png")
    assert (dvm.folder / "t.png").read_bytes().startswith(b"\x89PNG")
