"""Waiting without spinning: sixteen ranks share two processors in these tests."""

from __future__ import annotations

import time
from typing import Any

POLL_S = 0.0002


def wait(request: Any) -> None:
    """Wait until an MPI request is complete; pytest's timeout of the test ends what hangs."""
    while not request.Test():
        time.sleep(POLL_S)
