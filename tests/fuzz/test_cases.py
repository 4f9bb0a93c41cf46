"""Every kind of case, a few numbers of each: nothing is found, and what is counted is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.cases import Figures, kinds

#: Guards stay for the rest of the process: `reaching` is tried by `make fuzz` and test_guards.py.
HERE = ["programs", "hot", "flat", "texts", "images"]


@pytest.mark.parametrize("name", HERE)
def test_nothing_is_found(name: str, tmp_path: Path) -> None:
    figures = Figures()
    kind = kinds(tmp_path)[name]
    for number in range(1_000, 1_040):
        assert kind(number, figures) is None, number
    assert figures["programs"] > 0
    assert figures["instructions"] > 0
