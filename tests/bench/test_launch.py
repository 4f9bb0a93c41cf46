"""What a measured command gets of the caller's surroundings."""

from __future__ import annotations

import pytest

from bench.launch import surroundings


def test_peers_compute_as_suits_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("LANG", "C.UTF-8")
    given = surroundings({"OPENBLAS_NUM_THREADS": "1"})
    assert "OPENBLAS_CORETYPE" not in given
    assert "PYTHONDONTWRITEBYTECODE" not in given
    assert (given["LANG"], given["OPENBLAS_NUM_THREADS"]) == ("C.UTF-8", "1")
