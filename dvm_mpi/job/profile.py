"""The profile of a run: from counts of instructions to source lines, and the table of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.diagnosis import Narrator
from dvm_mpi.disa.image import Image
from dvm_mpi.engine import tally
from dvm_mpi.io.report import ProfiledLine, RunReport, counted, scaled
from dvm_mpi.job.parts import say
from dvm_mpi.options import RunOptions

#: Columns of a source line that the table shows.
_TEXT_COLUMNS: Final = 48
#: Less than this share of all instructions says nothing.
_SHARE_SHOWN_MIN: Final = 0.0005


def profiled_lines(
    image: Image, counts: NDArray[np.int64], sources: dict[str, str]
) -> tuple[ProfiledLine, ...]:
    """Return the lines that were executed, those with most instructions first.

    Parameters
    ----------
    counts
        By row of `tally`, of all workers together.
    sources
        Texts of the program's files, as far as they are known: of another line the first
        instruction stands for its text.

    Notes
    -----
    A line may have many instructions: those of a statement, or of a macro that is used there. Its
    label is the nearest one at or above the first of them.
    """
    narrator = Narrator(image)
    addresses = tally.addresses(image)
    total = int(counts.sum())
    sums: dict[str, int] = {}
    firsts: dict[str, int] = {}
    for row in np.flatnonzero(counts).tolist():
        pc = int(addresses[row])
        place = narrator.place(pc)
        sums[place] = sums.get(place, 0) + int(counts[row])
        firsts.setdefault(place, pc)
    texts = {name: text.splitlines() for name, text in sources.items()}
    ranked = sorted(sums, key=lambda place: (-sums[place], firsts[place]))
    return tuple(
        ProfiledLine(
            line=place,
            label=narrator.name(firsts[place]).partition("+")[0],
            text=_text_of(place, texts) or narrator.instruction(firsts[place]),
            instructions=sums[place],
            share=sums[place] / total,
        )
        for place in ranked
    )


def _text_of(place: str, texts: dict[str, list[str]]) -> str:
    """Return the source line at `file:line`, without its comment; empty if it is not known."""
    name, _, number = place.rpartition(":")
    lines = texts.get(name)
    if lines is None or not number.isdecimal() or not 1 <= int(number) <= len(lines):
        return ""
    code = lines[int(number) - 1].partition(";")[0]
    return " ".join(code.split())


def tell_profile(options: RunOptions, figures: RunReport) -> None:
    """Show the profile, if one was asked for."""
    if options.profile:
        executed = sum(line.instructions for line in figures.lines)
        say(profile_table(figures.lines, executed - figures.instructions))


def profile_table(lines: tuple[ProfiledLine, ...], under_way: int) -> str:
    """Return the lines with most instructions as a table; no final newline.

    `under_way` instructions are those of attempts that had not ended when the run did.
    """
    total = sum(line.instructions for line in lines)
    rest = f", {scaled(under_way)} by runners under way at the end" if under_way else ""
    told = [f"profile: {scaled(total)} instructions by source line{rest}"]
    likely = [line for line in lines if line.share >= _SHARE_SHOWN_MIN]
    shown = likely[: config.PROFILE_LINES_SHOWN]
    rows = [("share", "executed", "line", "below", "source")]
    rows += [
        (
            f"{line.share:.1%}",
            scaled(line.instructions),
            Path(line.line).name,
            line.label,
            line.text[:_TEXT_COLUMNS],
        )
        for line in shown
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for part, executed, place, label, text in rows:
        figures = f"{part:>8}  {executed:>{widths[1]}}"
        told.append(f"{figures}  {place:<{widths[2]}}  {label:<{widths[3]}}  {text}".rstrip())
    hidden = lines[len(shown) :]
    if hidden:
        share = sum(line.share for line in hidden)
        told.append(f"{share:8.1%}  in {counted(len(hidden), 'more line')}; --report has all")
    return "\n".join(told)
