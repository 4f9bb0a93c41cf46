"""What the tests of whole commands on ranks share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ranks.launch import Ended, run_ranks


@pytest.fixture
def dvm(tmp_path: Path) -> Callable[..., Ended]:
    """Return `run_ranks` in a folder of the test's own; an orderly run leaves nothing there."""

    def run(rank_count: int, *arguments: str, **options: object) -> Ended:
        ended = run_ranks(rank_count, *arguments, folder=tmp_path, **options)  # type: ignore[arg-type]
        assert "Traceback" not in ended.err, ended.err
        assert not list(tmp_path.glob("dvm-postmortem-*")) or ended.code
        return ended

    return run
