"""What the report says of bytes between ranks, against what workers and the coordinator count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ranks.launch import ROOT, run_ranks

KMEANS = str(ROOT / "jobs/kmeans/kmeans.dasm")


def total(traffic: dict[str, Any], what: str) -> int:
    """Return the bytes of a matrix, and those that ranks kept to themselves."""
    return int(sum(map(sum, traffic[f"payload_{what}"])) + sum(traffic[f"kept_{what}"]))


@pytest.mark.parametrize("plane", ["rma", "message"])
def test_every_byte_is_counted_once_on_each_way(tmp_path: Path, plane: str) -> None:
    """Two ways of counting agree: at workers and by records; and where bytes leave."""
    path = tmp_path / "report.json"
    options = ("-D", "ITERATIONS=4", "--data-plane", plane, "--report", str(path))
    ended = run_ranks(3, KMEANS, *options, folder=tmp_path)
    assert ended.code == 0, ended.err
    report = json.loads(path.read_text())
    traffic = report["traffic"]
    assert total(traffic, "fetched") == report["bytes_fetched"]
    if report["retries"] == 0:
        # In a record to rank 0, and from there to its home.
        assert total(traffic, "stored") == 2 * report["bytes_committed"]
    between = traffic["between_ranks"]
    assert between["payload_fetched"] == sum(map(sum, traffic["payload_fetched"]))
    assert all(traffic["payload_fetched"][rank][rank] == 0 for rank in range(3))
    assert between["control"] > 0
    assert (between["operations"] > 0) == (plane == "rma")
    assert len(set(traffic["hosts"])) == 1
    assert traffic["between_hosts"]["messages"] == 0
    assert "payload," in ended.err
    assert "control between ranks" in ended.err


# fmt: off
FAILURES = (
    ("mov $1, 0x400000000",                                         5),  # a trap
    (".rept 64, page\n mov $1, stored + 4096 * \\page\n .endr", 6),  # more than a home holds
)
# fmt: on


@pytest.mark.parametrize(("source", "code"), FAILURES)
def test_a_run_that_fails_in_order_is_accounted_for(tmp_path: Path, source: str, code: int) -> None:
    path, program = tmp_path / "report.json", tmp_path / "fails.dasm"
    program.write_text(f"""
        .bss
stored: .space  0x40000
        .text
main:   {source}
        exit:c
""")
    options = ("--memory", "64K", "--report", str(path))
    ended = run_ranks(2, str(program), *options, folder=tmp_path)
    assert ended.code == code, ended.err
    assert json.loads(path.read_text())["traffic"]["between_ranks"]["messages"] > 0
