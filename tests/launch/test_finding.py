"""Findings: one text for a diagnosis and for a run that stops."""

from __future__ import annotations

import pytest

from dvm_mpi.errors import ExitCode, FileError, LaunchError, LimitError
from dvm_mpi.launch.finding import Finding, Level, caught, good, refuse


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (ExitCode.LAUNCH, LaunchError),
        (ExitCode.LIMIT, LimitError),
        (ExitCode.FILE, FileError),
    ],
)
def test_the_first_wrong_finding_stops_a_run(code: ExitCode, kind: type[Exception]) -> None:
    slow = Finding(Level.SLOW, "a", "slow", "less")
    wrong = Finding(Level.WRONG, "b", "no", "do", code)
    with pytest.raises(kind, match="no\n  what helps: do"):
        refuse([good("c", "yes"), slow, wrong, Finding(Level.WRONG, "d", "never told")])
    refuse([good("c", "yes"), slow])


def test_what_a_check_raises_is_a_finding_with_its_words() -> None:
    def check() -> str:
        raise LimitError("too little\n  what helps:\n    more")

    found = caught("memory", check)
    assert (found.level, found.exit_code) == (Level.WRONG, ExitCode.LIMIT)
    assert str(found.as_error()) == "too little\n  what helps:\n    more"
    assert caught("memory", lambda: "enough") == good("memory", "enough")
