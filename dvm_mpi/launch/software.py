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
    seen: dict[Path, dict[str, str]] = {}
    found = {name: _version(name, seen) for name in packages}
    return {"Python": platform.python_version()} | found


def _version(package: str, seen: dict[Path, dict[str, str]]) -> str:
    """Return the version of a package; `seen` keeps what folders hold that were looked into."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return "-"
    folder = Path(spec.origin).parent.parent
    if folder not in seen:
        seen[folder] = distributions(folder)
    return seen[folder].get(package.replace("_", "-"), "?")


def distributions(folder: Path) -> dict[str, str]:
    """Return the versions of the distributions that are installed in a folder, by their names.

    Names are in small letters, with `-` between words. Taken from the names of what describes
    them: to read that, as `importlib.metadata` does, took twenty milliseconds at each start.
    """
    found = {}
    try:
        entries = [entry.name for entry in folder.iterdir()]
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
