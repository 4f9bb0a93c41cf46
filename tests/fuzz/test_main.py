"""`python -m tests.fuzz` as a whole, for a few seconds."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.fuzz.__main__ import ROOT


def fuzz(*words: str) -> tuple[int, str]:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *words],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert not ended.stderr
    return ended.returncode, ended.stdout


def test_a_short_run_says_what_it_tried() -> None:
    code, told = fuzz("--seconds", "6", "--jobs", "1", "--seed", "3")
    assert told.endswith("0 findings, 0 crashes or hangs\n"), told
    assert code == 0
    assert re.search(r"^ +[\d,]+  programs$", told, re.MULTILINE)


def test_one_case_is_tried_again() -> None:
    assert fuzz("--case", "reaching", "12") == (0, "nothing was found\n")
