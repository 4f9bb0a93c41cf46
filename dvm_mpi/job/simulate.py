"""`python -m dvm_mpi simulate`: runs in simulated time, of one seed or many.

The shell around `sim`: it chooses programs and engines, measures how long simulations take, writes
traces, and turns what is wrong into text that says how to see it again.
"""

from __future__ import annotations

import json
import shlex
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from dvm_mpi.control.diagnosis import Narrator
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.image_file import open_program
from dvm_mpi.disa.verifier import verify
from dvm_mpi.engine.interface import Engine
from dvm_mpi.errors import DvmError, ExitCode, FileError, UsageError
from dvm_mpi.io.report import counted
from dvm_mpi.job.parts import say
from dvm_mpi.options import SimulateOptions
from dvm_mpi.sim.faults import parse_faults
from dvm_mpi.sim.simulation import (
    ENGINE_SETTINGS,
    SimulatedRun,
    Simulation,
    judge,
    simulate,
)
from dvm_mpi.sim.synthetic import SyntheticEngine, SyntheticWork
from dvm_mpi.sim.trace import Trace
from dvm_mpi.sim.workloads import WORKLOADS, RunEnd

#: The workload that is no program.
_SYNTHETIC: Final = "synthetic"
#: Leaves of the synthetic workload for each rank, unless `-D LEAVES` says otherwise.
_LEAVES_PER_RANK: Final = 1_000
_SHOWN_MAX: Final = 10
_NS_PER_MS: Final = 1e6


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is simulated: a program, its engine, and what must hold at its end."""

    name: str
    image: Image
    make_engine: Callable[[], Engine]
    wrong: Callable[[SimulatedRun], list[str]]
    #: Whether its attempts can be executed again, to compare.
    can_replay: bool


@dataclass(slots=True)
class _Finding:
    """One simulated run, how long it took, and what is wrong with it."""

    subject: str
    seed: int
    took_s: float
    run: SimulatedRun | None
    wrong: list[str]


def run_simulations(options: SimulateOptions) -> tuple[ExitCode, str]:
    """Simulate what was asked for; return the exit code and the text for standard output.

    Raises
    ------
    UsageError, SourceError, FileError
        What was asked for is wrong.
    """
    simulation = Simulation(
        ranks=options.ranks,
        seed=options.seed,
        workers=options.workers,
        network=options.network,
        faults=parse_faults(options.faults),
        data_plane=options.data_plane,
        isolation=options.isolation,
        conflict_unit=options.conflict_unit,
        check=options.check,
        draws_fuel=options.workload != _SYNTHETIC,
    )
    findings: list[_Finding] = []
    with _trace_to(options.trace) as trace:
        for seed in range(options.seed, options.seed + options.seeds):
            for subject in _subjects(options, seed):
                found = _simulate_one(subject, replace(simulation, seed=seed), options, trace)
                findings.append(found)
                if found.wrong:
                    return ExitCode.INTERNAL, _failure(found, options)
            if options.seeds > 1 and not options.quiet:
                say(f"dvm: seed {seed}: nothing is wrong ({seed - options.seed + 1} seeds so far)")
    if options.json:
        return ExitCode.OK, json.dumps(_figures(findings))
    return ExitCode.OK, _summary(findings, options)


# --- what is simulated ---------------------------------------------------------------------------
def _subjects(options: SimulateOptions, seed: int) -> Iterator[_Subject]:
    """Yield the programs to simulate, one after the other."""
    if options.program is not None:
        image = open_program(options.program, options.defines)
        verify(image)
        yield _Subject(str(options.program), image, _engine_factory(options), _trapped, True)
        return
    names = list(WORKLOADS) if options.workload == "all" else options.workload.split(",")
    for name in names:
        yield _synthetic(options, seed) if name == _SYNTHETIC else _workload(name, options)


def _workload(name: str, options: SimulateOptions) -> _Subject:
    if name not in WORKLOADS:
        known = ", ".join([*WORKLOADS, _SYNTHETIC, "all"])
        raise UsageError(f"--workload: '{name}' is none of them; there are {known}")
    workload = WORKLOADS[name]
    try:
        given = {key: int(value, 0) for key, value in options.defines.items()}
        image, parameters = workload.image(given), workload.parameters(given)
    except ValueError as error:
        raise UsageError(f"-D: {error}") from error

    def wrong(run: SimulatedRun) -> list[str]:
        console = bytes(run.history.console) if run.history is not None else b""
        end = RunEnd(image, parameters, run.pages, console, run.failure, run.counters)
        modes = run.simulation
        return workload.wrong(end, isolation=modes.isolation, conflict_unit=modes.conflict_unit)

    return _Subject(name, image, _engine_factory(options), wrong, True)


def _synthetic(options: SimulateOptions, seed: int) -> _Subject:
    unknown = options.defines.keys() - {"LEAVES"}
    if unknown:
        raise UsageError(f"-D {min(unknown)}: the synthetic workload has LEAVES and nothing else")
    try:
        leaves = int(options.defines.get("LEAVES", _LEAVES_PER_RANK * options.ranks))
    except ValueError as error:
        raise UsageError(f"-D LEAVES: {error}") from error
    work = SyntheticWork(seed, leaves)

    def wrong(run: SimulatedRun) -> list[str]:
        contents = (np.frombuffer(content, np.int64) for content in run.pages.values())
        return work.wrong(sum(int(content.sum()) for content in contents))

    return _Subject(_SYNTHETIC, work.image(), lambda: SyntheticEngine(work), wrong, False)


def _trapped(run: SimulatedRun) -> list[str]:
    """Find nothing: a program that is not a workload has no truth of its own."""
    del run
    return []


def _engine_factory(options: SimulateOptions) -> Callable[[], Engine]:
    if options.engine == "reference":
        from dvm_mpi.engine.reference import ReferenceEngine

        return lambda: ReferenceEngine(ENGINE_SETTINGS)
    from dvm_mpi.engine.interp import InterpEngine

    return lambda: InterpEngine(ENGINE_SETTINGS)


# --- one run -------------------------------------------------------------------------------------
def _simulate_one(
    subject: _Subject, simulation: Simulation, options: SimulateOptions, trace: Trace | None
) -> _Finding:
    """Simulate and check; whatever goes wrong is a finding, the user's mistakes are not."""
    began = time.perf_counter()
    run = None
    wrong: list[str] = []
    try:
        run = simulate(
            simulation,
            subject.image,
            subject.make_engine,
            trace=trace,
            records_history=subject.can_replay,
        )
    except DvmError as error:
        wrong = [str(error)]
    except AssertionError:
        wrong = traceback.format_exc().splitlines()
    took_s = time.perf_counter() - began
    if run is not None:
        wrong = run.violations + subject.wrong(run)
        if run.history is not None and options.check != "none":
            wrong += judge(run, subject.image)
    return _Finding(subject.name, simulation.seed, took_s, run, wrong)


@contextmanager
def _trace_to(path: Path | None) -> Iterator[Trace | None]:
    """Give a trace that is written to a file, or none."""
    if path is None:
        yield None
        return
    try:
        with path.open("w", encoding="utf-8") as file:
            yield Trace(file.write)
    except OSError as error:
        raise FileError(f"cannot write {path}: {error.strerror}") from error


# --- words ---------------------------------------------------------------------------------------
def _failure(found: _Finding, options: SimulateOptions) -> str:
    """Tell what is wrong, and how to see it again."""
    lines = found.wrong[:_SHOWN_MAX] if found.run is not None else found.wrong
    more = len(found.wrong) - len(lines)
    told = [f"dvm: seed {found.seed} of {found.subject} is wrong:", *(f"  {w}" for w in lines)]
    if more > 0:
        told.append(f"  and {more} more")
    told += ["to see it again:", f"  {_command(found, options)}"]
    return "\n".join(told)


def _command(found: _Finding, options: SimulateOptions) -> str:
    what = [found.subject] if options.program is not None else ["--workload", found.subject]
    what += [word for item in options.defines.items() for word in ("-D", "=".join(item))]
    given: Mapping[str, Any] = {
        "ranks": options.ranks,
        "workers": options.workers,
        "network": options.network,
        "faults": options.faults,
        "engine": options.engine,
        "data-plane": options.data_plane,
        "isolation": options.isolation,
        "conflict-unit": options.conflict_unit,
    }
    what += [word for name, value in given.items() if value for word in (f"--{name}", str(value))]
    return shlex.join(["python", "-m", "dvm_mpi", "simulate", *what, "--seed", str(found.seed)]) + (
        " --check all --trace trace.txt"
    )


def _figures(findings: list[_Finding]) -> dict[str, Any]:
    """Return the totals of all runs, by name."""
    runs = [found.run for found in findings if found.run is not None]
    took_s = sum(found.took_s for found in findings)
    records = sum(run.records for run in runs)
    counters = [run.counters for run in runs]
    return {
        "runs": len(runs),
        "violations": sum(len(found.wrong) for found in findings),
        "simulated_ms": sum(run.simulated_ns for run in runs) / _NS_PER_MS,
        "events": sum(run.events for run in runs),
        "records": records,
        "retries": sum(c.retries for c in counters),
        "given_up": sum(c.given_up for c in counters),
        "fenced": sum(c.fenced for c in counters),
        "epochs": sum(c.epochs for c in counters),
        "bytes_committed": sum(c.bytes_committed for c in counters),
        "bytes_fetched": sum(c.bytes_fetched for c in counters),
        "took_s": took_s,
        "records_per_s": records / took_s,
    }


def _summary(findings: list[_Finding], options: SimulateOptions) -> str:
    f = _figures(findings)
    seeds = f"seed {options.seed}"
    if options.seeds > 1:
        seeds = f"seeds {options.seed} to {options.seed + options.seeds - 1}"
    names = list(dict.fromkeys(found.subject for found in findings))
    subject = names[0] if len(names) == 1 else f"{len(names)} workloads"
    head = f"{subject}, {counted(options.ranks, 'rank')}, {seeds}, delays {options.network}"
    rows = [
        ("faults", options.faults),
        ("simulated time", f"{f['simulated_ms']:,.3f} ms, {counted(f['events'], 'event')}"),
        ("records", f"{f['records']:,}, of which {f['retries']:,} lost and ran again"),
        ("given up", f"{f['given_up']:,} attempts, {f['fenced']:,} late records dropped"),
        ("epochs", f"{f['epochs']:,}"),
        ("bytes", f"{f['bytes_committed']:,} committed, {f['bytes_fetched']:,} fetched"),
        ("violations", f"none (--check {options.check})"),
        ("took", f"{f['took_s']:.2f} s, {f['records_per_s']:,.0f} records/s"),
    ]
    lines = [head, *(f"  {name:<16}{text}" for name, text in rows)]
    failure = findings[-1].run.failure if findings[-1].run is not None else None
    if failure is not None and options.program is not None:
        lines.append(Narrator(open_program(options.program, options.defines)).trap(failure))
    return "\n".join(lines)
