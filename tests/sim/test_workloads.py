"""The registry of workloads: names, parameters, and words of their truths."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import pytest

from dvm_mpi.control.coordinator_state import Counters
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.sim.workloads import WORKLOADS, RunEnd
from dvm_mpi.sim.workloads.workload import PROGRAMS, Workload, differs
from tests.sim.machine import simulate


def test_every_program_is_a_workload() -> None:
    assert {workload.program for workload in WORKLOADS.values()} == set(PROGRAMS.glob("*.dasm"))


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_parameters_are_those_of_the_program(name: str) -> None:
    workload = WORKLOADS[name]
    text = workload.program.read_text(encoding="utf-8")
    written = dict(re.findall(r"^ +\.default (\w+), (\d+)", text, re.MULTILINE))
    assert written == {key: str(value) for key, value in workload.defaults.items()}


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(ValueError, match="bank has no parameter TRANSFER; it has TRANSFERS"):
        WORKLOADS["bank"].image({"TRANSFER": 3})


@pytest.mark.parametrize("name", WORKLOADS)
def test_no_truth_holds_of_a_run_that_did_nothing(name: str) -> None:
    workload = WORKLOADS[name]
    nothing = RunEnd(workload.image(), workload.parameters(), {}, b"", None, Counters())
    assert workload.truth(nothing) != []


# fmt: off
BROKEN = (
    # workload           label      index  value       what the truth says
    ("counters",         "counters",    1, 5,          "counters: [6, 5, 6], not [6, 6, 6]"),
    ("bank",             "accounts",    3, 1,          "sum of the accounts"),
    ("bank",             "accounts",    0, -5,         "below zero"),
    ("append",           "length",      0, 11,         "length: 11, not 12"),
    ("append",           "list",        3, 99,         "list, sorted"),
    ("neighbours",       "bytes",       0, 1,          "bytes"),
    ("neighbours",       "words",       1, 0,          "words"),
    ("neighbours",       "quads",       9, 0,          "quads: element 9"),
    ("one_page",         "words",       6, 0,          "numbers: element 6"),
    ("one_page",         "words",       6, (9 << 32) + 7, "neighbours"),
    ("large",            "shared",      0, 5,          "shared"),
    ("large",            "areas",      13, 77,         "area 0, dense"),
    ("large",            "areas",      95, 77 << 32,   "area 0, wide"),
    ("trap",             "counter",     0, 4,          "counter"),
    ("stale_trap",       "counter",     0, 9,          "counter: 9, not "),
    ("mix",              "notes",       1, 1 << 40,    "values that cell 0 went through"),
    ("mix",              "notes",       0, 1 << 40,    "which nobody stored"),
    ("mix",              "cells",       2, 5,          "cell 2: 5, not"),
    ("silent",           "woken",       2, 0,          "woken"),
    ("silent",           "pairs",       0, 0,          "how many of each pair have left"),
    ("long_fork",        "cells",       0, 2,          "cells"),
    ("long_fork",        "notes",      12, 99,         "long fork: one reader saw"),
    ("long_fork",        "notes",       0, 99,         "readers of chain 0 went back"),
    ("invariants",       "notes",       4, -1,         "a torn commit: 1, not 0"),
    ("invariants",       "notes",       4, 7,          "noted what nobody stored"),
    ("invariants",       "found",       2, 7,          "what was replaced, and what is left"),
    ("invariants",       "cells",       0, 1 << 32,    "tags in the cells"),
    ("sleepers",         "cells",     512, 5,          "cells"),
    ("sleepers",         "seen",        2, -1,         "torn state"),
    ("chains",           "total",       0, 5,          "total"),
    ("lines",            "cells",       7, 0,          "cells: element 2"),
    ("lines",            "notes",      12, 7,          "notes: element 7"),
    ("children",         "cells",      30, 31,         "cells: element 30"),
    ("stacks",           "done",        0, 1,          "done"),
    ("stacks",           "stacks",     18, 0,          "told"),
    ("aborts",           "cells",       0, 1,          "cells"),
    ("aborts",           "born",        0, 1,          "born"),
    ("aborts",           "told",        2, 0,          "told"),
    ("status",           "found",       3, 0,          "two places differ"),
    ("status",           "found",       0, 9,          "numbers taken"),
    ("status",           "found",       4, 9,          "pages of those that abort"),
    ("status",           "counter",     0, 9,          "counter"),
    ("watchers",         "noted",       1, 2,          "noted"),
    ("watchers",         "tries",       0, 2,          "tries"),
    ("counting_watcher", "seen",        0, 7,          "seen"),
    ("storm",            "noted",       4, 5,          "noted"),
    ("relay",            "cells",       2, 5,          "cells"),
    ("deleted",          "fired",       1, 2,          "fired"),
    ("deleted",          "cells",    8192, 1,          "cells"),
    ("tree",             "nodes",       6, 1,          "sums: element 2"),
    ("tree",             "nodes",       7, 0,          "flags: element 2"),
)
# fmt: on


@cache
def sound(name: str) -> RunEnd:
    workload = WORKLOADS[name]
    run = simulate(workload.image(), 1)
    assert run.differences == []
    end = run.end(workload.parameters())
    assert workload.wrong(end) == []
    return end


def with_word(end: RunEnd, label: str, index: int, value: int) -> RunEnd:
    """Return a run's end with one word changed that lies within one page."""
    page, offset = divmod(end.image.symbols[label] + 8 * index, PAGE_BYTES)
    content = bytearray(end.pages.get(page, bytes(PAGE_BYTES)))
    content[offset : offset + 8] = value.to_bytes(8, "little", signed=True)
    return replace(end, pages={**end.pages, page: bytes(content)})


@pytest.mark.parametrize(("name", "label", "index", "value", "said"), BROKEN)
def test_every_line_of_the_truths(name: str, label: str, index: int, value: int, said: str) -> None:
    """One word of what a sound run has left is changed, and the truth must say which."""
    told = WORKLOADS[name].wrong(with_word(sound(name), label, index, value))
    assert any(said in line for line in told), told


def test_two_that_replaced_one_value_are_a_lost_update() -> None:
    """Cell 3 is stored into by the turns 0, 1, ... in some order; one more claims to be first."""
    end = sound("mix")
    first = next(n for n in range(24) if 3 * n % 6 == 3 and end.word("notes", 3 * n + 1) != 0)
    told = WORKLOADS["mix"].wrong(with_word(end, "notes", 3 * first + 1, 0))
    assert any("lost update: in cell 3" in line for line in told), told


def test_write_skew_is_found_and_nobody_leaving_is_wrong() -> None:
    workload, end = WORKLOADS["write_skew"], sound("write_skew")
    both = with_word(with_word(end, "pairs", 6, 1), "pairs", 7, 1)
    none = with_word(with_word(end, "pairs", 6, 0), "pairs", 7, 0)
    assert "write skew: both of pair 3 have left" in workload.anomalies_in(both)
    assert workload.wrong(both) == []
    assert "write skew: both of pair 3 have left" in workload.wrong(both, isolation="serializable")
    assert workload.wrong(none) == ["nobody of pair 3 has left"]


def test_the_truths_listen_to_the_console() -> None:
    printing = (
        "counters", "bank", "trap", "sleepers", "chains", "stacks", "aborts", "watchers",
        "counting_watcher", "relay", "deleted",
    )  # fmt: skip
    for name in printing:
        end = sound(name)
        assert WORKLOADS[name].wrong(replace(end, console=end.console + b"?")) != [], name


def test_anomalies_are_told_apart_from_what_is_wrong() -> None:
    base = WORKLOADS["counters"]
    workload = Workload(
        "skewed",
        base.summary,
        base.program,
        base.defaults,
        lambda end: ["write skew: pair 3", "lost: 1"],
        frozenset({"write skew"}),
    )
    end = RunEnd(base.image(), base.parameters(), {}, b"", None, Counters())
    assert workload.wrong(end) == ["lost: 1"]
    assert workload.wrong(end, isolation="serializable") == ["write skew: pair 3", "lost: 1"]
    assert workload.anomalies_in(end) == ["write skew: pair 3"]


def test_a_difference_is_told_by_its_place() -> None:
    assert differs("cells", [1, 2], [1, 2]) == []
    assert differs("cells", [1, 2], [1, 3]) == ["cells: [1, 2], not [1, 3]"]
    assert differs("cells", [0] * 20, [0] * 19 + [7]) == ["cells: element 19 is 0, not 7"]
    assert differs("cells", b"\0" * 20, b"\0" * 19 + b"\7") == ["cells: element 19 is 0, not 7"]


def test_words_are_read_across_pages_and_from_pages_that_nobody_stored_to() -> None:
    image = WORKLOADS["append"].image()
    address = image.symbols["list"]
    assert address % 4096 == 4096 - 13
    page = address >> 12
    end = RunEnd(image, {}, {page: bytes(4091) + b"\1\2\3\4\5"}, b"", None, Counters())
    assert end.word("list", 1) == 0x0504030201
    assert end.words("list", 3) == [0, 0x0504030201, 0]
