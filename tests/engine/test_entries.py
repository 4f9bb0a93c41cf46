"""Compiled code is compiled anew when, and only when, something changes that it is made of."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dvm_mpi.engine import counting_entries, entries
from dvm_mpi.native.library import Library

_PACKAGE = "dvm_mpi.engine."


@pytest.mark.parametrize("library", [entries.LIBRARY, counting_entries.LIBRARY])
def test_the_sources_are_what_the_modules_import(library: Library) -> None:
    """One that is missing there would leave old code in use after a change."""
    program = f"import {', '.join(library.modules)}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    imported = {name.removeprefix(_PACKAGE) for name in done.stdout.split() if _PACKAGE in name}
    assert {path.stem for path in library.sources} == imported
