"""The report of one run: a JSON file for programs, a few lines for people.

`page.py` makes a page of the file. The report only holds and shows figures; whoever runs the job
measures them. It knows no clock.
"""

from __future__ import annotations

import errno
import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dvm_mpi import __version__
from dvm_mpi.errors import EXIT_CODE_MEANINGS, ExitCode, FileError
from dvm_mpi.io.traffic import Traffic
from dvm_mpi.values import dataclass, field

#: Layout of the file; a number more when a field changes its meaning or goes away.
REPORT_VERSION = 3
#: How a run ended that has written no end.
UNFINISHED = "the run goes on; if it does not any more, it was ended from outside"
_PREFIXES = ("", "k", "M", "G", "T", "P")
#: Shorter waits for compiled code are not told in the summary.
_COMPILE_TOLD_S = 0.1
#: What `page.py` needs: the extra `report`.
PAGE_PACKAGES = ("jinja2", "matplotlib")
_PACKAGES = ("numpy", "numba", "llvmlite", "h5py")


@dataclass(frozen=True, slots=True)
class ContendedLine:
    """One place in a program where attempts lost; the file has the same names."""

    #: `file:line` of the `exit` or trap, and its nearest label.
    line: str
    label: str
    #: Where the runners begin, as a label.
    entry: str
    #: Attempts that lost there, and the highest number of losses of one runner.
    losses: int
    most: int
    #: A byte that another one had stored first, and its name in the program, empty if it has none.
    address: int
    name: str


@dataclass(frozen=True, slots=True)
class ProfiledLine:
    """One source line of a profile; the file has the same names."""

    #: `file:line`, its nearest label, and what stands there.
    line: str
    label: str
    text: str
    #: Executed there by all attempts, and their share of all.
    instructions: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What one run did. Times are seconds, sizes bytes; the file has the same names."""

    #: The program file, the command line, and the exit code of the process; null while the run goes
    #: on: a file with that was left by a run that was ended from outside.
    program: str
    command: tuple[str, ...]
    exit_code: int | None
    #: Why the run ended before its time, as it was told; empty if it did not.
    fault: str = ""
    #: When the process began, ISO 8601 with the offset from UTC.
    started_at: str
    #: Ranks of the job, 1 without a launcher, and how bytes move between them: "rma" through
    #: windows, "message" within messages; "none" inside one process.
    ranks: int = 1
    data_plane: str = "none"
    #: "auto", "interp", "translate" or "reference", and how many workers executed and homes held
    #: memory.
    engine: str
    workers: int
    homes: int
    #: The seed of the driver's order; None for the default order.
    seed: int | None
    #: Whether memory and output are the same on any number of ranks, and every time.
    deterministic: bool
    #: Where runners went: as the option says it. A deterministic run, and one of a single rank,
    #: send them wherever there is room.
    placement: str = "load"
    #: What concurrent runners may see, and what two of them must not both store: as the options
    #: say it.
    isolation: str
    conflict_unit: str

    #: From the start of the process to the first work on the program: imports and checks.
    startup_s: float
    #: Assembling, and loading program and inputs.
    load_s: float
    #: Waiting for code of DVM itself that was compiled for the cache; about 0 once it is there.
    compile_s: float
    #: First dispatch to last publish, loading and compiling excluded.
    work_s: float
    #: Writing the outputs.
    output_s: float

    #: Runners created, watcher instances included, templates not.
    runners: int
    #: Attempts that committed, aborted by themselves, trapped, or lost and were run again.
    commits: int
    aborts: int
    traps: int
    retries: int
    #: Where attempts lost, most losses first, each with `line` of the `exit`, nearest `label`,
    #: `entry` of the runners, `losses`, the `most` of one runner, and `address` and `name` of a
    #: byte that others had stored first.
    contention: tuple[ContendedLine, ...]
    #: Watcher instances that were queued, and templates still armed at the end.
    watcher_firings: int
    watchers_left: int
    #: Epochs published; that of the loaded program does not count.
    epochs: int
    #: Executed by all attempts, those that lost included.
    instructions: int
    #: Of these, in translated code; how many units of it a rank had at the end, how many of them
    #: were there when it began, and how long the others took to translate, in the background.
    native_instructions: int = 0
    units: int = 0
    units_cached: int = 0
    translate_s: float = 0.0
    #: With `--profile`: executed lines of the source, most instructions first, each with `line`,
    #: nearest `label`, `text`, `instructions` and their `share`. Attempts that had not ended when
    #: the run did are in it, and not in `instructions`.
    lines: tuple[ProfiledLine, ...] = ()
    #: Moved from homes to workers, and stored into the shared region by commits.
    bytes_fetched: int
    bytes_committed: int
    #: Blocks of pages that moved to the home beside the worker that stored most of them.
    blocks_moved: int = 0
    #: Bytes that the program printed.
    console_bytes: int
    #: Largest resident size of a process: of the largest one if there are several ranks.
    peak_memory_bytes: int
    #: What moved between ranks, as `dvm_mpi/io/traffic.py` explains it; None in one process.
    traffic: Traffic | None = None

    #: Columns with a row for each rank: `host`; seconds in which it was `executing` runners,
    #: `serving` others, `coordinating`, `loading` or writing, `waiting` for pages while runners
    #: were there, and `idle`: together all of its time; `instructions`; and the highest
    #: `resident_bytes`, `frame_bytes` (pages of its home) and `staged_bytes` (write sets there).
    by_rank: Mapping[str, Any] = field(default_factory=dict)
    #: The same activities over time, in ‰ of `bucket_s`: for each `ranks_per_row` ranks a list with
    #: a value for each bucket, from when ranks began on; and `instructions` of all ranks.
    utilisation: Mapping[str, Any] = field(default_factory=dict)
    #: The highest `resident_bytes`, `frame_bytes` and `staged_bytes` of any rank, by bucket.
    memory_over_time: Mapping[str, Any] = field(default_factory=dict)
    #: How long attempts were, those that lost included, by the `entry` of their runners:
    #: `attempts`, `instructions`, the `longest`, and `classes`: class c counts attempts of
    #: 2^(c-1) to 2^c - 1 instructions.
    runner_lengths: tuple[Mapping[str, Any], ...] = ()
    #: The busiest pages: `address`, `name`, how often workers read it from its home (`fetches`),
    #: its new `versions`, and `shared`: commits that stored to it beside bytes that others had
    #: stored since their snapshot, by runners that begin at the lines in `stored_by`. Of many pages
    #: the counts are lower bounds.
    hot_pages: tuple[Mapping[str, Any], ...] = ()


def versions() -> dict[str, str]:
    """Return the versions of DVM, Python and the packages whose arithmetic or files matter."""
    # Runs without a report do not pay for it: it imports half of the standard library.
    from importlib import metadata  # noqa: PLC0415

    found = {"dvm": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def host() -> dict[str, str | int]:
    """Return what the figures depend on: machine, system, and processors that we may use."""
    return {
        "name": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processors": len(os.sched_getaffinity(0)),
    }


def content_of(report: RunReport) -> dict[str, Any]:
    """Return what the file holds, with versions and host."""
    from dataclasses import asdict, fields  # noqa: PLC0415 - ranks that only count do not need it

    return {
        "report_version": REPORT_VERSION,
        **{part.name: getattr(report, part.name) for part in fields(report)},
        "contention": [asdict(line) for line in report.contention],
        "lines": [asdict(line) for line in report.lines],
        "traffic": None if report.traffic is None else asdict(report.traffic),
        "exit_meaning": meaning(report.exit_code),
        "versions": versions(),
        "host": host(),
    }


def as_json(report: RunReport) -> str:
    """Return the report as JSON text, one field a line."""
    return "".join(pieces_of(report))


def pieces_of(report: RunReport) -> Iterator[str]:
    """Yield the text of `as_json` in pieces: of thousands of ranks the whole takes long to make."""
    before = "{\n"
    for name, value in content_of(report).items():
        yield f"{before}  {json.dumps(name)}: "
        yield from _pieces_of(value)
        before = ",\n"
    yield "\n}\n"


def _pieces_of(value: object) -> Iterator[str]:
    """Yield what `json.dumps` returns; of a dict its values alone."""
    if not isinstance(value, dict):
        yield json.dumps(value, allow_nan=False)
        return
    before = "{"
    for key, each in value.items():
        yield f"{before}{json.dumps(key)}: {json.dumps(each, allow_nan=False)}"
        before = ", "
    yield "}" if value else "{}"


def missing_for_page() -> str:
    """Return the first package that a page needs and that is not installed; empty if all are."""
    from importlib.util import find_spec  # noqa: PLC0415 - as in `versions`

    missing = [package for package in PAGE_PACKAGES if find_spec(package) is None]
    return missing[0] if missing else ""


def meaning(exit_code: int | None) -> str:
    """Return how a run ended, in words."""
    return UNFINISHED if exit_code is None else EXIT_CODE_MEANINGS[ExitCode(exit_code)]


@contextmanager
def _beside(path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield a name beside the report's, for a file that is gone afterwards, and the final name."""
    try:
        target = path.resolve()
    except RuntimeError as error:
        raise FileError(
            f"--report {path}: its links go in a circle; choose another name"
        ) from error
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield part, target
    except OSError as error:
        raise FileError(
            f"--report {path}: cannot write it: {error.strerror}; "
            "choose a place in a folder that exists and is writable"
        ) from error
    finally:
        # Where the file could not be made its name may be one that cannot be looked for either.
        with suppress(OSError):
            part.unlink()


def check_report(path: Path) -> None:
    """Check before the run that the report can be written at its end; leaves no trace.

    Raises
    ------
    FileError
        Its folder is missing or not writable, or a folder has its name.
    """
    with _beside(path) as (part, target):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        part.touch()


def write_report(report: RunReport, path: Path) -> None:
    """Write the JSON file.

    Raises
    ------
    FileError
        It cannot be written; a report that was there is unchanged.
    """
    in_place(path, as_json(report))


def in_place(path: Path, text: str) -> None:
    """Write a file of a report beside its place and rename it; raises as `write_report`."""
    with _beside(path) as (part, target):
        part.write_text(text, encoding="utf-8")
        part.replace(target)


def summary(report: RunReport) -> str:
    """Return the lines for the end of a run: how it ended, and where its time went."""
    r = report
    ending = meaning(r.exit_code)
    ranks = f"{counted(r.ranks, 'rank')} ({r.data_plane}), " if r.ranks > 1 else ""
    most = " in a rank" if r.ranks > 1 else ""
    rate = f", {scaled(r.instructions / r.work_s)}/s" if r.work_s > 0 else ""
    instructions = f"{scaled(r.instructions)} instruction{'' if r.instructions == 1 else 's'}"
    is_told = r.compile_s >= _COMPILE_TOLD_S
    compiled = f"waiting for compiled code {r.compile_s:.3f} s, " if is_told else ""
    lines = [
        f"{Path(r.program).name}: {ending}",
        f"  time     {r.work_s:.3f} s of work; start {r.startup_s:.3f} s, load {r.load_s:.3f} s, "
        f"{compiled}output {r.output_s:.3f} s",
        f"  runners  {r.runners:,}: {r.commits:,} committed, {r.aborts:,} aborted, "
        f"{r.retries:,} retried; {counted(r.watcher_firings, 'watcher firing')}",
        f"  engine   {r.engine}: {instructions}{rate}; "
        f"{ranks}{counted(r.workers, 'worker')}, {counted(r.homes, 'home')}",
        f"  memory   {scaled(r.bytes_fetched, 'B')} fetched, {scaled(r.bytes_committed, 'B')} "
        f"committed in {counted(r.epochs, 'epoch')}; "
        f"peak {scaled(r.peak_memory_bytes, 'B')} resident{most}",
    ]
    if r.units:
        lines.insert(4, f"  native   {_translated(r)}")
    if r.traffic is not None and r.ranks > 1:
        lines.append(f"  network  {_moved(r.traffic)}")
    if r.blocks_moved:
        lines.append(f"  homes    {counted(r.blocks_moved, 'block')} of pages moved")
    if r.watchers_left:
        lines.append(f"  watchers {r.watchers_left:,} still armed at the end")
    return "\n".join(lines)


def _translated(r: RunReport) -> str:
    """Return how much was executed by translated code, and where that came from."""
    share = 100 * r.native_instructions / r.instructions if r.instructions else 0
    made = r.units - r.units_cached
    words = [f"{r.units_cached:,} found in the cache"] if r.units_cached else []
    words += [f"{made:,} translated in {r.translate_s:.3f} s"] if made else []
    return f"{share:.0f} % of the instructions, in {counted(r.units, 'unit')}: {', '.join(words)}"


def _moved(traffic: Traffic) -> str:
    """Return what moved between ranks, in words."""
    told = [
        f"{scaled(moved.payload, 'B')} payload, {scaled(moved.control, 'B')} control between {who}"
        for moved, who in ((traffic.between_ranks, "ranks"), (traffic.between_hosts, "hosts"))
        if moved.messages or who == "ranks"
    ]
    return "; ".join(told)


def scaled(value: float, unit: str = "") -> str:
    """Return a number with three digits and a decimal prefix: `1.23 M`, `12.3 kB`, `999`."""
    power = 0
    while abs(value) >= 999.5 and power < len(_PREFIXES) - 1:  # noqa: PLR2004 - would be 1000
        value /= 1000
        power += 1
    digits = max(0, 3 - len(str(int(abs(value))))) if power else 0
    return f"{value:.{digits}f} {_PREFIXES[power]}{unit}".rstrip()


def counted(count: int, noun: str) -> str:
    """Return a number with its noun: `1 worker`, `12 workers`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
