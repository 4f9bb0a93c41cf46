"""The sample library, compiled once for all tests of a run, in both of its forms."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path

import pytest

from dvm_mpi.native.compilation import Compilation, Target

FOLDER = Path(__file__).parent


@pytest.fixture(scope="session", autouse=True)
def importable():
    """Let this process and compilers import the sample as a module of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER), os.environ.get("PYTHONPATH", "")]))
        yield
    sys.modules.pop("sample", None)


@pytest.fixture(scope="session", params=[".so", ".o"])
def built(request, importable, tmp_path_factory) -> Path:
    """Return the sample as a shared library, and as it is where no linker is on the path."""
    stem: Path = tmp_path_factory.mktemp("built") / "sample"
    target = Target("sample", "sample", stem)
    with pytest.MonkeyPatch.context() as patch:
        if request.param == ".o":
            patch.setenv("PATH", "")
        Compilation([target]).wait()
    assert target.path == stem.with_suffix(request.param)
    return stem.with_suffix(request.param)


@pytest.fixture
def sample(built, monkeypatch):
    """Return the sample as a module whose entries have not been called yet."""
    monkeypatch.delitem(sys.modules, "sample", raising=False)
    sample = import_module("sample")
    sample.LIBRARY.target = Target("sample", "sample", built.with_suffix(""))
    return sample
