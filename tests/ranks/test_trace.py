"""`--trace` on ranks: one file of all of them, however the run ends."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from dvm_mpi.errors import ExitCode
from tests.cli.test_record import COUNTER, TRAPS
from tests.cli.test_trace import check_figures, figures
from tests.patience import PATIENCE_S
from tests.ranks.launch import ROOT, Launch, run_ranks
from tests.ranks.test_memory import SCATTERED
from tests.ranks.test_record import LARGE
from tests.traces import Event, check_trace, named, on, read_trace, total

ENDLESS = """\
        .array  counter, sq, 4
        .private i
        .text
main:   .runner child, args=(i), heap=[counter]
        add     i, $1, i
        br:l    i, $4, main
        exit:c
child:  .arguments i
        .runner child, args=(i), heap=[counter]
        exit:c
"""


def launch(rank_count: int, folder: Path) -> Launch:
    """Start a program that goes on and on."""
    (folder / "p.dasm").write_text(ENDLESS)
    command = (sys.executable, "-m", "dvm_mpi", "p.dasm", "--trace", "t.json")
    return Launch(rank_count, command, folder, {"PYTHONPATH": str(ROOT)})


def wait_for_text(path: Path, text: str, timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline, f"no {text} in {path.name}"
        time.sleep(0.05)


def ranks_in(events: list[Event]) -> set[int]:
    return {int(name.split()[1]) for name in named(events, "process_name").values()}


@pytest.mark.parametrize("plane", ["rma", "message"])
@pytest.mark.parametrize("rank_count", [1, 2, 4])
def test_all_ranks_are_in_one_timeline(tmp_path: Path, rank_count: int, plane: str) -> None:
    (tmp_path / "p.dasm").write_text(
        LARGE.replace("$2,", "$12,").replace("parts, sq, 2", "parts, sq, 12")
    )
    options = ("--trace", "t.json.gz", "--report", "r.json", "--data-plane", plane)
    ended = run_ranks(rank_count, "p.dasm", *options, folder=tmp_path)
    assert ended.code == ExitCode.OK, ended.err
    events = read_trace(tmp_path / "t.json.gz")
    check_trace(events)
    told = figures(tmp_path)
    check_figures(events, told)
    assert ranks_in(events) == set(range(rank_count))
    names = {event["name"] for event in events}
    assert {"start", "load", "prepare the engine", "write", "stage", "look up"} <= names
    applied = {s["args"]["epoch"] for s in on(events, "home") if "apply" in s["name"]}
    epochs = {s["args"]["epoch"] for s in on(events, "epochs") if "epoch" in s["args"]}
    assert epochs - applied == {2}, "only the commit of main stored nothing"
    assert sum(s["args"]["staged write sets"] for s in on(events, "worker", "i")) >= 12
    clocks = [event["args"] for event in events if event["name"] == "clock"]
    assert len({event["pid"] for event in events if event["name"] == "clock"}) == rank_count - 1
    # All ranks are on this machine, which has one clock.
    assert {clock["added us"] for clock in clocks} <= {0}
    assert (" clocks agree within " in ended.err) == (rank_count > 1)


def test_racing_runners(tmp_path: Path) -> None:
    (tmp_path / "p.dasm").write_text(COUNTER.replace("$6", "$200"))
    options = ("--trace", "t.json", "--report", "r.json")
    assert run_ranks(3, "p.dasm", *options, folder=tmp_path).code == ExitCode.OK
    events = read_trace(tmp_path / "t.json")
    check_trace(events)
    check_figures(events, figures(tmp_path))


def test_a_trap_leaves_the_timeline_of_all_ranks(tmp_path: Path) -> None:
    (tmp_path / "p.dasm").write_text(TRAPS)
    ended = run_ranks(2, "p.dasm", "--trace", "t.json", "--report", "r.json", folder=tmp_path)
    assert ended.code == ExitCode.TRAP
    events = read_trace(tmp_path / "t.json")
    check_trace(events)
    check_figures(events, figures(tmp_path))
    assert "trapped: the program ends" in {s["args"].get("fate") for s in on(events, "single")}


def test_a_failed_rank_leaves_the_timeline_of_all_ranks(tmp_path: Path) -> None:
    """A home has no frames left for an epoch: a limit that is reached long after the start."""
    options = ("--trace", "t.json", "--memory", "1M")
    ended = run_ranks(2, str(SCATTERED), *options, folder=tmp_path)
    assert ended.code == ExitCode.LIMIT, ended.err
    events = read_trace(tmp_path / "t.json")
    check_trace(events)
    assert ranks_in(events) == {0, 1}
    assert on(events, "single runners")


def test_sigterm_leaves_the_timeline_of_all_ranks(tmp_path: Path) -> None:
    with launch(3, tmp_path) as run:
        wait_for_text(tmp_path / "t.json", '"child"')
        os.kill(run.ranks()[1], signal.SIGTERM)
        ended = run.wait(PATIENCE_S)
    assert "ended by SIGTERM" in ended.err
    events = read_trace(tmp_path / "t.json")
    check_trace(events)
    assert ranks_in(events) == {0, 1, 2}


def is_of_all(events: list[Event]) -> bool:
    """Tell whether all three ranks, and a commit, are in what was written so far."""
    return ranks_in(events) == {0, 1, 2} and total(on(events, "coordinator"), "commits") > 0


def events_so_far(path: Path) -> list[Event]:
    """Return the events of all whole lines of a trace that is not complete."""
    lines = path.read_text().rpartition("\n")[0]
    events: list[Event] = json.loads((lines.removesuffix(",") or "[") + "]")
    return events


def test_a_rank_that_is_killed_leaves_what_was_written(tmp_path: Path) -> None:
    with launch(3, tmp_path) as run:
        # What a rank has not sent yet dies with it, its name too; and the others are killed then.
        wait_for_text(tmp_path / "t.json", '"child"')
        deadline = time.monotonic() + PATIENCE_S
        while not is_of_all(events_so_far(tmp_path / "t.json")):
            assert time.monotonic() < deadline, "not all ranks tell of themselves"
            time.sleep(0.2)
        os.kill(run.ranks()[1], signal.SIGKILL)
        run.wait(PATIENCE_S)
    assert is_of_all(events_so_far(tmp_path / "t.json"))
