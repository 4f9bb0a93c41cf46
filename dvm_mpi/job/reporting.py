"""The files of `--report`: figures as JSON, kept up to date while the run goes on, and the page.

A run that is killed leaves the figures of its last seconds; `python -m dvm_mpi report` makes a page
of them, on any machine. Trouble with the files never ends a run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from dvm_mpi.config import REPORT_INTERVAL_S, REPORT_SPACING
from dvm_mpi.errors import DvmError, ExitCode, FileError
from dvm_mpi.io import report

PAGE_SUFFIX: Final = ".html"


def files_of(target: Path | None) -> tuple[Path | None, Path | None]:
    """Return the files of figures and of the page that `--report` means."""
    if target is not None and target.suffix == PAGE_SUFFIX:
        return target.with_suffix(".json"), target
    return target, None


class Reporting:
    """The report of one run, on rank 0.

    Parameters
    ----------
    target
        What `--report` names; with `.html` a page, and the figures beside it with `.json`.
    say
        Tells the user what could not be written.
    clock
        Seconds.
    """

    def __init__(
        self, target: Path | None, say: Callable[[str], None], clock: Callable[[], float]
    ) -> None:
        self.figures, self.page = files_of(target)
        self._say = say
        self._clock = clock
        self._due_at_s = clock() + REPORT_INTERVAL_S
        #: Of a version under way: what makes its text, what there is of it, how long that took.
        self._making: Iterator[str] | None = None
        self._text: list[str] = []
        self._took_s = 0.0

    def check(self) -> None:
        """Check before the run that the files can be written at its end; leaves no trace.

        Raises
        ------
        FileError
            They cannot.
        """
        for path in (self.figures, self.page):
            if path is not None:
                report.check_report(path)
        if self.page is not None and (missing := report.missing_for_page()):
            self._say(f"dvm: {self._no_page(_not_installed(missing))}")

    def each_turn(self, make: Callable[[], report.RunReport]) -> None:
        """Write down what is known if it is time, a piece in each turn; cheap to call often.

        Of thousands of ranks the whole text at once would keep all that wait for rank 0.
        """
        if self.figures is None or self._clock() < self._due_at_s:
            return
        began_s = self._clock()
        is_written = False
        if self._making is None:
            self._making, self._text, self._took_s = report.pieces_of(make()), [], 0.0
        elif (piece := next(self._making, None)) is not None:
            self._text.append(piece)
        else:
            self._making, is_written = None, True
            try:
                report.in_place(self.figures, "".join(self._text))
            except FileError as error:
                self._say(f"dvm: {error}; it is tried again at the end of the run")
                self._due_at_s = float("inf")
                return
        ended_s = self._clock()
        self._took_s += ended_s - began_s
        if is_written:
            self._due_at_s = ended_s + max(REPORT_INTERVAL_S, REPORT_SPACING * self._took_s)

    def finish(self, figures: report.RunReport) -> int:
        """Write the report of a run that is over; return an exit code, which is told."""
        try:
            if self.figures is not None:
                report.write_report(figures, self.figures)
            if self.page is not None:
                self._draw(figures, self.page)
        except DvmError as error:
            self._say(error.message)
            return int(error.exit_code)
        return int(ExitCode.OK)

    def _draw(self, figures: report.RunReport, page: Path) -> None:
        if missing := report.missing_for_page():
            self._say(f"dvm: {self._no_page(_not_installed(missing))}")
            return
        try:
            # Most runs have no page, and what draws it takes a second to load.
            from dvm_mpi.io.page import write_page

            # Of the very text that the file has: a page that is made later is the same.
            write_page(json.loads(report.as_json(figures)), page)
        except DvmError:
            raise
        except Exception as error:
            # Whatever a library of plots may have; the run is over, and its figures are written.
            self._say(f"dvm: {self._no_page(f'{type(error).__name__}: {error}')}")

    def _no_page(self, why: str) -> str:
        return (
            f"no page can be drawn here: {why}; make it of the figures, here or elsewhere, with "
            f"python -m dvm_mpi report {self.figures} -o {self.page}"
        )


def _not_installed(package: str) -> str:
    return f"{package} is not installed; pip install 'dvm-mpi[report]'"
