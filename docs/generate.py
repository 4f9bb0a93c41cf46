"""Write the generated sections of the documents anew; with `--check` only say which are not.

A section stands between `<!-- generated: NAME -->` and `<!-- end of generated -->`. Its text comes
from the code that it describes: the instruction table, the exit codes, the limits. Everything
outside the marks is written by hand and never touched. To run: `python -m docs.generate`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from dvm_mpi import config
from dvm_mpi.config import GIB, KIB, MIB
from dvm_mpi.disa import manual
from dvm_mpi.errors import EXIT_CODE_MEANINGS

ROOT: Final = Path(__file__).resolve().parents[1]

_SECTION: Final = re.compile(
    r"(<!-- generated: ([\w-]+) -->\n)(.*?)(<!-- end of generated -->)", re.DOTALL
)


def exit_codes() -> str:
    """Return the table of exit codes."""
    rows = [(str(code.value), code.name, m) for code, m in EXIT_CODE_MEANINGS.items()]
    return _table(("code", "name", "meaning"), rows)


def limits() -> str:
    """Return the table of limits and tuning constants; those under one comment share a row."""
    rows = []
    source = (ROOT / "dvm_mpi" / "config.py").read_text(encoding="utf-8")
    for group in re.split(r"\n(?=#: )|\n\n|\n(?=# ---)", source):
        comment = " ".join(line[2:].strip() for line in group.splitlines() if line[:2] == "#:")
        constants = re.findall(r"^([A-Z_]+): Final", group, re.MULTILINE)
        if comment and constants:
            names = ", ".join(f"`{name}`" for name in constants)
            values = "; ".join(_quantity(name, getattr(config, name)) for name in constants)
            rows.append((names, values, comment))
    return _table(("name", "value", "meaning"), rows)


def _quantity(name: str, value: float) -> str:
    """Return a constant as people write it, sizes in the largest unit that divides them."""
    if "BYTES" in name:
        for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
            if value % size == 0:
                return f"{value // size:,} {unit}"
    return f"{value:,}"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table; bars inside the cells are escaped."""
    lines = [[cell.replace("|", r"\|") for cell in row] for row in (head, *rows)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def sections() -> dict[str, str]:
    """Return the text of every section, by its name."""
    return {**manual.sections(), "exit-codes": exit_codes(), "limits": limits()}


def renew(text: str, made: Mapping[str, str]) -> str:
    """Return a document with its sections written anew; unknown names are `KeyError`."""
    return _SECTION.sub(lambda m: f"{m[1]}\n{made[m[2]].strip()}\n\n{m[4]}", text)


def main() -> int:
    """Run as a command; the status is 1 if `--check` found a section out of step."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check

    made = sections()
    missing = set(made)
    stale = []
    for path in sorted((ROOT / "docs").rglob("*.md")):
        old = path.read_text(encoding="utf-8")
        missing -= {name for _, name, _, _ in _SECTION.findall(old)}
        new = renew(old, made)
        if new != old:
            stale.append(str(path.relative_to(ROOT)))
            if not check:
                path.write_text(new, encoding="utf-8")
    if missing:
        print(f"no document has the sections: {', '.join(sorted(missing))}", file=sys.stderr)
    if check and stale:
        print(f"run `make docs`: {', '.join(stale)} are out of step", file=sys.stderr)
    elif stale:
        print(f"written anew: {', '.join(stale)}")
    return 1 if missing or (check and stale) else 0


if __name__ == "__main__":
    sys.exit(main())
