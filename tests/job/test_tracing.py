"""The trace of a run: bounded memory, and a file that takes no more is not the run's end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dvm_mpi import config
from dvm_mpi.control.journal import ROW, RowKind
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.errors import FileError
from dvm_mpi.io.trace_file import TraceFile
from dvm_mpi.job.tracing import Trace
from dvm_mpi.options import parse_run
from tests.traces import check_trace, on, read_trace

IMAGE = assemble_text("main: exit:c\n", "p.dasm", {})


def make(folder: Path) -> Trace:
    options = replace(parse_run(["p.dasm"]), trace=folder / "t.json")
    return Trace(options, IMAGE, ["rank 0 on a", "rank 1 on b"], 0)


def some(count: int, first: int = 0) -> np.ndarray:
    rows = np.zeros(count, ROW)
    rows["kind"] = RowKind.RECORD
    rows["begin"] = rows["end"] = first + np.arange(count)
    return rows


def test_rows_are_written_a_few_in_each_turn(tmp_path: Path) -> None:
    trace = make(tmp_path)
    trace.take(1, 0, some(config.TRACE_ROWS_AT_ONCE * 3 + 1))
    sizes = []
    for turn in range(6):
        trace.each_turn(float(turn))
        sizes.append((tmp_path / "t.json").stat().st_size)
    assert (np.diff(sizes) > 0).tolist() == [True] * 3 + [False] * 2
    trace.close()
    events = read_trace(tmp_path / "t.json")
    check_trace(events)
    assert len(on(events, "worker", "i")) == config.TRACE_ROWS_AT_ONCE * 3 + 1
    assert trace.summary().startswith(f"dvm: trace: {len(events):,} events in ")
    assert trace.dropped == {}


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "TRACE_QUEUE_ROWS_MAX", 100)
    trace = make(tmp_path)
    trace.take(0, 0, some(60))
    trace.take(1, 0, some(60))
    trace.take(1, 7, some(40))
    trace.take(0, 0, some(0))
    trace.close()
    trace.close()
    assert trace.dropped == {1: 67}
    assert "67 rows of 1 rank had no room and are missing" in trace.summary()
    events = read_trace(tmp_path / "t.json")
    check_trace(events)
    assert [e["args"]["rows"] for e in events if e["name"].endswith("dropped")] == [67]


def test_a_file_that_takes_no_more_ends_the_trace_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = make(tmp_path)

    def fail(file: TraceFile) -> None:
        file._abandon()
        raise FileError("--trace t.json: cannot write: No space left on device")

    monkeypatch.setattr(TraceFile, "flush", fail)
    for turn in range(3):
        trace.take(0, 0, some(10))
        trace.each_turn(float(turn))
    trace.close()
    assert capsys.readouterr().err.splitlines() == [
        "dvm: error: --trace t.json: cannot write: No space left on device",
        "  the trace ends here; the run goes on",
    ]
    assert trace.summary() == ""
