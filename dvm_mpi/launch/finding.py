"""What a check found, as a value: `doctor` lists it, and a run is stopped by it, in the same words.

Wrong means that no result can come; slow, that it comes later than it need. A check is a function
from measured facts to findings, so one text serves both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

from dvm_mpi.errors import DvmError, ExitCode, FileError, LaunchError, LimitError
from dvm_mpi.values import dataclass


class Level(StrEnum):
    """How bad it is."""

    GOOD = "good"
    SLOW = "slow"
    WRONG = "wrong"


#: What raises a wrong finding, by its code.
_ERRORS: Final[dict[ExitCode, type[DvmError]]] = {
    ExitCode.LAUNCH: LaunchError,
    ExitCode.LIMIT: LimitError,
    ExitCode.FILE: FileError,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis."""

    level: Level
    #: What was looked at: a key of the table of checks in `dvm_mpi.doctor.table`.
    subject: str
    #: What was measured, and why that is good or not.
    what: str
    #: What to do; empty if the finding is good, or if `what` says it.
    remedy: str = ""
    #: Of a run that a wrong finding stops.
    exit_code: ExitCode = ExitCode.LAUNCH

    @property
    def text(self) -> str:
        """What is told, by a run as well as by `doctor`."""
        return f"{self.what}\n  what helps: {self.remedy}" if self.remedy else self.what

    def as_error(self) -> DvmError:
        """Return the error that stops a run."""
        assert self.level is Level.WRONG, self
        return _ERRORS[self.exit_code](self.text)


def good(subject: str, what: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(Level.GOOD, subject, what)


def refuse(findings: Iterable[Finding]) -> None:
    """Stop a run by the first finding that is wrong.

    Raises
    ------
    DvmError
        Of the kind that the finding's exit code says.
    """
    for finding in findings:
        if finding.level is Level.WRONG:
            raise finding.as_error()


def caught(subject: str, check: Callable[[], str], level: Level = Level.WRONG) -> Finding:
    """Return what a check finds that returns what is good and raises what is not."""
    try:
        return good(subject, check())
    except DvmError as error:
        return Finding(level, subject, str(error), exit_code=error.exit_code)
