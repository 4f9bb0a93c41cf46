"""Kernels: DISA and C have the same results, and what they print is understood."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.kernels.run import (
    FOLDER,
    OPTIMISATIONS,
    Compared,
    Way,
    compiled,
    compiler,
    parse,
    run,
    table,
    ways_of,
)
from bench.kernels.table import KERNELS, Kernel
from bench.timings import Timings

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")


@needs_gcc
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.title)
def test_every_way_has_the_same_result(kernel: Kernel, tmp_path: Path) -> None:
    ways = ways_of(kernel, {**kernel.small, "REPEATS": 3}, ["interp"], tmp_path)
    compared = Compared(kernel, ways, [Timings(way.name) for way in ways])
    compared.sample()
    assert compared.checksum not in (None, 0)
    assert [timings.name for timings in compared.engines] == ["DVM interp"]
    assert compared.best_c.name in [f"C {' '.join(flags)}" for flags in OPTIMISATIONS]
    assert all(len(timings.samples) == 1 for timings in compared.timings)
    assert kernel.title in table([compared])
    assert set(compared.as_json()["ratios"]) == {"DVM interp"}


@needs_gcc
@pytest.mark.slow
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.title)
def test_native_code_has_the_result_of_c(kernel: Kernel, tmp_path: Path) -> None:
    ways = ways_of(kernel, {**kernel.small, "REPEATS": 3}, ["translate"], tmp_path)
    Compared(kernel, ways, [Timings(way.name) for way in ways]).sample()


@needs_gcc
def test_processor_time_gives_the_same_result(tmp_path: Path) -> None:
    kernel = KERNELS[0]
    ways = ways_of(kernel, {**kernel.small, "REPEATS": 2}, ["interp"], tmp_path, "processor")
    assert "bench.kernels.processor_time" in ways[-1].command
    Compared(kernel, ways, [Timings(way.name) for way in ways]).sample()


@needs_gcc
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.title)
def test_sizes_are_those_that_both_programs_know(kernel: Kernel) -> None:
    assert set(kernel.small) <= set(kernel.sizes)
    text = (FOLDER / f"{kernel.program}.c").read_text()
    for name in kernel.sizes:
        # A -D that no program uses would go unnoticed in C; the assembler refuses it.
        assert f"#ifndef {name}\n" in text


@needs_gcc
def test_checksum_depends_on_the_result(tmp_path: Path) -> None:
    kernel = next(kernel for kernel in KERNELS if kernel.program == "sort")
    checksums = {
        parse(run([str(compiled(kernel, {"N": n}, ["-O2"], tmp_path))]), "sort").checksum
        for n in (3_000, 3_002)
    }
    assert len(checksums) == 2


def test_result_that_differs_ends_the_benchmark() -> None:
    ways = [
        Way("C -O2", ("echo", "time 5\nchecksum 7")),
        Way("DVM x", ("echo", "time 5\nchecksum 8")),
    ]
    compared = Compared(KERNELS[0], ways, [Timings(way.name) for way in ways])
    with pytest.raises(SystemExit, match="primes: DVM x: another result than in C"):
        compared.sample()


@pytest.mark.parametrize(
    "printed",
    [
        "",
        "time 5\n",
        "checksum 5\n",
        "checksum 5\ntime 5\n",
        "time x\nchecksum 5\n",
        "time 5\nhm\nchecksum 5\n",
    ],
)
def test_other_output_ends_the_benchmark(printed: str) -> None:
    with pytest.raises(SystemExit, match="sort: printed something else"):
        parse(printed, "sort")


def test_output_is_understood() -> None:
    timed = parse("time 1000\ntime 2500\nchecksum -3\n", "sort")
    assert timed.seconds == pytest.approx((1e-6, 2.5e-6))
    assert timed.checksum == -3


def test_missing_compiler_is_one_clear_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(SystemExit, match="no C compiler 'gcc': install gcc"):
        compiler()


def test_command_that_fails_ends_the_benchmark() -> None:
    with pytest.raises(SystemExit, match="bench: false: status 1"):
        run(["false"])
