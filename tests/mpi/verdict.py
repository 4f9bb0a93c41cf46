"""What all ranks say about a test: one that fails on any rank fails on every rank.

Without this a test that fails on rank 3 leaves the others waiting for rank 3 until their own time
is over, and rank 0, whose report is the one that people read, calls it passed. Ranks tell each
other after every test; a rank whose test failed gives the others a few seconds to come, then
reports and ends all of them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from typing import Any

import numpy as np
import pytest

from dvm_mpi.control import transport
from dvm_mpi.engine.address_space import AddressSpace
from dvm_mpi.launch import segments
from tests.mpi.waiting import wait

#: What one rank can tell of a failure.
STORY_BYTES = 8192
#: How long a rank whose test failed waits for the others: they may be waiting for it.
ALARM_S = 10
#: How long any other waits: `timeout` in setup.cfg ends a rank whose test takes longer.
OTHERS_S = 960
POLL_S = 0.0005


class Verdict:
    """Hooks of pytest. Collective: every rank must run the same tests in the same order."""

    def __init__(self) -> None:
        # In the order of a run: where the view is to be, Open MPI would put data of its own.
        AddressSpace.shared()
        self._comm = transport.start().comm
        wait(self._comm.Ibarrier())
        # Tests abort, and are killed: of what every rank has mapped nothing shall be left over.
        segments.unlink_mapped()
        self._stories: list[str] = []
        self._status = pytest.ExitCode.OK

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if item.get_closest_marker("mpi") is None:
            return report
        if report.failed:
            self._stories.append(f"{report.when}: {report.longreprtext}")
        if report.when == "teardown":
            # A rank that only waits ends nobody: the one that hangs is to show where, and its
            # launcher drops what it prints while another is ending the job.
            item.config.hook.pytest_timeout_cancel_timer(item=item)
            others = self._exchange(item.nodeid)
            if others and not self._stories:
                report.outcome = "failed"
                report.longrepr = "\n".join(others)
            self._stories.clear()
        return report

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._status = pytest.ExitCode(exitstatus)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        """Let no rank leave before the others without a word: they would wait for it."""
        is_normal = self._status in {pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED}
        self._wait(self._comm.Ibarrier(), None if is_normal else f"pytest: {self._status.name}")
        transport.finish()

    def _exchange(self, test: str) -> list[str]:
        """Return what other ranks tell of their failures in this test."""
        own = np.zeros(STORY_BYTES, np.uint8)
        story = "\n".join([test, *self._stories]).encode()[:STORY_BYTES]
        own[: len(story)] = np.frombuffer(story, np.uint8)
        everyone = np.empty((self._comm.size, STORY_BYTES), np.uint8)
        failure = "\n".join(self._stories) or None
        self._wait(self._comm.Iallgather(own, everyone), failure)
        told = [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in everyone]
        tests = [text.partition("\n")[0] for text in told]
        if len(set(tests)) > 1:
            self._abort(f"the ranks run different tests: {tests}")
        stories = [text.partition("\n")[2] for text in told]
        return [f"rank {rank}, {story}" for rank, story in enumerate(stories) if story]

    def _wait(self, request: Any, failure: str | None) -> None:
        """Wait for the other ranks; those who come with a failure do not wait for long."""
        deadline = time.monotonic() + (OTHERS_S if failure is None else ALARM_S)
        while not request.Test():
            if time.monotonic() > deadline:
                told = "passed here" if failure is None else failure
                self._abort(f"{told}\nthe other ranks do not come: all are ended")
            time.sleep(POLL_S)

    def _abort(self, story: str) -> None:
        sys.stderr.write(f"\nrank {self._comm.rank}, {story}\n")
        sys.stderr.flush()
        segments.unlink_mapped()
        self._comm.Abort(pytest.ExitCode.TESTS_FAILED)
