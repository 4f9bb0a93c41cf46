"""The command line: `python -m dvm_mpi PROGRAM`, and its subcommands.

Results go to standard output, everything else to standard error. Every way out is an exit code of
`errors.ExitCode`; the user's faults end with one message and no traceback.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from dvm_mpi.errors import DvmError, ExitCode, FileError, UsageError
from dvm_mpi.launch import limits
from dvm_mpi.launch.environment import Launch, detect
from dvm_mpi.launch.signals import Signals
from dvm_mpi.model_options import PredictOptions, calibrate_options
from dvm_mpi.options import (
    SUBCOMMANDS,
    RunOptions,
    parse_run,
    run_parser,
    simulate_options,
    subcommand_parser,
)
from dvm_mpi.values import replace


def main(arguments: Sequence[str]) -> int:
    """Run one command line; return the exit code of the process."""
    if not __debug__:
        print("dvm: error: python -O switches DVM's checks off; run without -O", file=sys.stderr)
        return ExitCode.USAGE
    try:
        return int(_dispatch(list(arguments)))
    except DvmError as error:
        launch = detect(os.environ, os.getppid())
        # The same command line is wrong on every rank; one of them says so.
        if launch is None or launch.speaks_for_all:
            print(error.message, file=sys.stderr)
        return int(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has left; a second complaint at exit would help nobody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.READER_GONE)
    except KeyboardInterrupt:
        print("dvm: interrupted before the program was loaded", file=sys.stderr)
        return int(ExitCode.INTERRUPTED)


def _dispatch(arguments: list[str]) -> int:
    if not arguments:
        run_parser().print_help(sys.stderr)
        raise UsageError("a program is missing")
    if arguments[0] in SUBCOMMANDS:
        given = subcommand_parser(arguments[0]).parse_args(arguments[1:])
        perform = {
            "asm": _assemble,
            "disasm": _disassemble,
            "check": _check,
            "estimate": _estimate,
            "simulate": _simulate,
            "calibrate": _calibrate,
            "replay": _replay,
            "doctor": _doctor,
            "report": _report,
        }
        return perform[arguments[0]](given)
    _refuse_misspelt_subcommand(arguments)
    return _run(parse_run(arguments))


def _run(options: RunOptions) -> int:
    """Run a program, as one process or as one rank."""
    launch = detect(os.environ, os.getppid())
    engine, remark = limits.engine_within(options.engine, limits.measure())
    options = replace(options, engine=engine)
    if remark and not options.quiet and (launch is None or launch.speaks_for_node):
        print(remark, file=sys.stderr)
    if launch is None:
        from dvm_mpi.job.local import Run

        return Run(options).execute()
    return _run_on_ranks(options, launch)


def _run_on_ranks(options: RunOptions, launch: Launch) -> int:
    """Run as one rank of several."""
    for option, is_default in (
        ("--workers", options.workers == 1),
        ("--homes", options.homes == 1),
        ("--seed", options.seed is None),
    ):
        if not is_default:
            raise UsageError(f"{option} is for runs without a launcher; here every rank is one")
    with Signals() as signals:
        # What is imported takes a while, and who is killed within MPI's start leaves files.
        from dvm_mpi.job.ranks import RanksRun

        return RanksRun(options, launch, signals).execute()


def _refuse_misspelt_subcommand(arguments: list[str]) -> None:
    """Tell `chek FILE` from a program: otherwise FILE would be the word that is one too many."""
    word = arguments[0]
    # An option may come first, and one is called as the subcommand `report`.
    if word.startswith("-") or len(arguments) == 1 or Path(word).exists():
        return
    import difflib

    close = difflib.get_close_matches(word, SUBCOMMANDS, n=1)
    if close:
        raise UsageError(
            f"'{word}' is neither a program nor a subcommand; did you mean '{close[0]}'?"
        )


def _assemble(given: Namespace) -> int:
    from dvm_mpi.disa.image_file import open_program, save_image
    from dvm_mpi.disa.verifier import verify

    image = open_program(given.program, dict(given.defines))
    verify(image)
    target: Path = given.output or given.program.with_suffix(".dimg")
    save_image(image, target)
    print(f"{target}: {len(image.text):,} bytes of text, {len(image.symbols):,} symbols")
    return ExitCode.OK


def _simulate(given: Namespace) -> int:
    from dvm_mpi.job.simulate import run_simulations

    options = simulate_options(given)
    if isinstance(options, PredictOptions):
        from dvm_mpi.job.predicting import run_predictions

        print(run_predictions(options))
        return ExitCode.OK
    code, text = run_simulations(options)
    print(text)
    return code


def _calibrate(given: Namespace) -> int:
    from dvm_mpi.job.calibrate import run_calibration

    code, text = run_calibration(calibrate_options(given))
    print(text)
    return code


def _disassemble(given: Namespace) -> int:
    from dvm_mpi.disa.disassembler import disassemble
    from dvm_mpi.disa.image_file import open_program

    text = disassemble(open_program(given.program, dict(given.defines)))
    if given.output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
        return ExitCode.OK
    try:
        given.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot write {given.output}: {error.strerror}") from error
    return ExitCode.OK


def _check(given: Namespace) -> int:
    from dvm_mpi.disa.image_file import open_program
    from dvm_mpi.disa.verifier import verify

    image = open_program(given.program, dict(given.defines))
    verify(image, operands=True)
    print(f"{given.program}: good: {len(image.text):,} bytes of text, {len(image.arrays)} arrays")
    return ExitCode.OK


def _estimate(given: Namespace) -> int:
    from dvm_mpi.job.estimate import as_json, as_text, estimate
    from dvm_mpi.launch.memory import measure

    sizes = estimate(
        given.program,
        dict(given.defines),
        tuple(given.inputs),
        ranks=given.ranks,
        ranks_per_node=min(given.ranks_per_node or given.ranks, given.ranks),
        stores_bytes=given.stores,
    )
    print(as_text(sizes, measure()))
    if given.json is not None:
        try:
            given.json.write_text(as_json(sizes), encoding="utf-8")
        except OSError as error:
            raise FileError(f"cannot write {given.json}: {error.strerror}") from error
    return ExitCode.OK


def _doctor(given: Namespace) -> int:
    from dvm_mpi.doctor.watchdog import Watchdog

    launch = detect(os.environ, os.getppid())
    # First of all: whatever hangs from here on has an end.
    warn = partial(print, file=sys.stderr, flush=True)
    with Watchdog(launch, os.environ, given.wait, warn) as watchdog:
        from dvm_mpi.doctor.visit import DoctorOptions, Visit

        options = DoctorOptions(given.folder, given.json, given.quick, given.wait)
        return Visit(options, launch, watchdog, partial(print, flush=True)).perform()


def _report(given: Namespace) -> int:
    from dvm_mpi.io.report import missing_for_page

    if missing := missing_for_page():
        raise UsageError(
            f"{missing} is not installed, which draws pages: pip install 'dvm-mpi[report]'"
        )
    from dvm_mpi.io.page import read_content, write_page

    target: Path = given.output or given.figures.with_suffix(".html")
    write_page(read_content(given.figures), target)
    print(target)
    return ExitCode.OK


def _replay(given: Namespace) -> int:
    from dvm_mpi.job.replaying import Replaying, ReplayOptions
    from dvm_mpi.sim.steps import Shown

    options = ReplayOptions(
        record=given.record,
        attempt=given.attempt,
        runner=given.runner,
        lists=given.lists,
        array=given.array,
        epoch=given.epoch,
        output=given.output,
        isolation=given.isolation,
        shown=Shown(given.lines, given.steps),
    )
    return Replaying(options, print).perform()
