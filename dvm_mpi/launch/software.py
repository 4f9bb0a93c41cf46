"""Which versions of what a rank runs, without importing any of it."""

from __future__ import annotations

import platform
from importlib.util import find_spec
from pathlib import Path
from typing import Final

#: What results and wire forms depend on, beside DVM itself.
PACKAGES: Final = ("numpy", "numba", "llvmlite", "h5py", "mpi4py")


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of packages; "-" for what is not installed.

    A folder beside the package has its version in its name: that is a thousandth of the time that
    an import takes.
    """
    return {"Python": platform.python_version()} | {name: _version(name) for name in packages}


def _version(package: str) -> str:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return "-"
    folder = Path(spec.origin).parent.parent
    for entry in folder.glob(f"{package}-*.dist-info"):
        return entry.name.removesuffix(".dist-info").partition("-")[2]
    return "?"


def as_text(found: dict[str, str]) -> str:
    """Return versions as a line: `Python 3.11.2, numpy 2.4.6`."""
    return ", ".join(f"{name} {version}" for name, version in found.items())
