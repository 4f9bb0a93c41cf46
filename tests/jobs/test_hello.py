from __future__ import annotations

import pytest

from tests.jobs.machine import ENGINES, run_job


@pytest.mark.parametrize("engine", ENGINES)
def test_prints_its_line(engine: str) -> None:
    assert run_job("hello", engine=engine).console == "Hello from the DVM!\n"
