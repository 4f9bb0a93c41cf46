"""What the tests on a cluster share; `make test-slurm` runs them.

They are collected only if this folder, or a file in it, is named: they take minutes, and root.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster, missing

HERE = Path(__file__).parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    folder = config.invocation_params.dir
    named = ((folder / argument.partition("::")[0]).resolve() for argument in config.args)
    return None if any(path.is_relative_to(HERE) for path in named) else True


def require() -> None:
    """Skip the test where no cluster can be; in continuous integration that is a failure."""
    reason = missing()
    if reason is not None and os.environ.get("CI"):
        pytest.fail(reason)
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Return a cluster for all tests that leave its nodes alone."""
    require()
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def own_cluster() -> Iterator[Callable[..., Cluster]]:
    """Return what makes clusters, as `Cluster` does, that the test may break."""
    require()
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Cluster(**options))
