"""How soon a hot loop runs translated: `python -m bench.tiers`.

A program of 5,000 instructions has a loop of 200. It is loaded into an engine, with nothing
translated (cold), and once more with what that run has left (warm); each time in a process of its
own. Told are the seconds until the engine executes, from then until the loop's first translated
instruction, and until it runs at 90 % of its final rate, in windows of 20 ms. Beside the seconds of
the clock, which others on the machine lengthen, stands the engine's processor time (load, native).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from dvm_mpi import config
from dvm_mpi.control.slices import SliceLength
from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.engine.interface import ATTEMPT, GRANT, RUN, AttemptBatch, EngineSettings, Reason
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.engine.native_code import NativeCode
from dvm_mpi.layout import PAGE_BYTES, STACKS_START, STATUS_AREAS

INSTRUCTIONS: Final = 5_000
LOOP: Final = 200
#: How long the loop runs at most, and how long once it runs translated.
RUN_S: Final = 60.0
RUN_ON_S: Final = 1.0
WINDOW_S: Final = 0.02
SHARE: Final = 0.9
_TOLD: Final = ("load_s", "load_cpu_s", "native_s", "native_cpu_s", "reached_s", "final_per_s")


def listing(seed: int) -> str:
    """Return the program: straight code, once, and then a loop without an end."""
    chance = random.Random(seed)
    names = [f"v{number}" for number in range(24)]
    floats = [f"f{number}" for number in range(8)]
    lines = [f"        .private {name}" for name in (*names, *floats)]
    lines += ["        .entry main", "        .text", f"main:   mov ${seed}, {names[0]}"]
    lines += [_line(chance, names, floats) for _ in range(INSTRUCTIONS - LOOP - 1)]
    lines += [".again:", *(_line(chance, names, floats) for _ in range(LOOP - 1))]
    lines.append("        br:j    .again")
    return "\n".join(lines) + "\n"


def _line(chance: random.Random, names: list[str], floats: list[str]) -> str:
    if chance.random() < 0.2:  # noqa: PLR2004 - a fifth are of floating point
        operation = chance.choice(("add:fd", "sub:fd", "mul:fd"))
        cells = chance.choices(floats, k=3)
    else:
        operation = chance.choice(("add", "sub", "mul", "and", "or", "xor", "min", "max"))
        cells = chance.choices(names, k=3)
    return f"        {operation} {', '.join(cells)}"


def measure(seed: int) -> dict[str, float]:
    """Run the program in this process; return its figures."""
    image = assemble_text(listing(seed), "tiers.dasm", {})
    began, used = time.perf_counter(), time.process_time()
    native = NativeCode(image, print)
    settings = EngineSettings(
        config.STACK_BYTES_DEFAULT, 0, False, config.CACHE_BYTES_DEFAULT, time.time_ns
    )
    engine = InterpEngine(settings, native)
    engine.load(image, b"")
    engine.begin(_batch(image.entry))
    loaded_s, loaded_cpu_s = time.perf_counter() - began, time.process_time() - used
    samples = list(_run(engine))
    native.close()
    loaded = {"load_s": loaded_s, "load_cpu_s": loaded_cpu_s}
    return {**loaded, **_figures(samples), **_units(native)}


def _batch(entry: int) -> AttemptBatch:
    stack = STACKS_START + PAGE_BYTES
    row = (1, STATUS_AREAS[0][0], entry, 1, stack, config.STACK_BYTES_DEFAULT, 1, 0, 0, 0, 0)
    return AttemptBatch(
        np.array([row], ATTEMPT), np.zeros(0, GRANT), np.zeros(0, RUN), np.zeros(0, np.uint8)
    )


def _run(engine: InterpEngine) -> Iterator[tuple[float, float, int, int]]:
    """Yield, after each slice, seconds so far and of them the processor's, and instructions.

    The instructions are all, and those in translated code.
    """
    slices = SliceLength()
    executed, native_s = 0, None
    began, used = time.perf_counter(), time.process_time()
    now_s = 0.0
    while now_s < (RUN_S if native_s is None else native_s + RUN_ON_S):
        fuel, before = slices.fuel, time.process_time_ns()
        stopped = engine.run(fuel)
        assert stopped.reason is Reason.SLICE_ENDED, stopped
        now_s = time.perf_counter() - began
        slices.took(fuel, stopped.instructions, (time.process_time_ns() - before) // 1_000)
        executed += stopped.instructions
        if native_s is None and engine.native_instructions:
            native_s = now_s
        yield now_s, time.process_time() - used, executed, engine.native_instructions


def _figures(samples: list[tuple[float, float, int, int]]) -> dict[str, float]:
    nowhere = float("nan"), float("nan")
    native_s, native_cpu_s = next((sample[:2] for sample in samples if sample[3]), nowhere)
    windows = []
    first_s, first = 0.0, 0
    for now_s, _, executed, _ in samples:
        if now_s - first_s >= WINDOW_S:
            windows.append((now_s, (executed - first) / (now_s - first_s)))
            first_s, first = now_s, executed
    half = len([now_s for now_s, _ in windows if now_s < native_s + RUN_ON_S / 2])
    final = statistics.median(rate for _, rate in windows[half:])
    reached_s = next(now_s for now_s, rate in windows if rate >= SHARE * final)
    return {
        "native_s": native_s,
        "native_cpu_s": native_cpu_s,
        "reached_s": reached_s,
        "final_per_s": final,
    }


def _units(native: NativeCode) -> dict[str, float]:
    figures = native.figures()
    return {"units": figures.units, "translate_s": figures.translate_s}


def _once(seed: int) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "bench.tiers", "--seed", str(seed)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return figures


def main() -> int:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="measure one program, here and now")
    options = parser.parse_args()
    if options.seed:
        print(json.dumps(measure(options.seed)))
        return 0
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors, as it begins")
    print("| cache | until it executes | its CPU | until native | its CPU | until 90 % | rate |")
    print("|---|---|---|---|---|---|---|")
    figures: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": []}
    for _ in range(options.rounds):
        # A program that nobody has run yet: what is kept of others is nothing to it.
        seed = time.time_ns() % (1 << 40)
        for each in figures.values():
            each.append(_once(seed))
    for cache, each in figures.items():
        told = [statistics.median(one[name] for one in each) for name in _TOLD]
        print(
            f"| {cache} | {' | '.join(f'{s:.3f} s' for s in told[:5])} | {told[5] / 1e9:.2f} G/s |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
