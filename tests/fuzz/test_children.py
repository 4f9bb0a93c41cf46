"""What is left of a child that crashes, hangs, or finds something: the seed, and a failed run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fuzz.cases import Figures, Kind
from tests.fuzz.children import Child, Files, Task, try_cases, watch
from tests.patience import PATIENCE_S

#: A child that does as it is told for each number, and notes it as the real one does.
CHILD = """
import faulthandler, os, sys, time
from pathlib import Path
faulthandler.enable()
first, stride, seconds, folder = sys.argv[1:]
for number in range(int(first), 20, int(stride)):
    Path(folder, "note").write_text(f"kind {number}\\n")
    if number == BAD:
        os.abort() if WAY == "crash" else time.sleep(10_000)
Path(folder, "figures.json").write_text('{"programs": %d}' % (20 - int(first)))
Path(folder, "note").write_text("")
"""


def child(folder: Path, way: str) -> Child:
    program = f"WAY = {way!r}\nBAD = 7\n{CHILD}"
    return Child(
        [sys.executable, "-c", program], Files(folder), Task(3, 2, PATIENCE_S), case_seconds=5.0
    )


@pytest.mark.parametrize("way", ["crash", "hang"])
def test_a_child_that_dies_leaves_its_seed_and_the_others_go_on(way: str, tmp_path: Path) -> None:
    bad, good = child(tmp_path / "bad", way), child(tmp_path / "good", "neither")
    good.command = [*good.command[:2], good.command[2].replace("BAD = 7", "BAD = -1")]
    watch([bad, good])
    (crash,) = bad.crashes
    assert crash.startswith("--- kind 7 " + ("ends the process" if way == "crash" else "hangs"))
    assert "Fatal Python error: Aborted" in crash
    assert bad.figures["programs"] == 20 - 9, "another child went on behind the case"
    assert (good.crashes, good.figures["programs"]) == ([], 17)


def test_a_child_writes_down_what_it_finds(tmp_path: Path) -> None:
    def raises(number: int, figures: Figures) -> str | None:
        figures["programs"] += 1
        assert number < 100, "a hundred is too much"
        return None

    def finds(number: int, figures: Figures) -> str | None:
        return "two differ" if number == 99 else None

    files = Files(tmp_path)
    kinds: dict[str, Kind] = {"raises": raises, "finds": finds}
    try_cases(Task(94, 1, PATIENCE_S), kinds, files)
    found = files.findings.read_text()
    assert "--- finds 99\ntwo differ\n" in found
    assert "--- raises 100\nTraceback" in found
    assert "a hundred is too much" in found
    assert files.noted() is None
