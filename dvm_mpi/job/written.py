"""Files about a run that are not its outputs: whether they can be written, and what they quote.

Apart from what writes them, which most runs do not load.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from dvm_mpi import config
from dvm_mpi.disa.image import Image
from dvm_mpi.errors import UsageError
from dvm_mpi.io.record_file import check_record
from dvm_mpi.io.specs import ArraySpec
from dvm_mpi.job.reporting import files_of
from dvm_mpi.options import RunOptions


def check_recording(options: RunOptions, image: Image, outputs: Iterable[ArraySpec]) -> None:
    """Check before the run all that is written of it; leaves no trace.

    Raises
    ------
    FileError
        A file cannot be written.
    UsageError
        Two files are one, or nothing in the program has the name of a traced runner.
    """
    taken = {spec.target: spec.place for spec in outputs}
    figures, page = files_of(options.report)
    for option, path in (
        ("--report", page),
        ("--report", figures),
        ("--record", options.record),
        ("--trace-output", options.trace_output),
        ("--trace", options.trace),
    ):
        if path is None:
            continue
        place = f"{option} {path}"
        # Where links go in a circle, whoever writes there says so.
        target = Path(os.path.realpath(path))
        if target in taken:
            raise UsageError(f"{place}: this collides with {taken[target]}; choose another name")
        taken[target] = place
        if option == "--record":
            check_record(path, place)
    if options.trace_runner is not None:
        from dvm_mpi.sim.selection import parse_selection

        parse_selection(options.trace_runner, "--trace-runner", image)


def read_sources(options: RunOptions, image: Image) -> dict[str, str]:
    """Return the texts of a program's files, as far as they can be had: traces show their lines.

    Not of an image file, whose sources may have changed since it was made.
    """
    if image.lines is None or options.program.suffix != ".dasm":
        return {}
    found = {}
    for name in image.lines.files[: config.RECORD_SOURCES_MAX]:
        try:
            text = Path(name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        found[name] = text[: config.RECORD_SOURCE_BYTES_MAX]
    return found
