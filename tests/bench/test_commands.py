"""Measures that start ranks of their own give a figure."""

from __future__ import annotations

from pathlib import Path

from bench.commands import Commands


def test_a_commit_is_readable_after_a_while(tmp_path: Path) -> None:
    assert 0 < Commands(tmp_path).commit_to_readable_ms(samples=3) < 60_000


def test_bytes_go_from_rank_to_rank_at_some_rate(tmp_path: Path) -> None:
    commands = Commands(tmp_path)
    rates = [commands.bandwidth_gb_per_second(what) for what in ("commit", "snapshot", "memcpy")]
    assert all(rate > 0 for rate in rates)
