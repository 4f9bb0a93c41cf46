"""Kernels in DISA beside the same in C: `make bench-kernels`.

Each kernel is a program of one runner on one rank, and a C program of the same algorithm, types and
data layout, compiled three ways. Both time the kernel alone, some repetitions in each of some
processes, which are started in turn. Their results have the same checksum, or it ends here.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.kernels.table import KERNELS, Kernel
from bench.launch import ROOT, TIMEOUT_S, surroundings
from bench.run import OUTPUT, note
from bench.timings import (
    Timings,
    conclude,
    fastest,
    markdown,
    ratio,
    seconds_text,
    warnings,
)

FOLDER: Final = ROOT / "bench" / "kernels"
#: How C is compiled: nothing that would change the bits of a result.
FLAGS: Final = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off")
OPTIMISATIONS: Final = (("-O2",), ("-O3",), ("-O3", "-march=native"))
#: How both are told to look at the clock: C's flags, and the module that is DVM's command.
CLOCKS: Final = {
    "wall": ((), "dvm_mpi"),
    "processor": (("-DCLOCK=CLOCK_THREAD_CPUTIME_ID",), "bench.kernels.processor_time"),
}
_LINE: Final = re.compile(r"(time|checksum) (-?\d+)")


@dataclass(frozen=True, slots=True)
class Timed:
    """What one process said: seconds of its repetitions, in order, and the result's checksum."""

    seconds: tuple[float, ...]
    checksum: int


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a kernel: its name, and the command without sizes."""

    name: str
    command: tuple[str, ...]


@dataclass(slots=True)
class Compared:
    """A kernel, and the times of all ways, those in C first."""

    kernel: Kernel
    ways: list[Way]
    timings: list[Timings] = field(default_factory=list)
    checksum: int | None = None

    @property
    def best_c(self) -> Timings:
        """The fastest of C's."""
        return fastest(self.timings[: len(OPTIMISATIONS)])

    @property
    def engines(self) -> list[Timings]:
        """Those of DISA."""
        return self.timings[len(OPTIMISATIONS) :]

    def sample(self) -> None:
        """Run every way once, and check that the results are the same.

        A result that differs ends the benchmark.
        """
        for way, timings in zip(self.ways, self.timings, strict=True):
            timed = parse(run(way.command), " ".join(way.command))
            if self.checksum is None:
                self.checksum = timed.checksum
            if timed.checksum != self.checksum:
                sys.exit(f"bench: {self.kernel.title}: {way.name}: another result than in C")
            timings.add(timed.seconds)

    def as_json(self) -> dict[str, Any]:
        """Return everything about this kernel."""
        return {
            "title": self.kernel.title, "program": self.kernel.program,
            "sizes": dict(self.kernel.sizes), "aim": self.kernel.aim, "best_c": self.best_c.name,
            "ways": {timings.name: timings.as_json() for timings in self.timings},
            "ratios": {t.name: ratio(t, self.best_c) for t in self.engines},
        }  # fmt: skip


def compiler() -> str:
    """Return the C compiler: what CC names, else gcc. Without one the benchmark ends."""
    name = os.environ.get("CC", "gcc")
    found = shutil.which(name)
    if found is None:
        sys.exit(
            f"bench: no C compiler '{name}': install gcc (Debian: apt-get install gcc), or "
            "name one by CC=/path/to/it"
        )
    return found


def compiled(kernel: Kernel, sizes: Mapping[str, int], flags: Sequence[str], folder: Path) -> Path:
    """Compile a kernel's C program with sizes into a folder; return the executable's path."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [kernel.program, *(f"{name}{value}" for name, value in sizes.items()), *flags]
    target = folder / re.sub(r"[^A-Za-z0-9]+", "-", " ".join(words))
    command = [
        compiler(), *FLAGS, *flags, *_defines(sizes), str(FOLDER / f"{kernel.program}.c"),
        "-o", str(target), "-lm",
    ]  # fmt: skip
    run(command)
    return target


def ways_of(
    kernel: Kernel,
    sizes: Mapping[str, int],
    engines: Sequence[str],
    folder: Path,
    clock: str = "wall",
) -> list[Way]:
    """Return every way to run a kernel with these sizes, C's compiled; `clock` is one of CLOCKS."""
    told, module = CLOCKS[clock]
    ways = [
        Way(f"C {' '.join(flags)}", (str(compiled(kernel, sizes, (*flags, *told), folder)),))
        for flags in OPTIMISATIONS
    ]
    disa = (
        sys.executable, "-m", module, str(FOLDER / f"{kernel.program}.dasm"), *_defines(sizes),
        "--quiet", "--memory", "1G",
    )  # fmt: skip
    return ways + [Way(f"DVM {engine}", (*disa, "--engine", engine)) for engine in engines]


def _defines(sizes: Mapping[str, int]) -> list[str]:
    return [f"-D{name}={value}" for name, value in sizes.items()]


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
    """Return what a command prints, `environment` added to ours.

    One that fails ends the benchmark.
    """
    done = subprocess.run(
        command, cwd=ROOT, env=surroundings(environment or {}), stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(command)}: status {done.returncode}\n{done.stderr}")
    return done.stdout


def parse(printed: str, command: str) -> Timed:
    """Return what a kernel's program has printed; lines of any other kind end the benchmark."""
    found = [_LINE.fullmatch(line) for line in printed.splitlines()]
    kinds = [match[1] if match else "" for match in found]
    if kinds[-1:] != ["checksum"] or len(kinds) == 1 or set(kinds[:-1]) != {"time"}:
        sys.exit(f"bench: {command}: printed something else than times and a checksum:\n{printed}")
    values = [int(match[2]) for match in found if match]
    return Timed(tuple(value * 1e-9 for value in values[:-1]), values[-1])


def table(compared: Sequence[Compared]) -> str:
    """Return the results as a Markdown table: medians, and ratios to the best C."""
    rows = [("kernel", "best C", "time", "engine", "time", "ratio", "quickest", "spread", "aim")]
    for item in compared:
        best = item.best_c
        for engine in item.engines:
            by_median, by_best = ratio(engine, best)
            rows.append(
                (item.kernel.title, best.name.removeprefix("C "), seconds_text(best.median),
                 engine.name.removeprefix("DVM "), seconds_text(engine.median),
                 f"{by_median:.2f}", f"{by_best:.2f}", f"{best.apart:.0%}, {engine.apart:.0%}",
                 f"<= {item.kernel.aim}" if item.kernel.aim else "")
            )  # fmt: skip
    return markdown(rows)


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--engines", nargs="+", default=["translate"], metavar="ENGINE")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each way")
    parser.add_argument("--repeats", type=int, default=5, help="repetitions in each process")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="processor: for a machine that others use"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="kernels with this in the title")
    parser.add_argument("--output", type=Path, default=OUTPUT / "kernels.json", metavar="FILE")
    options = parser.parse_args()
    chosen = [kernel for kernel in KERNELS if options.only in kernel.title]
    if not chosen:
        sys.exit(f"bench: no kernel has '{options.only}' in its title")
    load = os.getloadavg()
    compared = []
    for kernel in chosen:
        sizes = {**kernel.sizes, "REPEATS": options.repeats}
        note(f"compiling and warming up: {kernel.title}")
        ways = ways_of(kernel, sizes, options.engines, OUTPUT / "kernels", options.clock)
        # Fills the caches of compiled code.
        for way in ways[len(OPTIMISATIONS) :]:
            run(way.command)
        compared.append(Compared(kernel, ways, [Timings(way.name) for way in ways]))
    for number in range(options.rounds):
        for item in compared:
            note(f"round {number + 1} of {options.rounds}: {item.kernel.title}")
            item.sample()
    remarks = warnings([(item.kernel.title, item.timings) for item in compared], load[0], 1)
    kernels = [item.as_json() for item in compared]
    results = {"clock": options.clock, "warnings": remarks, "kernels": kernels}
    conclude(options.output, load, results, table(compared))


if __name__ == "__main__":
    main()
