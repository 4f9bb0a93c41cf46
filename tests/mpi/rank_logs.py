"""A plugin of pytest for ranks: rank 0 reports on the terminal, the others into files.

Sixteen reports between each other cannot be read. The descriptors are redirected before pytest
saves them for its own capture, so that whatever a library in C prints goes to the file as well.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.ranks.launch import rank_in


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rank-logs", type=Path, help="folder for the output of ranks but rank 0")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, None, None]:
    folder = early_config.known_args_namespace.rank_logs
    rank = rank_in(os.environ)
    if folder and rank:
        descriptor = os.open(folder / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, sys.stdout.fileno())
        os.dup2(descriptor, sys.stderr.fileno())
        os.close(descriptor)
    yield
