"""Programs under every tier, from the command line: the same output, and figures that say how."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command, Ended

PRIMES = Path(__file__).parents[2] / "jobs/primes/primes.dasm"
COUNT_BELOW_20_000 = "2262"
STDIN = ("--stdin", "/dev/null")


@pytest.fixture(autouse=True)
def units_of_its_own(tmp_path, monkeypatch) -> None:
    """Let translated code be kept in a folder of the test's own, which is empty."""
    from dvm_mpi.engine import unit_folder  # noqa: PLC0415

    place = tmp_path / "units"
    monkeypatch.setattr(
        unit_folder.UnitFolder,
        "of",
        classmethod(lambda cls, image, **how: cls(place / unit_folder.name_of(image, **how))),
    )


def report_of(dvm: Command, *arguments: str) -> tuple[Ended, dict[str, object]]:
    ended = dvm(str(PRIMES), "-D", "LIMIT=20000", "--report", "run.json", *STDIN, *arguments)
    assert ended.code == 0
    assert ended.out.strip() == COUNT_BELOW_20_000
    return ended, json.loads((dvm.folder / "run.json").read_text())


@pytest.mark.parametrize("modes", [[], ["--deterministic"], ["--seed", "3", "--workers", "2"]])
def test_a_program_is_translated_before_it_runs(dvm: Command, modes: list[str]) -> None:
    _, interpreted = report_of(dvm, "--engine", "interp", *modes)
    _, cold = report_of(dvm, "--engine", "translate", *modes)
    ended, warm = report_of(dvm, "--engine", "translate", *modes)
    assert interpreted["native_instructions"] == interpreted["units"] == 0
    assert cold["units_cached"] == 0
    assert warm["units_cached"] == warm["units"] == cold["units"]
    assert warm["translate_s"] == 0
    for figures in (cold, warm):
        if "--workers" not in modes:
            assert figures["instructions"] == interpreted["instructions"]
        assert isinstance(figures["native_instructions"], int)
        assert figures["native_instructions"] > 0.9 * figures["instructions"]  # type: ignore[operator]
    assert "% of the instructions, in" in ended.err
    assert "found in the cache" in ended.err


def test_known_units_are_used_without_being_hot(dvm: Command) -> None:
    report_of(dvm, "--engine", "translate")
    _, figures = report_of(dvm, "--engine", "auto")
    assert figures["native_instructions"] > 0.9 * figures["instructions"]  # type: ignore[operator]


def test_a_profile_is_taken_without_translated_code(dvm: Command) -> None:
    report_of(dvm, "--engine", "translate")
    ended, figures = report_of(dvm, "--engine", "translate", "--profile")
    assert figures["units"] == 0
    assert figures["lines"]
    assert "native" not in ended.err


@pytest.mark.parametrize("isolation", ["snapshot", "serializable"])
def test_isolation_is_kept(dvm: Command, isolation: str) -> None:
    _, figures = report_of(dvm, "--engine", "translate", "--isolation", isolation)
    assert figures["native_instructions"] > 0.9 * figures["instructions"]  # type: ignore[operator]


SIXTY = """
        .array  done, sq, 60
        .private i, cell
        .text
main:   mov     $done, cell
next:   .runner count, args=(i, cell), heap=[(cell, $8)]
        add     cell, $8, cell
        add     i, $1, i
        br:l    i, $60, next
        exit:c
count:  .arguments i, cell
        mov     $0, i
again:  add     i, $1, i
        br:l    i, $150000, again
        mov     i, (cell)
        exit:c
"""


@pytest.mark.parametrize(
    ("modes", "is_longer"), [([], True), (["--deterministic"], False), (["--seed", "3"], False)]
)
def test_batches_are_longer_where_code_is_translated(
    dvm: Command, modes: list[str], is_longer: bool
) -> None:
    """But for runs whose order should not depend on it, or be drawn as finely as possible."""
    (dvm.folder / "sixty.dasm").write_text(SIXTY)
    epochs = []
    for engine in ("interp", "translate"):
        ended = dvm("sixty.dasm", "--engine", engine, "--report", "run.json", *STDIN, *modes)
        assert ended.code == 0
        epochs.append(json.loads((dvm.folder / "run.json").read_text())["epochs"])
    assert (2 * epochs[1] < epochs[0]) == is_longer, epochs
