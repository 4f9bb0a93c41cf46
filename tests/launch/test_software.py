from __future__ import annotations

import platform
import sys
from pathlib import Path

import numpy as np
import pytest

from dvm_mpi.launch import software


def test_versions_are_those_that_packages_tell() -> None:
    found = software.versions(("numpy", "no_such_package"))
    assert found == {
        "Python": platform.python_version(),
        "numpy": np.__version__,
        "no_such_package": "-",
    }
    assert software.as_text({"a": "1", "b": "2"}) == "a 1, b 2"


def test_the_first_on_the_path_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_package").mkdir()
    (tmp_path / "some_package" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    assert software.versions(("some_package",))["some_package"] == "?"
    (tmp_path / "some_package-1.5.dist-info").mkdir()
    assert software.versions(("some_package",))["some_package"] == "1.5"
