"""Translated code reaches hosts that have no folder in common with the one that translates."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.primes.check import count_primes
from tests.cluster.cluster import ROOT, Cluster, Mpi
from tests.jobs.machine import source_of
from tests.patience import PATIENCE_S

RANKS = 4
#: So much is left to do when the code comes, on whatever machine.
LIMIT = 3_000_000
TIMEOUT_S = 4 * PATIENCE_S

pytestmark = pytest.mark.timeout(TIMEOUT_S + 60)


@pytest.mark.parametrize("mpi", Mpi, ids=lambda mpi: mpi.name)
def test_translated_code_reaches_hosts_without_a_common_folder(
    own_cluster: Callable[..., Cluster], tmp_path: Path, mpi: Mpi
) -> None:
    own = own_cluster(node_count=2)
    words = (str(source_of("primes")), "-D", f"LIMIT={LIMIT}", "-D", "PARTS=200")
    command = [mpi.python, "-m", "tests.cluster.apart", *words, "--memory", "64M"]
    ended = own.run(
        *own.hosts_command(mpi, RANKS, own.nodes, command),
        folder=tmp_path,
        environment={"PYTHONPATH": str(ROOT)},
        timeout_s=TIMEOUT_S,
    )
    assert (ended.code, ended.out) == (0, f"{count_primes(LIMIT)}\n"), ended.err
    first, second = (told_by(tmp_path, node) for node in own.nodes)
    assert len(first) == len(second) == RANKS // 2
    # Who translates puts the program there, and has a lock.
    assert {"image", "lock"} <= set(first[0]["files"])
    for rank in second:
        assert rank["files"], "no unit has come"
        assert all(name.endswith((".unit", ".wanted")) for name in rank["files"]), rank["files"]
    assert sum(rank["units"] for rank in second) > 0
    assert sum(rank["cached_units"] for rank in second) == 0
    assert sum(rank["instructions"] for rank in second) > 0


def told_by(folder: Path, node: str) -> list[dict[str, Any]]:
    """Return what the ranks of a node have told."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"native-{node}-*.json"))]
