"""Limits of one process, and what is said of them."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dvm_mpi.engine import address_space
from dvm_mpi.errors import ExitCode, LimitError
from dvm_mpi.launch import limits
from dvm_mpi.launch.finding import Level, refuse

NONE = limits.ProcessLimits(None, None, None, 0)


def test_addresses_are_counted_as_they_are_reserved() -> None:
    reserved = sum(length for _, length, _ in address_space._PARTS)
    assert abs(limits.ADDRESS_SPACE_BYTES - reserved) < 1 << 40


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (replace(NONE, address_bytes=64 << 40), "67,108,864 MiB of address space (ulimit -v)"),
        (replace(NONE, overcommit=2), "vm.overcommit_memory is 2"),
    ],
)
def test_too_few_addresses_stop_a_run(given: limits.ProcessLimits, told: str) -> None:
    finding = limits.check_address_space(given)
    assert told in finding.what
    assert finding.remedy
    with pytest.raises(LimitError) as caught:
        refuse([finding])
    assert str(caught.value) == finding.text
    assert caught.value.exit_code is ExitCode.LIMIT


@pytest.mark.parametrize("overcommit", [-1, 0, 1])
def test_enough_addresses_are_good(overcommit: int) -> None:
    given = replace(NONE, address_bytes=82 << 40, overcommit=overcommit)
    finding = limits.check_address_space(given)
    assert finding.level is Level.GOOD
    refuse([finding])


@pytest.mark.parametrize(
    "given", [replace(NONE, address_bytes=1 << 40), replace(NONE, overcommit=2)]
)
def test_without_addresses_the_reference_executes_what_was_left_to_us(
    given: limits.ProcessLimits,
) -> None:
    engine, remark = limits.engine_within("auto", given)
    assert engine == "reference"
    assert "\n" not in remark, "one line"
    assert limits.check_address_space(given).remedy in remark
    for asked in ("interp", "translate", "reference"):
        assert limits.engine_within(asked, given) == (asked, ""), "who asks is refused"
    assert limits.engine_within("auto", NONE) == ("auto", "")


def test_limits_are_read_off_the_process() -> None:
    code = "from dvm_mpi.launch import limits; print(limits.measure())"
    line = f'ulimit -v 8388608; ulimit -n 77; exec "{sys.executable}" -c "{code}"'
    told = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("ProcessLimits(address_bytes=8589934592, open_files=77,")


def test_the_kernels_rule_is_read(tmp_path: Path) -> None:
    assert limits.measure(tmp_path).overcommit == -1
    (tmp_path / "sys/vm").mkdir(parents=True)
    (tmp_path / "sys/vm/overcommit_memory").write_text("2\n")
    assert limits.measure(tmp_path).overcommit == 2


def test_files_and_processes_are_counted_by_rank() -> None:
    few = replace(NONE, open_files=1024, processes=100)
    assert limits.check_open_files(few, 256).level is Level.GOOD
    assert limits.check_open_files(few, 4096).level is Level.SLOW
    assert limits.check_open_files(NONE, 4096).level is Level.GOOD
    assert limits.check_processes(few, 4, 2).level is Level.GOOD
    assert limits.check_processes(few, 64, 64).level is Level.SLOW
    assert limits.check_processes(NONE, 64, 64).level is Level.GOOD


def test_threads_of_libraries_are_counted_by_node() -> None:
    assert limits.check_threads(2, 4, 2, "OMP_NUM_THREADS not set").level is Level.GOOD
    many = limits.check_threads(64, 64, 64, "OMP_NUM_THREADS not set")
    assert many.level is Level.SLOW
    assert "4,096 on a node of 64 cores" in many.what
