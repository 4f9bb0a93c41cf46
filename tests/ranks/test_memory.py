"""What memory ranks take: little for much address space, and what `estimate` says for arrays."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dvm_mpi.errors import ExitCode
from tests.patience import PATIENCE_S
from tests.ranks.big import PROGRAM, expected
from tests.ranks.launch import ROOT, Ended, Launch

SCATTERED = ROOT / "tests" / "cli" / "programs" / "scattered.dasm"
PEAK_BYTES_MAX = 250_000_000
#: 32 MiB of words.
WORDS = 1 << 22


@pytest.mark.parametrize("plane", ["rma", "message"])
def test_words_all_over_the_address_space_take_little(
    dvm: Callable[..., Ended], tmp_path: Path, plane: str
) -> None:
    ended = dvm(4, str(SCATTERED), "--data-plane", plane, "--report", "report.json")
    assert (ended.code, ended.out) == (0, "1000\n"), ended.err
    report = json.loads((tmp_path / "report.json").read_text())
    assert 0 < report["peak_memory_bytes"] <= PEAK_BYTES_MAX


@pytest.mark.parametrize("rank_count", [0, 2])
@pytest.mark.parametrize("engine", ["auto", "interp"])
def test_few_addresses_are_enough_for_the_reference(
    tmp_path: Path, rank_count: int, engine: str
) -> None:
    """Who asks for a fast engine by name is told what is in the way instead."""
    program = str(ROOT / "jobs" / "hello" / "hello.dasm")
    code = (
        "import sys; from dataclasses import replace; from dvm_mpi import cli, errors\n"
        "from dvm_mpi.options import parse_run\n"
        f"try: sys.exit(cli._run(replace(parse_run([{program!r}]), engine={engine!r})))\n"
        "except errors.DvmError as error: print(error.message, file=sys.stderr); sys.exit(6)\n"
    )
    bounded = ("sh", "-c", 'ulimit -v 8000000; exec "$0" "$@"', sys.executable, "-c", code)
    with Launch(rank_count, bounded, tmp_path, {"PYTHONPATH": str(ROOT)}) as launch:
        ended = launch.wait(PATIENCE_S)
    assert "7,812 MiB of address space (ulimit -v)" in ended.err
    if engine == "auto":
        assert (ended.code, ended.out) == (0, "Hello from the DVM!\n"), ended.err
        assert ended.err.count("reference engine") == 1
    else:
        assert (ended.code, ended.out) == (ExitCode.LIMIT, ""), ended.err


def test_what_estimate_recommends_is_enough(dvm: Callable[..., Ended], tmp_path: Path) -> None:
    """And with half of what the array takes of each rank, nothing begins."""
    define = ("-D", f"N={WORDS}")
    asked = dvm(0, "estimate", str(PROGRAM), *define, "-n", "4", "--json", "sizes.json")
    assert asked.code == 0, asked.err
    sizes = json.loads((tmp_path / "sizes.json").read_text())
    ended = dvm(4, str(PROGRAM), *define, "--memory", str(sizes["memory_bytes"]))
    assert (ended.code, ended.out) == (0, expected(WORDS)), ended.err
    refused = dvm(4, str(PROGRAM), *define, "--memory", str(WORDS))
    assert refused.code == ExitCode.LIMIT, refused.err
    assert refused.out == ""
    assert "does not fit: each of the 4 homes needs 8." in refused.err
    assert "data 32.0 MiB" in refused.err
