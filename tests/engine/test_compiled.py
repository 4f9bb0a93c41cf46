"""The cache of compiled code: found again by the next process, never used for other sources."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from dvm_mpi.engine import compiled

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from dvm_mpi.engine import compiled
compiled._CACHE_DIRECTORY = sys.argv[1]

@compiled.compiled
def add(a, b):
    return a + b

@compiled.compiled_entry
def entry(a):
    return add(a, 1) + add(2, a)

entry(5)
hits = sum(entry.stats.cache_hits.values())
print(hits, len(add.signatures))
"""


def run(tmp_path: Path) -> str:
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    command = [sys.executable, str(script), str(tmp_path / "cache")]
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    return result.stdout.strip()


def test_compiled_code_is_found_by_the_next_process(tmp_path: Path) -> None:
    assert run(tmp_path) == "0 1", "one version of `add` for all constants"
    assert run(tmp_path).split()[0] == "1"


def test_the_digest_names_every_source() -> None:
    digest = compiled._sources_digest()
    assert digest == compiled._sources_digest()
    assert digest in compiled._CACHE_DIRECTORY
