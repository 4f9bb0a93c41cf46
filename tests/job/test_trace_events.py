"""Rows in, events out, which keep to the format; halves of arrows come in any order."""

import json
from collections.abc import Iterable

import numpy as np
import pytest

from dvm_mpi.control.diagnosis import Narrator
from dvm_mpi.control.journal import ROW, Fate, Gauge, RowKind, Work
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.job.trace_events import Pairs, TraceEvents
from tests.traces import Event, check_trace, named, on

IMAGE = assemble_text("main: exit:c\nchild: exit:c\n", 'a"b<&\\.dasm', {})
MAIN, CHILD = IMAGE.entry, IMAGE.symbols["child"]
US = 1_000


def rows(*given: tuple[int, ...]) -> np.ndarray:
    return np.array([each + (0,) * (len(ROW.descr) - len(each)) for each in given], ROW)


def make(names: Iterable[str] = ("rank 0 on a", "rank 1 on b"), begins_ns: int = 0) -> TraceEvents:
    return TraceEvents(Narrator(IMAGE), list(names), begins_ns)


def parsed(*lines: list[str]) -> list[Event]:
    return [json.loads(line) for each in lines for line in each]


RUNNER = (RowKind.RUNNER, 100 * US, 200 * US, 6, 0x3D001000000, CHILD, 50, 0, CHILD, 3)
FATE = (RowKind.FATE, 300 * US, 300 * US, 6, Fate.ORDERED, 9, 2)
EPOCH = (RowKind.EPOCH, 250 * US, 500 * US, 9, 400 * US, 1, 8)
DECIDED = (RowKind.DECIDED, 300 * US, 310 * US, 1, 1, 1, 0, 0, 0)


def arrows(events: list[Event]) -> list[str]:
    return [event["cat"] for event in events if event["ph"] == "s"]


@pytest.mark.parametrize("is_runner_first", [True, False])
def test_a_commit_points_to_its_epoch(is_runner_first: bool) -> None:
    events = make()
    order = [(1, rows(RUNNER)), (0, rows(FATE, EPOCH))]
    told = parsed(*(events.take(*each) for each in order[:: 1 if is_runner_first else -1]))
    check_trace(told)
    (runner,) = on(told, "single runners")
    assert runner["pid"] == 2
    assert runner["args"] == {
        "attempt": 6, "runner": "0x3d001000000", "begins at": "child",
        "ends at": 'a"b<&\\.dasm:2', "end": "commit", "instructions": 50, "snapshot": 3,
        "fate": "ordered", "lost before": 2, "epoch": 9,
    }  # fmt: skip
    source, target = (e for e in told if e["ph"] in "sf")
    assert (source["ts"], source["pid"]) == (199.999, 2)
    assert (target["ts"], target["pid"]) == (300.0, 1)
    assert parsed(events.rest()) == []


def test_commits_of_an_epoch_that_is_missing_are_told_with_the_next_one() -> None:
    events = make()
    told = parsed(events.take(1, rows(RUNNER)), events.take(0, rows(FATE)))
    assert on(told, "single runners") == []
    later = (RowKind.EPOCH, 600 * US, 700 * US, 10, 650 * US, 1, 8)
    told = parsed(events.take(0, rows(later)))
    (runner,) = on(told, "single runners")
    assert (runner["args"]["fate"], runner["args"]["epoch"]) == ("ordered", 9)
    assert arrows(told) == []
    assert parsed(events.rest()) == []


@pytest.mark.parametrize(
    ("fate", "words"),
    [
        ((Fate.LOST, 7, 1), {"fate": "lost", "lost before": 1, "lost to epoch": 7}),
        ((Fate.PUBLISHED_NOTHING, 9, 0), {"fate": "published nothing", "lost before": 0}),
        ((Fate.TRAPPED, 0, 0), {"fate": "trapped: the program ends", "lost before": 0}),
    ],
)
def test_other_fates_are_told_without_an_arrow(fate, words) -> None:
    events = make()
    told = parsed(events.take(1, rows(RUNNER)), events.take(0, rows((*FATE[:4], *fate))))
    check_trace(told)
    (runner,) = on(told, "single runners")
    assert words.items() <= runner["args"].items()
    assert arrows(told) == []


def test_a_runner_whose_fate_is_not_known_is_told_at_the_end() -> None:
    events = make()
    assert on(parsed(events.take(1, rows(RUNNER)), events.take(0, rows(FATE))), "single") == []
    told = parsed(events.rest())
    check_trace(told)
    assert "fate" not in on(told, "single runners")[0]["args"]


def test_a_batch_is_followed_to_its_worker_in_any_order() -> None:
    sent = (RowKind.DISPATCHED, 300 * US, 300 * US, 1, 20, 4, 3)
    ran = (RowKind.RAN, 320 * US, 330 * US, 20, MAIN, 400, 4, 3, 10 * US, 1)
    goes_on = (RowKind.RAN, 340 * US, 350 * US, 20, MAIN, 400, 4, 3, 10 * US, 0)
    for order in ((0, 1), (1, 0)):
        events = make()
        given = {0: rows(DECIDED, sent), 1: rows(ran, goes_on)}
        told = parsed(*(events.take(rank, given[rank]) for rank in order))
        check_trace(told)
        assert arrows(told) == ["batch"]
        assert [span["name"] for span in on(told, "worker")] == ["main", "main"]


def test_what_a_commit_caused_is_followed() -> None:
    events = make()
    decided = (RowKind.DECIDED, 600 * US, 610 * US, 10, 0, 0, 0, 1, 0)
    caused = (RowKind.CAUSED, 600 * US, 600 * US, 9, 6, 33)
    told = parsed(events.take(0, rows(EPOCH, decided, caused)))
    check_trace(told)
    assert arrows(told) == ["cause"]


def test_clocks_that_differ_turn_no_arrow_round() -> None:
    sent = (RowKind.DISPATCHED, 300 * US, 300 * US, 1, 20, 4, 3)
    ran = (RowKind.RAN, 290 * US, 330 * US, 20, -1, 400, 4, 3, 10 * US, 1)
    events = make()
    told = parsed(events.take(0, rows(DECIDED, sent)), events.take(1, rows(ran)))
    check_trace(told)
    assert arrows(told) == []


def test_epochs_that_overlap_have_lanes() -> None:
    given = [
        (RowKind.EPOCH, begin * US, end * US, number, closed * US, 1, 8)
        for number, (begin, closed, end) in enumerate(
            [(0, 5, 30), (5, 10, 40), (10, 20, 41), (41, 41, 41), (50, 60, 60)], start=2
        )
    ]
    told = parsed(make().take(0, rows(*given)))
    check_trace(told)
    lanes = [
        named(told, "thread_name")[e["tid"]] for e in on(told, "epochs") if "epoch" in e["name"]
    ]
    assert [int(lane.rpartition(" ")[2]) for lane in lanes] == [1, 2, 3, 1, 1]


def test_every_kind_of_row_keeps_to_the_format() -> None:
    given = [
        RUNNER, FATE, EPOCH, DECIDED,
        (RowKind.RECORD, 10 * US, 10 * US, 3, 400, 1, 16, 0),
        (RowKind.FETCHED, 10 * US, 30 * US, 4, 8_192, 2, 1, 3),
        (RowKind.ARRIVED, 20 * US, 20 * US, 1, 2),
        (RowKind.LOOKED_UP, 10 * US, 11 * US, 1, 4, 0, 3),
        (RowKind.STAGED, 12 * US, 12 * US, 1, 70_000, 1),
        (RowKind.APPLIED, 13 * US, 15 * US, 9, 16, 1, 5),
        (RowKind.DECIDED, 15 * US, 16 * US, -1, 0, 0, 0, 0, 0),
        (RowKind.DISPATCHED, 15 * US, 15 * US, 0, 1, 1, 1),
        (RowKind.CAUSED, 15 * US, 15 * US, 1, 1, 1),
        (RowKind.RAN, 40 * US, 41 * US, 0, -1, 10, 0, 0, 500),
        *((RowKind.GAUGE, 50 * US, 50 * US, gauge, 5) for gauge in Gauge),
        *((RowKind.WORKED, at * US, at * US + 5, work) for at, work in enumerate(Work)),
        (RowKind.CLOCK, 60 * US, 60 * US, -5_000, 300),
    ]  # fmt: skip
    assert {row[0] for row in given} == set(RowKind)
    events = make(['rank 0 on "h"', "rank 1 on \n"])
    told = parsed(events.take(0, rows(*given)), events.take(1, rows(RUNNER)), events.rest())
    told += parsed(events.dropped(1, 12, 70 * US))
    check_trace(told)
    assert named(told, "process_name") == {1: 'rank 0 on "h"', 2: "rank 1 on \n"}
    assert [e["args"] for e in told if e["name"] == "12 rows dropped"] == [{"rows": 12}]
    assert events.clock_error_ns == 300


def test_what_began_before_the_trace_begins_with_it() -> None:
    started = (RowKind.WORKED, 5_000, 30_000, Work.STARTING)
    told = parsed(make(begins_ns=10_000).take(1, rows(started)))
    check_trace(told)
    (span,) = on(told, "start")
    assert (span["ts"], span["dur"]) == (0, 20)


def test_of_pairs_that_wait_the_oldest_goes() -> None:
    pairs: Pairs[str, str] = Pairs(waiting_max=2)
    assert [pairs.put_left(n, f"left {n}") for n in (1, 2)] == [(None, None)] * 2
    assert pairs.put_left(3, "left 3") == (None, "left 1")
    assert [pairs.put_right(n, f"right {n}") for n in (1, 3, 4, 5)] == [None, "left 3", None, None]
    assert pairs.put_left(1, "left 1") == (None, None)
    assert pairs.put_left(5, "left 5") == ("right 5", None)
    assert pairs.lefts() == ["left 2", "left 1"]
    assert pairs.lefts() == []
