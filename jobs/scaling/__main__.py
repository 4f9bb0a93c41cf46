"""The scaling study: `python -m jobs.scaling run` and `python -m jobs.scaling collect`.

`run` starts what has no report yet, one run after the other, and then collects; `collect` makes
`scaling.csv`, `scaling.svg` and `scaling.png` of the reports that are there. Runs that failed are
told and left out, and the exit code is 1. SIGUSR1 and SIGTERM end the run that is under way, and
begin no other; the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Final

from jobs.scaling import plan, plot
from jobs.scaling.plan import Case
from jobs.scaling.rows import (
    UnfinishedReportError,
    UnusableReportError,
    collect,
    read_row,
    write_csv,
)

ROOT: Final = Path(__file__).resolve().parents[2]
_LINES_TOLD: Final = 12
#: How long a launcher that was told to end may take.
GRACE_S: Final = 30.0


def _say(text: str) -> None:
    print(f"scaling: {text}", file=sys.stderr, flush=True)


def launch_words(launcher: str, ranks: int, nodes: int) -> list[str]:
    """Return the launcher's words, with the numbers in the places that it has for them."""
    words = shlex.split(launcher)
    return [w.replace("{ranks}", str(ranks)).replace("{nodes}", str(nodes)) for w in words]


def has_report(path: Path) -> bool:
    """Tell whether a run is done, so that it need not be repeated."""
    try:
        read_row(path)
    except UnusableReportError:
        return False
    return True


class _Launches:
    """Starts one command at a time, and ends it when this process is asked to end."""

    def __init__(self) -> None:
        self.is_asked = False
        self._running: subprocess.Popen[bytes] | None = None
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, self._end)

    def _end(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        self.is_asked = True
        if self._running is not None:
            # What launchers hand on to every rank.
            self._running.send_signal(signal.SIGUSR1)

    def run(self, command: Sequence[str], output: BinaryIO | int, timeout_s: float) -> str:
        """Run a command; return how it ended, empty if it did well."""
        try:
            self._running = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
            status = self._running.wait(timeout_s)
        except subprocess.TimeoutExpired:
            assert self._running is not None
            self._running.terminate()
            try:
                self._running.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self._running.kill()
                self._running.wait()
            return f"not ended after {timeout_s} s"
        except OSError as error:
            sys.exit(f"scaling: cannot start '{command[0]}': {error.strerror}; set --launcher")
        finally:
            self._running = None
        return f"status {status}" if status else ""


def run_case(launches: _Launches, case: Case, given: argparse.Namespace, ranks_max: int) -> bool:
    """Run one case; return whether it left a usable report. What it said is kept if not."""
    path: Path = given.folder / case.file_name
    log = path.with_suffix(".log")
    program = ROOT / "jobs" / case.job / f"{case.job}.dasm"
    defines = case.defines(given.scale, ranks_max)
    command = [
        *launch_words(given.launcher, case.ranks, case.nodes),
        *(sys.executable, "-m", "dvm_mpi", str(program), "--quiet", *shlex.split(given.options)),
        *(word for name, value in defines.items() for word in ("-D", f"{name}={value}")),
        *("--report", str(path)),
    ]
    path.unlink(missing_ok=True)
    with log.open("wb") as output:
        ending = launches.run(command, output, given.timeout)
    try:
        row = read_row(path)
    except UnusableReportError as error:
        ending = f"{ending or 'status 0'}; {error}"
    else:
        if not ending:
            log.unlink()
            _say(f"{case.file_name}: {row.work_s:.3f} s")
            return True
        path.unlink()
    said = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LINES_TOLD:]
    _say("\n  ".join([f"{case.file_name}: FAILED: {ending}; {log} ends with", *said]))
    _say(f"the command was: {shlex.join(command)}")
    return False


def run(given: argparse.Namespace) -> bool:
    """Run all cases that have no report; return whether all could."""
    sizes = sorted(set(given.ranks or plan.powers_of_two(given.ranks_max)))
    # One element of a job array runs one size; what all of them share depends on the largest.
    chosen = sizes if given.only is None else sizes[given.only : given.only + 1]
    if not chosen:
        _say(f"there is no size number {given.only}: the sizes are {sizes}")
        return True
    given.folder.mkdir(parents=True, exist_ok=True)
    todo = [
        case
        for case in plan.cases(
            chosen, given.ranks_per_node, given.repetitions, given.jobs, given.modes
        )
        if not has_report(given.folder / case.file_name)
    ]
    _say(f"{len(todo)} runs on {', '.join(map(str, chosen))} ranks; reports in {given.folder}")
    launches = _Launches()
    if todo:
        # Compiled code comes into every node's cache, so that no run is timed with it.
        widest = max(todo, key=lambda case: case.ranks)
        hello = str(ROOT / "jobs" / "hello" / "hello.dasm")
        words = launch_words(given.launcher, widest.ranks, widest.nodes)
        command = [*words, sys.executable, "-m", "dvm_mpi", hello, "--quiet"]
        launches.run(command, subprocess.DEVNULL, given.timeout)
    is_good = True
    for case in todo:
        if launches.is_asked:
            _say("asked to end: the same command goes on from here")
            return False
        is_good &= run_case(launches, case, given, sizes[-1])
    return is_good


def gather(given: argparse.Namespace) -> bool:
    """Write table and plot of all reports; return whether all were usable."""
    rows, faults = collect(given.folder)
    if getattr(given, "only", None) is not None:
        # Other elements of the array are under way, and each answers for its own runs.
        faults = [fault for fault in faults if not isinstance(fault, UnfinishedReportError)]
    for fault in faults:
        _say(f"left out: {fault}")
    if not rows:
        _say(f"{given.folder} has no reports of a study")
        return False
    write_csv(rows, given.folder / "scaling.csv")
    for (mode, job), law in plot.fits(rows).items():
        print(f"{mode} {job}: {law}")
    try:
        pictures = [given.folder / f"scaling.{suffix}" for suffix in ("svg", "png")]
        plot.draw(rows, pictures, given.note, given.processors)
    except ImportError as error:
        _say(f"not drawn: {error}; install it by `pip install -r requirements/jobs.txt`")
        return False
    _say(f"{len(rows)} runs in {given.folder}/scaling.csv, drawn in scaling.svg and scaling.png")
    return not faults


def main(arguments: Sequence[str]) -> int:
    """Run as a command; 0 if no run failed and no report had to be left out."""
    parser = argparse.ArgumentParser(prog="python -m jobs.scaling", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "collect"):
        command = commands.add_parser(name)
        command.add_argument("--folder", type=Path, required=True, help="of reports and results")
        command.add_argument(
            "--processors", type=int, default=0, help="of all nodes; beyond them ranks share"
        )
        command.add_argument("--note", default="", help="what stands below the plot")
    add = commands.choices["run"].add_argument
    add("--launcher", required=True, help="with {ranks} and {nodes} where it wants them")
    add("--ranks", type=int, nargs="+", help="sizes (default: 1, 2, 4, ... --ranks-max)")
    add("--ranks-max", type=int, default=len(os.sched_getaffinity(0)))
    add("--ranks-per-node", type=int, default=1 << 30)
    add("--only", type=int, help="only the size with this number, from 0: an array's element")
    add("--repetitions", type=int, default=3)
    add("--scale", type=float, default=1.0, help="of the problems (default: 1)")
    add("--jobs", nargs="+", choices=plan.JOBS, default=plan.JOBS)
    add("--modes", nargs="+", choices=plan.MODES, default=plan.MODES)
    add("--options", default="", help="for every run of DVM")
    add("--timeout", type=float, default=3600.0, help="seconds of one run")
    given = parser.parse_args(arguments)
    could_run = run(given) if given.command == "run" else True
    return 0 if gather(given) and could_run else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
