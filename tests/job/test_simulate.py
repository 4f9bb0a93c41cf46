"""What the subcommand says of runs: figures, sweeps, and how to see again what is wrong."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from dvm_mpi.dsm.home import Addressed, Home
from dvm_mpi.dsm.messages import ApplyRequested
from dvm_mpi.errors import ExitCode, UsageError
from dvm_mpi.job.simulate import run_simulations
from dvm_mpi.options import simulate_options, subcommand_parser


def simulate(words: str) -> tuple[ExitCode, str]:
    """Return the exit code and the text of a command."""
    given = subcommand_parser("simulate").parse_args(shlex.split(words))
    return run_simulations(simulate_options(given))


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


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--ranks 3", "either PROGRAM or --workload NAME"),
        ("--workload bnak", "'bnak' is none of them; there are counters"),
        ("--workload bank --faults deaths", "'deaths' is none of them"),
        ("--workload bank -D NOTHING=1", "no parameter NOTHING"),
        ("--workload synthetic -D RUNNERS=1", "LEAVES and nothing else"),
    ],
)
def test_what_is_asked_wrongly_is_refused(words: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        simulate(words)
