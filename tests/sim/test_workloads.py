"""The registry of workloads: names, parameters, and words of their truths."""

from __future__ import annotations

import re

import pytest

from dvm_mpi.control.coordinator_state import Counters
from dvm_mpi.sim.workloads import WORKLOADS, RunEnd
from dvm_mpi.sim.workloads.workload import PROGRAMS, Workload, differs


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
