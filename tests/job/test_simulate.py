"""What the subcommand says of runs: figures, sweeps, and how to see again what is wrong."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from dvm_mpi.dsm.home import Addressed, Home
from dvm_mpi.dsm.messages import ApplyRequested
from dvm_mpi.errors import ExitCode, LimitError, UsageError
from dvm_mpi.job.simulate import run_simulations
from dvm_mpi.options import SimulateOptions, simulate_options, subcommand_parser


def simulate(words: str) -> tuple[ExitCode, str]:
    """Return the exit code and the text of a command."""
    given = subcommand_parser("simulate").parse_args(shlex.split(words))
    options = simulate_options(given)
    assert isinstance(options, SimulateOptions)
    return run_simulations(options)


def test_figures_of_a_sweep() -> None:
    code, text = simulate("--workload counters,append --ranks 4 --seed 3 --seeds 2 --json --quiet")
    figures = json.loads(text)
    assert code == ExitCode.OK
    assert (figures["runs"], figures["violations"]) == (4, 0)
    assert figures["records"] > 2 * (18 + 12)
    assert figures["records_per_s"] > 0


def test_a_summary_in_words(tmp_path: Path) -> None:
    program = tmp_path / "add.dasm"
    program.write_text(
        "        .bss\nx:      .space  N\n        .text\nmain:   mov $1, x\n        exit:c\n"
    )
    trace = tmp_path / "trace.txt"
    code, text = simulate(f"{program} -D N=8 --ranks 2 --faults pause --trace {trace}")
    assert code == ExitCode.OK
    assert text.startswith(f"{program}, 2 ranks, seed 1, delays exponential\n")
    assert "records         1, of which 0 lost" in text
    assert "worker.0 executed" in trace.read_text()


def test_synthetic_runners() -> None:
    code, text = simulate("--workload synthetic -D LEAVES=300 --ranks 9 --check none")
    assert code == ExitCode.OK
    assert "violations      none (--check none)" in text


def test_what_is_wrong_is_told_with_the_command_that_shows_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(self: Home, event: ApplyRequested) -> tuple[Addressed, ...]:
        return ()

    monkeypatch.setattr(Home, "_take_epoch", never)
    code, text = simulate("--workload counters -D RUNNERS=3 --ranks 3 --seed 8 --faults slow")
    assert code == ExitCode.INTERNAL
    assert text.startswith("dvm: seed 8 of counters is wrong:")
    assert "StalledError: nothing can happen" in text
    assert "simulate --workload counters -D RUNNERS=3 --ranks 3" in text
    assert text.endswith("--seed 8 --check all --trace trace.txt")


COUNTER = """
        .array  total, sq, 1
        .private i
        .text
main:   .runner count, heap=[($total, $8)]
        add     i, $1, i
        br:l    i, $60, main
        exit:c
count:  add     total, $1, total
        exit:c
"""


def written(folder: Path, text: str) -> Path:
    program = folder / "p.dasm"
    program.write_text(text)
    return program


def test_where_most_attempts_lost_is_told(tmp_path: Path) -> None:
    program = written(tmp_path, COUNTER)
    code, text = simulate(f"{program} --ranks 4 --seeds 2 --quiet")
    assert code == ExitCode.OK
    assert f"most attempts lost in {program}, seed " in text
    assert f"{program}:10 (in count): " in text
    assert "others had stored to total (0x440000000)" in text
    code, text = simulate(f"{program} --ranks 4 --json")
    figures = json.loads(text)
    (row,) = figures["contention"]
    assert (row["losses"], row["name"]) == (figures["retries"], "total")


@pytest.mark.parametrize("json", ["", "--json"])
def test_a_program_that_traps_ends_as_in_a_run(
    tmp_path: Path, json: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = COUNTER.replace("count:  add", "count:  div total, $0, total\n        add")
    program = written(tmp_path, text)
    code, text = simulate(f"{program} --ranks 3 --seed 4 --seeds 3 {json}")
    assert code == ExitCode.TRAP
    assert "division" not in text, "it is told on standard error"
    told = capsys.readouterr().err
    assert f"{program}:9: trap: division by zero" in told
    assert "at seed 4; to see it again:" in told
    assert "seed 5" not in told


def test_a_trap_that_a_workload_has_on_purpose_is_no_trap_of_ours() -> None:
    code, _ = simulate("--workload trap --ranks 3")
    assert code == ExitCode.OK


def test_a_limit_that_a_program_reaches_is_its_own_matter(tmp_path: Path) -> None:
    """A simulated home has 64 MiB; this array has a page more."""
    words = 8 * 1024 * 1024 + 512
    program = written(tmp_path, COUNTER.replace("sq, 1\n", f"sq, {words}\n"))
    np.save(tmp_path / "total.npy", np.zeros(words, dtype=np.int64))
    with pytest.raises(LimitError, match="shared memory of a home is full"):
        simulate(f"{program} --ranks 1 --in total={tmp_path / 'total.npy'}")


@pytest.mark.parametrize("engine", ["reference", "interp"])
def test_inputs_are_loaded_and_replayed(tmp_path: Path, engine: str) -> None:
    """The program traps unless the sum is right; the replay knows what was loaded."""
    program = written(
        tmp_path,
        """
        .array  data, sq, 1000
        .private at, sum
        .text
main:   mov     $data, at
.next:  add     sum, (at), sum
        add     at, $8, at
        br:l    at, $data + 8000, .next
        br:e    sum, $499500, .right
        div     sum, $0, sum
.right: exit:c
""",
    )
    np.save(tmp_path / "data.npy", np.arange(1000))
    words = f"{program} --in data={tmp_path / 'data.npy'} --ranks 3 --faults all --check all"
    code, text = simulate(f"{words} --engine {engine}")
    assert code == ExitCode.OK
    assert "violations      none" in text


def test_deterministic_runs_are_right(tmp_path: Path) -> None:
    """Of those that lost over one cell one goes at a time, so each loses once."""
    words = f"{written(tmp_path, COUNTER)} --deterministic --faults slow,pause,arena,frames"
    for ranks in (2, 9):
        code, text = simulate(f"{words} --ranks {ranks} --json")
        assert code == ExitCode.OK
        assert json.loads(text)["retries"] == 59


def test_deterministic_runs_have_no_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "main:   mov $7, syscall_number\n        int 0x80\n        exit:c\n"
    assert simulate(f"{written(tmp_path, text)} --ranks 2 --deterministic")[0] == ExitCode.TRAP
    assert "gettime has no time to give" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--ranks 3", "either PROGRAM or --workload NAME"),
        ("--workload bnak", "'bnak' is none of them; there are counters"),
        ("--workload bank --faults deaths", "'deaths' is none of them"),
        ("--workload bank -D NOTHING=1", "no parameter NOTHING"),
        ("--workload synthetic -D RUNNERS=1", "LEAVES and nothing else"),
        ("--workload bank --in a=a.npy", "only a PROGRAM has"),
        ("--workload bank --deterministic --faults all", "--faults slow,pause,arena,frames"),
        ("--workload bank --deterministic --faults death", "--faults none"),
        ("--workload synthetic --deterministic", "no addresses by place"),
    ],
)
def test_what_is_asked_wrongly_is_refused(words: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        simulate(words)
