"""Tests that run on each engine ask for `maker`, or for an `engine` that is closed after them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dvm_mpi.engine.interface import Engine
from tests.engine.agreement import ENGINES
from tests.engine.machine import EngineMaker, settings


@pytest.fixture(params=ENGINES)
def maker(request: pytest.FixtureRequest) -> EngineMaker:
    """Return what makes an engine of one tier, each in turn."""
    return ENGINES[request.param]


@pytest.fixture
def engine(maker: EngineMaker) -> Iterator[Engine]:
    """Return an engine without a program."""
    machine = maker(settings())
    yield machine
    machine.close()
