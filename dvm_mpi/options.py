"""The command line's words: parsers, and the settings of one run as a value.

Light to import: nothing of the machine is loaded before the arguments have been accepted.
Options that the machine will have but has not yet are refused by name.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

from dvm_mpi import __version__, config, model_options
from dvm_mpi.errors import UsageError
from dvm_mpi.layout import PAGE_BYTES, whole_pages
from dvm_mpi.option_values import (
    RANKS_MAX,
    Help,
    parse_count,
    parse_define,
    parse_leaders,
    parse_niceness,
    parse_share,
    parse_size,
)
from dvm_mpi.values import dataclass

SUBCOMMANDS: Final = (
    "asm", "disasm", "check", "estimate", "simulate", "calibrate", "replay", "report", "doctor",
)  # fmt: skip

#: How runners are executed unless `--engine` says it.
ENGINE_DEFAULT: Final = "auto"

_EXAMPLES: Final = """\
examples:
  python -m dvm_mpi jobs/hello/hello.dasm
  python -m dvm_mpi jobs/primes/primes.dasm -D LIMIT=100000
  python -m dvm_mpi jobs/vectoradd/vectoradd.dasm --out c=sum.h5:c --report run.json
  python -m dvm_mpi jobs/primes/primes.dasm --report primes.html
  python -m dvm_mpi jobs/treesum/treesum.dasm --record tree.h5
  python -m dvm_mpi check jobs/kmeans/kmeans.dasm

subcommands: asm (text to image), disasm (image to text), check (verify without running),
estimate (the memory that a run on several ranks needs), simulate (thousands of ranks in simulated
time), calibrate (what steps cost here, for simulate --job), replay (look at a recorded run), report
(a page of a run's figures), doctor (whether runs can work here); each has a --help of its own.
Exit codes: docs/operations.md.
"""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Everything that one run was asked for; sizes in bytes, `fuel` 0 for no limit."""

    program: Path
    defines: dict[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    stdin: Path | None
    engine: str
    allow_undeclared: bool
    fuel: int
    #: How many pages of shared memory one attempt may touch, 0 for no limit.
    touched_pages_max: int
    stack_bytes: int
    memory_bytes: int | None
    isolation: Literal["snapshot", "serializable"]
    conflict_unit: Literal["byte", "page"]
    strict_watchers: bool
    report: Path | None
    record: Path | None
    trace_runner: str | None
    trace_output: Path | None
    trace: Path | None
    trace_sample: int
    dump: Path | None
    profile: bool
    progress: Literal["auto", "live", "lines", "none"]
    runners_expected: int
    quiet: bool
    workers: int
    homes: int
    seed: int | None
    data_plane: str
    deterministic: bool
    #: Whether rank 0 executes runners.
    coordinator: Literal["auto", "dedicated", "shared"]
    #: How many ranks gather what the others say to rank 0, or which.
    leaders: int | Literal["auto", "node", "none"]
    placement: Literal["data", "load", "round-robin", "random"] | None
    #: Whether blocks of pages move to the rank that stores most into them.
    migration: Literal["on", "off"] | None
    #: Of its core that a rank may use; 1 for all of it.
    cpu_share: float
    #: The niceness of every rank; None for what it was started with.
    nice: int | None
    command: tuple[str, ...]

    @property
    def is_recorded(self) -> bool:
        """Whether engines note what attempts load, and records hold all that they store."""
        return self.record is not None or self.trace_runner is not None


class _Parser(argparse.ArgumentParser):
    """Raises instead of leaving the process, so that one place ends every run."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UsageError(f"{message}\nsee: {self.prog} --help")


def _add_observing(add: Callable[..., object]) -> None:
    """Add the options of a run that show what it does, and change nothing of it."""
    add("--report", type=Path, metavar="FILE",
        help="write figures of the run as JSON; if FILE ends with .html, a page with plots, and "
             "the figures beside it with .json")  # fmt: skip
    add("--record", type=Path, metavar="FILE.h5",
        help="write down all that runners did, for `replay`; the run takes longer")  # fmt: skip
    add("--trace", type=Path, default=None, metavar="FILE.json",
        help="write a timeline of all ranks, for ui.perfetto.dev; .json.gz is smaller")  # fmt: skip
    add("--trace-sample", type=parse_count(1, 2**62), default=0, metavar="N",
        help="of single runners every N-th is in the timeline (default: what there is room "
             "for)")  # fmt: skip
    add("--trace-runner", metavar="WHICH",
        help="trace a runner by source line: its id, LABEL where it begins, or LABEL:K for the "
             "K-th attempt there")  # fmt: skip
    add("--trace-output", type=Path, metavar="FILE",
        help="write traces to FILE (default: standard error)")  # fmt: skip
    add("--dump", type=Path, metavar="FOLDER",
        help="write every array to FOLDER/NAME.npy at the end, also after a trap")  # fmt: skip
    add("--profile", action="store_true",
        help="count instructions by source line, and show where most are executed")  # fmt: skip
    add("--progress", default="auto", choices=("auto", "live", "lines", "none"),
        help="how far it is: live on a terminal, or in lines for a log, the first after "
             f"{config.PROGRESS_LINE_FIRST_S:.0f} s, then every "
             f"{config.PROGRESS_LINE_INTERVAL_S:.0f} s (default: auto)")  # fmt: skip
    add("--expect-runners", dest="runners_expected", type=parse_count(1, 2**62), default=0,
        metavar="N", help="how many runners there will be, as the report of an earlier run tells, "
             "for an estimate of the time left")  # fmt: skip


def run_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m dvm_mpi PROGRAM`."""
    parser = _Parser(
        prog="python -m dvm_mpi",
        description="Run a DISA program: text (.dasm), image (.dimg) or flat image (.bin).",
        epilog=_EXAMPLES,
        formatter_class=Help,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("program", type=Path, metavar="PROGRAM", help="the program's file")
    add("-D", dest="defines", action="append", type=parse_define, default=[], metavar="NAME=VALUE",
        help="define a name for the assembler; may be repeated")  # fmt: skip
    add("--in", dest="inputs", action="append", default=[], metavar="NAME=FILE:DATASET",
        help="fill the array NAME from an HDF5 dataset, or from FILE.npy")  # fmt: skip
    add("--out", dest="outputs", action="append", default=[], metavar="NAME=FILE:DATASET",
        help="write the array NAME to an HDF5 dataset, or to FILE.npy, at the end")  # fmt: skip
    add("--stdin", type=Path, metavar="FILE", help="standard input of every runner ('-': ours)")
    add("--engine", default=ENGINE_DEFAULT, choices=("auto", "interp", "translate", "reference"),
        help="how runners are executed: interpreted (interp), hot code translated while they run "
             "(auto), all of it before they run (translate), or slowly and plainly (reference); "
             f"default: {ENGINE_DEFAULT}")  # fmt: skip
    add("--undeclared", default="trap", choices=("trap", "allow"),
        help="access to shared memory that a runner did not declare (default: trap)")  # fmt: skip
    add("--fuel", type=parse_count(1, 2**62), default=0, metavar="N",
        help="trap a runner after N instructions of one attempt (default: no limit)")  # fmt: skip
    add("--runner-memory", type=parse_size, default=None, metavar="SIZE",
        help="trap a runner that loads from or stores to more than SIZE of shared memory, in "
             "pages of 4K (default: no limit)")  # fmt: skip
    add("--stack", type=parse_size, default=config.STACK_BYTES_DEFAULT, metavar="SIZE",
        help="size of automatic stacks (default: 8K)")  # fmt: skip
    add("--memory", type=parse_size, default=None, metavar="SIZE",
        help="memory of each rank for shared pages (default: what the node has)")  # fmt: skip
    add("--isolation", default="snapshot", choices=("snapshot", "serializable"),
        help="what concurrent runners may see: serializable runs again who loaded what another "
             "has stored since (default: snapshot)")  # fmt: skip
    add("--conflict-unit", default="byte", choices=("byte", "page"),
        help="what two runners must not both store; page is for comparison "
             "(default: byte)")  # fmt: skip
    add("--strict-watchers", action="store_true",
        help="exit with 7 if watchers are still armed at the end")  # fmt: skip
    _add_observing(add)
    add("--quiet", action="store_true", help="print only the program's output and errors")
    add("--workers", type=parse_count(1, 4096), default=1, metavar="N",
        help="without a launcher: workers that take turns (default: 1)")  # fmt: skip
    add("--homes", type=parse_count(1, 4096), default=1, metavar="N",
        help="without a launcher: partitions of the shared region (default: 1)")  # fmt: skip
    add("--seed", type=parse_count(0, 2**63 - 1), default=None, metavar="N",
        help="without a launcher: shuffle the order of events (default: fixed)")  # fmt: skip
    add("--deterministic", action="store_true",
        help="the same memory and output every time, on any number of ranks; slower")  # fmt: skip
    add("--data-plane", default="auto", choices=("auto", "rma", "message"),
        help="how bytes move between ranks: by windows or messages (default: probe)")  # fmt: skip
    add("--placement", choices=("data", "load", "round-robin", "random"),
        help="which rank gets a runner (default: data; load in one process)")  # fmt: skip
    add("--migration", choices=("on", "off"),
        help="whether pages move to the rank that stores most of them (default: off)")  # fmt: skip
    add("--cpu-share", type=parse_share, default=1.0, metavar="F",
        help="hold each rank to this share of its core, from 0.05 to 1 (default: 1)")  # fmt: skip
    add("--coordinator", default="auto", choices=("auto", "dedicated", "shared"),
        help="whether rank 0 only coordinates, or executes runners too (default: auto, by the time "
             "that it takes)")  # fmt: skip
    add("--leaders", type=parse_leaders, default="auto", metavar="WHICH",
        help="who gathers what ranks say to rank 0: N ranks, one on each node, or none "
             "(default: auto, for more than "
             f"{config.RANKS_WITHOUT_LEADERS} ranks)")  # fmt: skip
    add("--nice", type=parse_niceness, default=None, metavar="N",
        help="lower the priority of each rank to niceness N, from 1 to 19")  # fmt: skip
    add("--version", action="version", version=f"dvm {__version__}")
    return parser


def _touched_pages_max(runner_memory_bytes: int | None) -> int:
    """Return how many whole pages of shared memory a runner may touch; 0 for any number."""
    if runner_memory_bytes is None:
        return 0
    if runner_memory_bytes < PAGE_BYTES:
        raise UsageError(
            f"--runner-memory {runner_memory_bytes}: memory is counted in pages of "
            f"{PAGE_BYTES:,} bytes, and a runner needs one at least; write it like 64K or 1M"
        )
    return runner_memory_bytes // PAGE_BYTES


def parse_run(arguments: Sequence[str]) -> RunOptions:
    """Return the options of a run.

    Raises
    ------
    UsageError
        A word is wrong; the text names it.
    """
    given = run_parser().parse_args(arguments)
    if not config.STACK_BYTES_DEFAULT <= given.stack <= config.STACK_BYTES_MAX:
        raise UsageError(
            f"--stack {given.stack}: automatic stacks have {config.STACK_BYTES_DEFAULT:,} to "
            f"{config.STACK_BYTES_MAX:,} bytes; write it like 64K or 1M"
        )
    if given.trace_output is not None and given.trace_runner is None:
        raise UsageError("--trace-output: nothing is traced; say what with --trace-runner")
    if given.trace_sample and given.trace is None:
        raise UsageError("--trace-sample: there is no timeline; say where to write it with --trace")
    if given.profile and given.quiet and given.report is None:
        raise UsageError("--profile: --quiet hides it; name a file for it with --report")
    return RunOptions(
        program=given.program,
        defines=dict(given.defines),
        inputs=tuple(given.inputs),
        outputs=tuple(given.outputs),
        stdin=given.stdin,
        engine=given.engine,
        allow_undeclared=given.undeclared == "allow",
        fuel=given.fuel,
        touched_pages_max=_touched_pages_max(given.runner_memory),
        stack_bytes=whole_pages(given.stack),
        memory_bytes=given.memory,
        isolation=given.isolation,
        conflict_unit=given.conflict_unit,
        strict_watchers=given.strict_watchers,
        report=given.report,
        record=given.record,
        trace_runner=given.trace_runner,
        trace_output=given.trace_output,
        trace=given.trace,
        trace_sample=given.trace_sample,
        dump=given.dump,
        profile=given.profile,
        progress=given.progress,
        runners_expected=given.runners_expected,
        quiet=given.quiet,
        workers=given.workers,
        homes=given.homes,
        seed=given.seed,
        data_plane=given.data_plane,
        deterministic=given.deterministic,
        placement=given.placement,
        migration=given.migration,
        cpu_share=given.cpu_share,
        coordinator=given.coordinator,
        leaders=given.leaders,
        nice=given.nice,
        command=tuple(arguments),
    )


_SIMULATE_EXAMPLES: Final = """\
examples:
  python -m dvm_mpi simulate --workload bank --ranks 1000 --seed 7
  python -m dvm_mpi simulate --workload all --ranks 12 --seeds 20 --faults all --check all
  python -m dvm_mpi simulate jobs/treesum/treesum.dasm --ranks 64 --network heavy --trace a.txt
  python -m dvm_mpi simulate --workload synthetic --ranks 1000 --check none
  python -m dvm_mpi simulate --job kmeans --ranks 10,20,40,80,160 --network ib-fdr

The same seed gives the same run, byte for byte: compare two traces. docs/simulation.md has more.
"""


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What `simulate` was asked for; either `program` or `workload` says what runs."""

    program: Path | None
    workload: str
    defines: dict[str, str]
    ranks: int
    workers: int
    seed: int
    seeds: int
    network: str
    faults: str
    engine: str
    data_plane: str
    isolation: Literal["snapshot", "serializable"]
    conflict_unit: Literal["byte", "page"]
    deterministic: bool
    leaders: int | None
    inputs: tuple[str, ...]
    check: Literal["none", "end", "all"]
    trace: Path | None
    json: bool
    quiet: bool


def _simulate_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m dvm_mpi simulate`; `simulate_options` reads on."""
    parser = _Parser(
        prog="python -m dvm_mpi simulate",
        description="Run a program on many ranks in simulated time; one seed repeats it exactly.",
        epilog=_SIMULATE_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("program", type=Path, nargs="?", metavar="PROGRAM", help="the program's file, or:")
    add("--workload", default="", metavar="NAME",
        help="racing programs that know their truth: names, 'all', or 'synthetic'")  # fmt: skip
    add("-D", dest="defines", action="append", type=parse_define, default=[], metavar="NAME=VALUE",
        help="define a name for the assembler, or a workload's parameter")  # fmt: skip
    add("--in", dest="inputs", action="append", default=[], metavar="NAME=FILE:DATASET",
        help="fill the array NAME of PROGRAM, as in a run")  # fmt: skip
    model_options.add_prediction(add, parse_count)
    add("--ranks", type=model_options.numbers, default=(12,), metavar="N",
        help="ranks, each with a home and a worker; of --job several (default: 12)")  # fmt: skip
    add("--workers", type=parse_count(0, RANKS_MAX), default=0, metavar="N",
        help="ranks that execute runners (default: as in the real program)")  # fmt: skip
    add("--seed", type=parse_count(0, 2**63 - 1), default=1, metavar="N",
        help="what all delays and faults are drawn from (default: 1)")  # fmt: skip
    add("--seeds", type=parse_count(1, 1 << 32), default=1, metavar="N",
        help="simulate N seeds from --seed on, to the first wrong one (default: 1)")  # fmt: skip
    add("--network", default="exponential", metavar="NAME",
        choices=model_options.NETWORKS, help=model_options.NETWORK_HELP)  # fmt: skip
    add("--faults", default="none", metavar="LIST",
        help="all, or some of slow,pause,suspect,death,arena,frames (default: none)")  # fmt: skip
    add("--engine", default="reference", choices=("reference", "interp"),
        help="how runners are executed (default: reference; interp is much faster where "
        "they are long, and takes longer to start where ranks are many)")  # fmt: skip
    add("--data-plane", default="rma", choices=("rma", "message"),
        help="whether bytes move beside the messages or within them (default: rma)")  # fmt: skip
    add("--isolation", default="snapshot", choices=("snapshot", "serializable"),
        help="what concurrent runners may see (default: snapshot)")  # fmt: skip
    add("--conflict-unit", default="byte", choices=("byte", "page"),
        help="what two runners must not both store (default: byte)")  # fmt: skip
    add("--deterministic", action="store_true",
        help="by rounds, as in a run; not with the faults suspect and death")  # fmt: skip
    add("--leaders", type=parse_count(0, RANKS_MAX), default=None, metavar="N",
        help="ranks through which others talk to rank 0 (default: as in a run)")  # fmt: skip
    add("--check", default="end", choices=("none", "end", "all"),
        help="end: replay the run, and judge its isolation; all: invariants at each event too "
        "(default: end)")  # fmt: skip
    add("--trace", type=Path, metavar="FILE", help="write every event, one line each")
    add("--json", action="store_true", help="print the figures as one line of JSON")
    add("--quiet", action="store_true", help="print no line for each seed of a sweep")
    return parser


def simulate_options(given: argparse.Namespace) -> SimulateOptions | model_options.PredictOptions:
    """Return the options of a simulation or a prediction, from what its parser has read.

    Raises
    ------
    UsageError
        It is not said what to simulate, or a workload is given inputs.
    """
    prediction = model_options.predict_options(given)
    if prediction is not None:
        return prediction
    if (given.program is None) == (given.workload == ""):
        raise UsageError("say what to simulate: either PROGRAM or --workload NAME, or --job NAME")
    if given.program is None and given.inputs:
        raise UsageError(f"--in {given.inputs[0]}: workloads have no inputs, only a PROGRAM has")
    values = {"defines": dict(given.defines), "inputs": tuple(given.inputs)}
    return SimulateOptions(**(vars(given) | values))


def subcommand_parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of one subcommand."""
    own = {"simulate": _simulate_parser, "replay": _replay_parser, "doctor": _doctor_parser}
    own |= {"report": _report_parser}
    if name in own:
        return own[name]()
    if name == "calibrate":
        return model_options.calibrate_parser(_Parser, parse_count)
    about = {
        "asm": "Assemble a program's text into an image file.",
        "disasm": "Print an image as text that assembles to the same bytes.",
        "check": "Assemble and verify a program without running it.",
        "estimate": "Tell what memory a program needs on several ranks, and the --memory to give.",
    }
    parser = _Parser(prog=f"python -m dvm_mpi {name}", description=about[name], allow_abbrev=False)
    parser.add_argument("program", type=Path, metavar="PROGRAM", help="the program's file")
    parser.add_argument(
        "-D", dest="defines", action="append", type=parse_define, default=[], metavar="NAME=VALUE",
        help="define a name for the assembler; may be repeated",
    )  # fmt: skip
    if name == "asm":
        parser.add_argument(
            "-o", "--output", type=Path, metavar="FILE.dimg",
            help="the image file (default: PROGRAM with .dimg)",
        )  # fmt: skip
    if name == "disasm":
        parser.add_argument(
            "-o", "--output", type=Path, metavar="FILE.dasm", help="default: standard output"
        )
    if name == "estimate":
        _add_estimate_options(parser)
    return parser


_REPLAY_EXAMPLES: Final = """\
examples:
  python -m dvm_mpi jobs/treesum/treesum.dasm --record tree.h5
  python -m dvm_mpi replay tree.h5                      check all of it
  python -m dvm_mpi replay tree.h5 --list               what there is
  python -m dvm_mpi replay tree.h5 --attempt 3          what attempt 3 did, step by step
  python -m dvm_mpi replay tree.h5 --runner main --lines 20-30 --steps 50
  python -m dvm_mpi replay tree.h5 --array result --epoch 2 -o result.npy
"""


def _replay_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m dvm_mpi replay`."""
    parser = _Parser(
        prog="python -m dvm_mpi replay",
        description="Check a run that was recorded with --record, or look at what a runner did.",
        epilog=_REPLAY_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("record", type=Path, metavar="FILE.h5", help="what --record wrote")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--list", dest="lists", action="store_true", help="list the attempts")
    add("--attempt", type=parse_count(1, 2**62), default=None, metavar="N",
        help="execute attempt N alone, and trace it by source line")  # fmt: skip
    add("--runner", default=None, metavar="WHICH",
        help="the same for a runner: its id, LABEL where it begins, or LABEL:K")  # fmt: skip
    add("--array", default=None, metavar="NAME", help="show an array, or write it to a file")
    add = parser.add_argument
    add("--lines", type=_line_range, default=None, metavar="FROM-TO",
        help="of a trace, only what these source lines did, both included")  # fmt: skip
    add("--steps", type=_steps, default=-config.TRACE_STEPS_SHOWN, metavar="N",
        help=f"of a trace, the first N steps, or with -N the last N "
             f"(default: -{config.TRACE_STEPS_SHOWN})")  # fmt: skip
    add("--epoch", type=parse_count(1, 2**62), default=None, metavar="E",
        help="the array as of this epoch (default: as of the end)")  # fmt: skip
    add("-o", "--output", type=Path, default=None, metavar="FILE.npy",
        help="write the array to this file")  # fmt: skip
    add("--isolation", default=None, choices=("snapshot", "serializable"),
        help="what values are measured against (default: what the run was promised)")  # fmt: skip
    return parser


_DOCTOR_EXAMPLES: Final = """\
examples:
  python -m dvm_mpi doctor                              this host, without MPI
  mpiexec -n 4 python -m dvm_mpi doctor                 start it as you start your runs
  srun --mpi=pmi2 python -m dvm_mpi doctor --folder .   and write a file in this folder
  mpiexec -n 4 python -m dvm_mpi doctor --quick --json doctor.json

Each line says good, slow or wrong, what was measured, and what helps. Wrong ones stop a run as
well, in the same words. The exit code is 0 if nothing is wrong, else that of the run: 4, 6 or 8.
"""


def _doctor_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m dvm_mpi doctor`."""
    parser = _Parser(
        prog="python -m dvm_mpi doctor",
        description="Tell whether programs can run here, on these ranks, and what makes them slow.",
        epilog=_DOCTOR_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--folder", type=Path, default=None, metavar="DIR",
        help="write a file together in this folder, as outputs are, and remove it")  # fmt: skip
    add("--quick", action="store_true", help="leave out what takes time: messages, files")
    add("--json", type=Path, default=None, metavar="FILE.json", help="write the report as JSON too")
    add("--wait", type=_seconds, default=config.DOCTOR_WAIT_S, metavar="SECONDS",
        help=f"how long others are waited for (default: {config.DOCTOR_WAIT_S:.0f})")  # fmt: skip
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}' is no time in seconds; write it like 30")
    return value


def _report_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m dvm_mpi report`."""
    parser = _Parser(
        prog="python -m dvm_mpi report",
        description="Make a page with plots of the figures that --report wrote, also of a run that "
        "was killed.",
        epilog="example:\n  python -m dvm_mpi report run.json -o run.html",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("figures", type=Path, metavar="FILE.json", help="what --report wrote")
    parser.add_argument(
        "-o", "--output", type=Path, default=None, metavar="FILE.html",
        help="the page (default: FILE with .html)",
    )  # fmt: skip
    return parser


def _line_range(text: str) -> tuple[int, int]:
    """Return a half-open range of line numbers."""
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    first, end = (int(match[1]), int(match[2] or match[1]) + 1) if match else (0, 0)
    if not 1 <= first < end:
        raise argparse.ArgumentTypeError(f"'{text}' is no range of lines; write it like 10-20")
    return first, end


def _steps(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not count:
        raise argparse.ArgumentTypeError(
            f"'{text}' is no number of steps; write it like 100 or -100"
        )
    return count


def _add_estimate_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-n", "--ranks", type=parse_count(1, 1 << 20), default=1, metavar="RANKS",
        help="ranks of the job (default: 1)")  # fmt: skip
    add("--ranks-per-node", type=parse_count(1, 1 << 20), default=None, metavar="N",
        help="ranks on each node (default: all on one)")  # fmt: skip
    add("--in", dest="inputs", action="append", default=[], metavar="NAME=FILE:DATASET",
        help="an input of the run; it is compared with its array, not read")  # fmt: skip
    add("--stores", type=parse_size, default=config.STORES_BYTES_DEFAULT, metavar="SIZE",
        help="the most that one runner stores to shared memory (default: 16M)")  # fmt: skip
    add("--json", type=Path, metavar="FILE.json", help="write the sizes as JSON, in bytes")
