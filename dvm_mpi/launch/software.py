"""Which versions of what a rank runs, without importing any of it."""

from __future__ import annotations

import platform
from functools import cache
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
    return distributions(str(Path(spec.origin).parent.parent)).get(package, "?")


@cache
def distributions(folder: str) -> dict[str, str]:
    """Return the versions of the distributions that are installed in a folder, by their names.

    Names are in small letters, with `-` between words. Taken from the names of what describes
    them: to read that, as `importlib.metadata` does, took twenty milliseconds at each start.
    """
    found = {}
    try:
        entries = [entry.name for entry in Path(folder).iterdir()]
    except OSError:
        return {}
    for entry in entries:
        stem, _, kind = entry.rpartition(".")
        if kind in ("dist-info", "egg-info"):
            name, _, rest = stem.partition("-")
            found[name.lower().replace("_", "-").replace(".", "-")] = rest.partition("-py")[0]
    return found


def as_text(found: dict[str, str]) -> str:
    """Return versions as a line: `Python 3.11.2, numpy 2.4.6`."""
    return ", ".join(f"{name} {version}" for name, version in found.items())
