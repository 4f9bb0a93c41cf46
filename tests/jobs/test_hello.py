from __future__ import annotations

import pytest

from tests.engine.agreement import ENGINES
from tests.jobs.machine import run_job


@pytest.mark.parametrize("engine", ENGINES)
def test_prints_its_line(engine: str) -> None:
    assert run_job("hello", engine=engine).console == "Hello from the DVM!\n"
