"""`python -m dvm_mpi simulate`: runs in simulated time, of one seed or many.

The shell around `sim`: it goes through seeds, measures how long simulations take, writes traces,
and turns what is wrong into text that says how to see it again.
"""

from __future__ import annotations

import json
import shlex
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from textwrap import indent
from typing import Any, Final

from dvm_mpi.control.contention import is_worth_telling
from dvm_mpi.control.coordinator_state import Failure
from dvm_mpi.control.diagnosis import Narrator
from dvm_mpi.errors import DvmError, ExitCode, FileError, UsageError
from dvm_mpi.io.report import counted
from dvm_mpi.job.parts import say
from dvm_mpi.job.preparation import wait_for_code
from dvm_mpi.job.subjects import SYNTHETIC, Subject, subjects
from dvm_mpi.options import SimulateOptions
from dvm_mpi.sim.faults import FAULTS, GIVING_UP, parse_faults
from dvm_mpi.sim.simulation import (
    SimulatedRun,
    Simulation,
    judge,
    simulate,
)
from dvm_mpi.sim.trace import Trace
from dvm_mpi.values import dataclass, replace

_SHOWN_MAX: Final = 10
_NS_PER_MS: Final = 1e6


@dataclass(slots=True)
class _Finding:
    """One simulated run, how long it took, and what is wrong with it."""

    subject: Subject
    seed: int
    took_s: float
    run: SimulatedRun | None
    wrong: list[str]

    @property
    def trap(self) -> Failure | None:
        """What ended a program of the user's; of a workload its truth tells whether it may."""
        return self.run.failure if self.run is not None and self.subject.is_users else None


def run_simulations(options: SimulateOptions) -> tuple[ExitCode, str]:
    """Simulate what was asked for; return the exit code and the text for standard output.

    Raises
    ------
    UsageError, SourceError, FileError
        What was asked for is wrong.
    """
    simulation = _simulation(options)
    wait_for_code(options.engine, say)
    code = ExitCode.OK
    findings: list[_Finding] = []
    with _trace_to(options.trace) as trace:
        for seed in range(options.seed, options.seed + options.seeds):
            for subject in subjects(options, seed):
                found = _simulate_one(subject, replace(simulation, seed=seed), options, trace)
                findings.append(found)
                if found.wrong:
                    return ExitCode.INTERNAL, _failure(found, options)
                if found.trap is not None:
                    say(_trapped(found, found.trap, options))
                    code = ExitCode.TRAP
            if code is not ExitCode.OK:
                break
            if options.seeds > 1 and not options.quiet:
                say(f"dvm: seed {seed}: nothing is wrong ({seed - options.seed + 1} seeds so far)")
    return code, json.dumps(_figures(findings)) if options.json else _summary(findings, options)


def _simulation(options: SimulateOptions) -> Simulation:
    """Return what is simulated with the first seed."""
    faults = parse_faults(options.faults)
    if options.deterministic and faults & GIVING_UP:
        others = ",".join(name for name in FAULTS if name in faults - GIVING_UP) or "none"
        raise UsageError(
            "--deterministic: rounds wait for every attempt, and cannot do without one that is "
            f"given up; leave out suspect and death: --faults {others}"
        )
    if options.deterministic and SYNTHETIC in options.workload.split(","):
        raise UsageError("--deterministic: the synthetic workload has no addresses by place")
    return Simulation(
        ranks=options.ranks,
        seed=options.seed,
        workers=options.workers,
        network=options.network,
        faults=faults,
        data_plane=options.data_plane,
        isolation=options.isolation,
        conflict_unit=options.conflict_unit,
        deterministic=options.deterministic,
        leaders=options.leaders,
        check=options.check,
        draws_fuel=options.workload != SYNTHETIC,
    )


# --- one run -------------------------------------------------------------------------------------
def _simulate_one(
    subject: Subject, simulation: Simulation, options: SimulateOptions, trace: Trace | None
) -> _Finding:
    """Simulate and check; whatever goes wrong is a finding, the user's mistakes are not.

    Raises
    ------
    LimitError
        A program of the user's has reached a limit.
    """
    began = time.perf_counter()
    run = None
    wrong: list[str] = []
    try:
        run = simulate(
            simulation,
            subject.image,
            subject.make_engine,
            inputs=subject.inputs,
            trace=trace,
            records_history=subject.can_replay,
        )
    except DvmError as error:
        if subject.is_users:
            raise
        wrong = [str(error)]
    except AssertionError:
        wrong = traceback.format_exc().splitlines()
    took_s = time.perf_counter() - began
    if run is not None:
        wrong = run.violations + subject.wrong(run)
        if run.history is not None and options.check != "none":
            wrong += judge(run, subject.image, subject.inputs)
    return _Finding(subject, simulation.seed, took_s, run, wrong)


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
    told = [f"dvm: seed {found.seed} of {found.subject.name} is wrong:", *(f"  {w}" for w in lines)]
    if more > 0:
        told.append(f"  and {more} more")
    told += ["to see it again:", f"  {_command(found, options)}"]
    return "\n".join(told)


def _trapped(found: _Finding, failure: Failure, options: SimulateOptions) -> str:
    """Tell of a trap as a run does, and how to see it again if there was a choice of seeds."""
    told = Narrator(found.subject.image).trap(failure)
    if options.seeds == 1:
        return told
    return f"{told}\n  at seed {found.seed}; to see it again:\n  {_command(found, options)}"


def _command(found: _Finding, options: SimulateOptions) -> str:
    name = found.subject.name
    what = [name] if found.subject.is_users else ["--workload", name]
    what += [word for item in options.defines.items() for word in ("-D", "=".join(item))]
    what += [word for text in options.inputs for word in ("--in", text)]
    what += ["--deterministic"] if options.deterministic else []
    what += ["--leaders", str(options.leaders)] if options.leaders is not None else []
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


def _most_contended(findings: list[_Finding]) -> _Finding:
    """Return the run in which most attempts lost, the first of these."""
    return max(findings, key=lambda f: 0 if f.run is None else f.run.counters.retries)


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
        "rank_0_received": sum(run.traffic.received for run in runs),
        "rank_0_sent": sum(run.traffic.sent for run in runs),
        "rank_0_decided": sum(run.traffic.decided for run in runs),
        "bytes_committed": sum(c.bytes_committed for c in counters),
        "bytes_fetched": sum(c.bytes_fetched for c in counters),
        "contention": _contention(_most_contended(findings)),
        "took_s": took_s,
        "records_per_s": records / took_s,
    }


def _contention(found: _Finding) -> list[dict[str, Any]]:
    """Return where attempts of one run lost, as a report has it."""
    sites = () if found.run is None else found.run.contention
    return [asdict(line) for line in Narrator(found.subject.image).contended(sites)]


def _summary(findings: list[_Finding], options: SimulateOptions) -> str:
    f = _figures(findings)
    first, last = findings[0].seed, findings[-1].seed
    seeds = f"seed {first}" if first == last else f"seeds {first} to {last}"
    names = list(dict.fromkeys(found.subject.name for found in findings))
    subject = names[0] if len(names) == 1 else f"{len(names)} workloads"
    head = f"{subject}, {counted(options.ranks, 'rank')}, {seeds}, delays {options.network}"
    rows = [
        ("faults", options.faults),
        ("simulated time", f"{f['simulated_ms']:,.3f} ms, {counted(f['events'], 'event')}"),
        ("records", f"{f['records']:,}, of which {f['retries']:,} lost and ran again"),
        ("given up", f"{f['given_up']:,} attempts, {f['fenced']:,} late records dropped"),
        ("epochs", f"{f['epochs']:,}"),
        (
            "rank 0",
            f"{f['rank_0_received']:,} messages received and {f['rank_0_sent']:,} sent, "
            f"{f['rank_0_decided']:,} decisions",
        ),
        ("bytes", f"{f['bytes_committed']:,} committed, {f['bytes_fetched']:,} fetched"),
        ("violations", f"none (--check {options.check})"),
        ("took", f"{f['took_s']:.2f} s, {f['records_per_s']:,.0f} records/s"),
    ]
    lines = [head, *(f"  {name:<16}{text}" for name, text in rows)]
    most = _most_contended(findings)
    if most.run is not None and is_worth_telling(most.run.counters.retries, most.run.records):
        told = Narrator(most.subject.image).contention(most.run.contention)
        lines += [
            f"most attempts lost in {most.subject.name}, seed {most.seed}:",
            indent(told, "  "),
        ]
    return "\n".join(lines)
