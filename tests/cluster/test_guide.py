"""docs/clusters.md, word by word: what it shows is what a user gets on a fresh cluster.

Its blocks ```` ```cluster ```` are one session: each line with `$` is a command, and what follows
is what it prints, where `…` stands for anything within a line, and alone for any lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.cluster import ROOT, Cluster
from tests.cluster.test_jobs import Site

GUIDE = ROOT / "docs" / "clusters.md"
BLOCK = re.compile(r"^```cluster\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: What submits, and does not wait.
SUBMITS = re.compile(r"\b(?:sbatch|yhbatch)\b.* slurm/")


def steps(text: str) -> list[tuple[str, str]]:
    """Return the commands of the guide with what they print."""
    session = "".join(BLOCK.findall(text))
    parts = re.split(r"^\$ (.*)\n", session, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def pattern(shown: str) -> re.Pattern[str]:
    """Return what an output must match in full."""
    lines = [
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*") + r"\n"
        for line in shown.splitlines()
    ]
    return re.compile("".join(lines))


def test_what_is_shown_is_compared() -> None:
    shown = "first …\n…\n  end 3\n"
    assert pattern(shown).fullmatch("first line\nmore\nmore\n  end 3\n")
    assert pattern(shown).fullmatch("first line\n  end 3\n")
    assert not pattern(shown).fullmatch("first line\n  end 4\n")
    assert not pattern(shown).fullmatch("second line\n  end 3\n")
    assert not pattern("end\n").fullmatch("begin\nend\n")


@pytest.mark.timeout(900)
def test_the_guide_is_what_happens(own_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    """A reader looks at a log when the job is over, and cancels one that is under way."""
    site = Site(own_cluster(), tmp_path)
    todo = steps(GUIDE.read_text(encoding="utf-8"))
    assert len(todo) > 15
    for command, shown in todo:
        if command.startswith("scancel"):
            site.until_under_way(int(command.split()[1]))
        elif not SUBMITS.search(command):
            site.cluster.wait_for_all()
        # What went wrong is printed with the rest, as on a terminal.
        ended = site.cluster.run("bash", "-c", f"{{ {command}\n}} 2>&1", folder=tmp_path)
        assert pattern(shown).fullmatch(ended.out), f"$ {command}\n{ended.out}\nnot\n{shown}"
    site.cluster.wait_for_all()
