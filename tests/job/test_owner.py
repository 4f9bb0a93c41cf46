"""What rank 0 shows, writes and reports of a run on several ranks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dvm_mpi import config
from dvm_mpi.control.coordinator import Coordinator
from dvm_mpi.control.coordinator_state import ArmedWatcher, Complete, Failure
from dvm_mpi.control.messages import RankFailed, WorkerReady
from dvm_mpi.control.scheduler import Scheduler
from dvm_mpi.control.session import Phase
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.dsm.geometry import Geometry
from dvm_mpi.engine.interface import TrapKind
from dvm_mpi.errors import ExitCode
from dvm_mpi.io.outputs import OutputPart, Place
from dvm_mpi.io.specs import match_declarations, parse_spec
from dvm_mpi.job.owner import Owner
from dvm_mpi.layout import RANGE
from dvm_mpi.options import parse_run

PROGRAM = assemble_text(
    """        .array  numbers, sq, 3
        .text
main:   mov     $1, numbers
        exit:c
watch:  exit:a
""",
    "prog.dasm",
    {},
)
RANKS = 2
WATCHED = np.array([(PROGRAM.arrays["numbers"].address, 8)], RANGE)
WATCHER = ArmedWatcher(0x3D0_0000_1000, PROGRAM.symbols["watch"], PROGRAM.entry, WATCHED)
TRAP = Failure(
    runner_id=0x3D0_0000_0000,
    runner_entry=PROGRAM.entry,
    newr_pc=0,
    attempt=1,
    worker=1,
    trap=TrapKind.UNDECLARED,
    pc=PROGRAM.entry,
    address=0x5_0000_0000,
    instructions=1,
    operands=(),
    nearest=None,
)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def owner_of(*arguments: str) -> Owner:
    """Return the owner of a run that has begun, with a coordinator behind it."""
    options = parse_run([*arguments, "prog.dasm"])
    owner = Owner(options, RANKS)
    scheduler = Scheduler(
        Geometry(RANKS), RANKS, config.STACK_BYTES_DEFAULT, 1, workers_ready=False
    )
    scheduler.handle(WorkerReady(1))
    owner.coordinator = Coordinator(scheduler, PROGRAM, RANKS, lambda *sent: None, owner)
    specs = [parse_spec(text, "--out") for text in options.outputs]
    owner.take_program(PROGRAM, match_declarations(specs, PROGRAM.arrays))
    owner.plane = "rma"
    owner.began_at, owner.loaded_at, owner.worked_at = 1.0, 2.0, 2.5
    return owner


def make(owner: Owner, ending: Complete) -> tuple[list[Place], int]:
    """Let the owner make its files; return their places and the exit code."""
    making = owner.make_outputs(ending)
    while True:
        try:
            next(making)
        except StopIteration as made:
            places, code = made.value
            return [Place(**place) for place in json.loads(places or "[]")], code


def settle(owner: Owner, *undeclared: list[tuple[int, int]]) -> None:
    """Let all ranks have written; `undeclared` are their accesses."""
    assert owner.coordinator is not None
    for rank in range(RANKS):
        accesses = undeclared[rank] if rank < len(undeclared) else []
        figures = {"peak_memory_bytes": 1_000 * (rank + 1), "undeclared": accesses}
        owner.coordinator.session.figures[rank] = json.dumps(figures)
    assert list(owner.settle_outputs()) == [True]


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_are_in_place_only_when_all_have_written(tmp_path: Path) -> None:
    owner = owner_of("--out", "numbers=numbers.npy")
    (place,), code = make(owner, Complete(None, ()))
    assert code == ExitCode.OK
    assert "numbers.npy" not in files(tmp_path)
    with OutputPart(place) as part:
        part.write_range(0, np.array([4, 5, 6]).view(np.uint8))
        part.flush()
    settle(owner)
    assert files(tmp_path) == ["numbers.npy"]
    assert np.load(tmp_path / "numbers.npy").tolist() == [4, 5, 6]


@pytest.mark.parametrize("how", ["failed", "close"])
def test_nothing_is_left_of_files_that_were_begun(tmp_path: Path, how: str) -> None:
    owner = owner_of("--out", "numbers=numbers.npy")
    make(owner, Complete(None, ()))
    assert files(tmp_path)
    if how == "failed":
        owner.failed(RankFailed(1, ExitCode.FILE, "no"))
    else:
        owner.close()
    assert files(tmp_path) == []


def test_a_trap_is_told_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = owner_of("--out", "numbers=numbers.npy", "--quiet")
    assert make(owner, Complete(TRAP, ())) == ([], ExitCode.TRAP)
    assert files(tmp_path) == []
    told = capsys.readouterr().err
    assert told.startswith("prog.dasm:3")
    assert owner.fault == told.strip()
    settle(owner)
    assert owner.conclude(ExitCode.TRAP, 1) == ExitCode.TRAP


@pytest.mark.parametrize(
    ("options", "code", "is_told"),
    [
        ([], ExitCode.OK, True),
        (["--quiet"], ExitCode.OK, False),
        (["--quiet", "--strict-watchers"], ExitCode.WATCHERS_LEFT, True),
    ],
)
def test_watchers_that_are_left(
    capsys: pytest.CaptureFixture[str], options: list[str], code: int, is_told: bool
) -> None:
    owner = owner_of(*options)
    assert make(owner, Complete(None, (WATCHER,)))[1] == code
    settle(owner)
    assert ("prog.dasm:3" in capsys.readouterr().err) == is_told


def test_an_undeclared_access_of_several_ranks_is_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    owner = owner_of("--quiet")
    make(owner, Complete(None, ()))
    pc = PROGRAM.entry
    settle(owner, [(pc, 0x6_0000_0000)], [(pc, 0x5_0000_0000)])
    told = capsys.readouterr().err
    assert "0x500000000" in told
    assert "0x600000000" not in told


@pytest.mark.parametrize(
    ("rank", "code", "text", "told"),
    [
        (1, ExitCode.FILE, "no such file", "no such file\n  at rank 1\n"),
        (0, ExitCode.FILE, "no such file", "no such file\n  at rank 0\n"),
        (1, ExitCode.FILE, "rank 1 cannot open it", "rank 1 cannot open it\n"),
        (1, ExitCode.FILE, "rank 12 has it", "rank 12 has it\n  at rank 1\n"),
        (0, ExitCode.TERMINATED, "ended by SIGTERM", "ended by SIGTERM\n"),
        (1, ExitCode.TERMINATED, "ended by SIGTERM", "ended by SIGTERM\n  at rank 1\n"),
        (0, ExitCode.READER_GONE, "nobody reads", ""),
    ],
)
def test_a_failure_says_where(
    capsys: pytest.CaptureFixture[str], rank: int, code: int, text: str, told: str
) -> None:
    owner = owner_of("--quiet")
    owner.failed(RankFailed(rank, code, text))
    assert capsys.readouterr().err == told
    assert owner.fault == told.strip()


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "report.json"


def test_the_report_names_the_ranks_and_the_largest_of_them(report: Path) -> None:
    owner = owner_of("--quiet", "--report", str(report))
    make(owner, Complete(None, ()))
    settle(owner)
    assert owner.conclude(0, 1_500) == 0
    told = json.loads(report.read_text())
    wanted = {"ranks": RANKS, "data_plane": "rma", "workers": 1, "homes": RANKS, "exit_code": 0}
    assert {name: told[name] for name in wanted} == wanted
    assert told["peak_memory_bytes"] == 2_000
    assert (told["load_s"], told["compile_s"]) == (1, 0.5)


def test_waiting_for_compiled_code_is_none_of_the_work(report: Path) -> None:
    owner = owner_of("--quiet", "--report", str(report))
    owner.loaded_at = owner.worked_at = 0.0
    owner.kernels_s = 0.25
    coordinator = owner.coordinator
    assert coordinator is not None
    ready = coordinator.scheduler.state.ready
    ready[:] = False
    owner.note_beginnings(1.5)
    assert not owner.loaded_at, "it is being loaded yet"
    coordinator.session.phase = Phase.RUNNING
    owner.note_beginnings(2.0)
    ready[1] = True
    for now_s in (42.0, 43.0):
        owner.note_beginnings(now_s)
    owner.ended_at = 50.0
    assert owner.conclude(ExitCode.OK, 1) == ExitCode.OK
    told = json.loads(report.read_text())
    seconds = {name: told[name] for name in ("load_s", "compile_s", "work_s")}
    assert seconds == {"load_s": 0.75, "compile_s": 40.25, "work_s": 8.0}


def test_a_run_that_is_ended_while_it_waits_for_compiled_code(report: Path) -> None:
    owner = owner_of("--report", str(report))
    owner.worked_at, owner.ended_at = 0.0, 7.0
    assert owner.coordinator is not None
    owner.coordinator.session.phase = Phase.OVER
    owner.note_beginnings(9.0)
    assert owner.conclude(ExitCode.INTERRUPTED, 1) == ExitCode.INTERRUPTED
    told = json.loads(report.read_text())
    assert (told["work_s"], told["compile_s"]) == (0, 5.0)


def test_a_report_that_cannot_be_written_gives_the_code(
    report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = owner_of("--quiet", "--report", str(report))
    make(owner, Complete(None, ()))
    settle(owner)
    report.mkdir()
    assert owner.conclude(0, 1) == ExitCode.FILE
    assert "report.json" in capsys.readouterr().err
    assert owner.conclude(ExitCode.TRAP, 1) == ExitCode.TRAP, "the first reason is the better one"


def test_a_report_that_fails_does_not_keep_a_run_from_being_ended_by_force(
    report: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    owner = owner_of("--quiet", "--report", str(report))
    monkeypatch.setattr("dvm_mpi.io.report.as_json", lambda told: str(1 // 0))
    owner.report_death("rank 1 is lost", ExitCode.LOST)
    told = capsys.readouterr().err
    assert "there is no report" in told
    assert "ZeroDivisionError" in told


def test_a_run_that_never_began_has_no_summary(capsys: pytest.CaptureFixture[str]) -> None:
    owner = Owner(parse_run(["prog.dasm"]), RANKS)
    assert owner.conclude(ExitCode.FILE, 1) == ExitCode.FILE
    assert capsys.readouterr().err == ""
