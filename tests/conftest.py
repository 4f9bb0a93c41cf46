"""Settings of all tests: caches stay inside the project, and properties are found again.

In continuous integration a test that starts processes gets a second try, since the machine is
shared and a launcher, a Slurm or a browser may be late there. It is no less a defect: what went
wrong is shown, and more than `SECOND_TRIES_MAX` fail the whole. Pure tests have one try anywhere.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from _pytest.terminal import TerminalReporter
from hypothesis import settings
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.database import DirectoryBasedExampleDatabase

CACHE = Path(__file__).resolve().parents[1] / "build" / "cache"

set_hypothesis_home_dir(CACHE / "hypothesis")

# No deadline: the first example of a property may pay for a compilation. One seed for all runs,
# so that a red build is red again tomorrow; HYPOTHESIS_PROFILE=explore looks for new examples, and
# `long` for thirty times as many.
_database = DirectoryBasedExampleDatabase(CACHE / "hypothesis")
settings.register_profile("repeat", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, database=_database, print_blob=True)
settings.register_profile("long", settings.get_profile("explore"), max_examples=3_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))

#: Folders whose tests start processes, and wait for what these do.
PROCESSES = frozenset(("bench", "cli", "cluster", "doctor", "io", "job", "jobs", "launch", "ranks"))
SECOND_TRIES_MAX = 3


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give those that start processes a second try, in continuous integration."""
    # Ranks that run a test together would have to agree on trying it again.
    if os.environ.get("CI") and not config.getoption("--with-mpi"):
        root = Path(__file__).parent
        for item in items:
            if item.path.relative_to(root).parts[0] in PROCESSES:
                item.add_marker(pytest.mark.flaky(reruns=1))


def _second_tries(config: pytest.Config) -> list[pytest.TestReport]:
    """Return what was told of each test that was tried again; none in a worker of xdist."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.stats.get("rerun", []) if isinstance(reporter, TerminalReporter) else []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where too many tests needed a second try."""
    if len(_second_tries(session.config)) > SECOND_TRIES_MAX:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Show what went wrong at first."""
    tries = _second_tries(config)
    for report in tries:
        terminalreporter.section(f"first try of {report.nodeid}")
        terminalreporter.write_line(report.longreprtext)
    if tries:
        excess = f", more than {SECOND_TRIES_MAX}: failed" if len(tries) > SECOND_TRIES_MAX else ""
        terminalreporter.write_line(f"{len(tries)} second tries{excess}")
