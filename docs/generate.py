"""Write the generated sections of the documents anew; with `--check` only say which are not.

A section stands between `<!-- generated: NAME -->` and `<!-- end of generated -->`. Its text comes
from the code that it describes: the instruction table, options, exit codes, traps, limits, the
report's fields, checks of `doctor`, workloads. Everything outside the marks is written by hand and
never touched. To run: `python -m docs.generate`.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from dvm_mpi import config
from dvm_mpi.config import GIB, KIB, MIB
from dvm_mpi.control.diagnosis import TRAPS
from dvm_mpi.disa import manual
from dvm_mpi.doctor.table import CHECKS
from dvm_mpi.errors import EXIT_CODE_MEANINGS
from dvm_mpi.io.report import RunReport
from dvm_mpi.options import run_parser
from dvm_mpi.sim.workloads import WORKLOADS

ROOT: Final = Path(__file__).resolve().parents[1]

_SECTION: Final = re.compile(
    r"(<!-- generated: ([\w-]+) -->\n)(.*?)(<!-- end of generated -->)", re.DOTALL
)


def exit_codes() -> str:
    """Return the table of exit codes."""
    rows = [(str(code.value), code.name, m) for code, m in EXIT_CODE_MEANINGS.items()]
    return _table(("code", "name", "meaning"), rows)


def options() -> str:
    """Return the table of the options of a run, from the parser that reads them."""
    rows = []
    for action in run_parser()._actions:
        value = action.metavar or "|".join(action.choices or ())
        name = " ".join((*action.option_strings[-1:], str(value))).strip()
        rows.append((f"`{name}`", action.help or ""))
    return _table(("option", "meaning"), rows)


def traps() -> str:
    """Return the table of traps: what the message says, and what to do."""
    return _table(("trap", "what to do"), TRAPS.values())


def limits() -> str:
    """Return the table of limits and tuning constants; those under one comment share a row."""
    rows = []
    source = (ROOT / "dvm_mpi" / "config.py").read_text(encoding="utf-8")
    for names, comment in _commented(source, r"^([A-Z_]+): Final"):
        values = "; ".join(_quantity(name, getattr(config, name)) for name in names)
        rows.append((", ".join(f"`{name}`" for name in names), values, comment))
    return _table(("name", "value", "meaning"), rows)


def report_fields() -> str:
    """Return the table of the report's fields; those under one comment share a row."""
    source = textwrap.dedent(inspect.getsource(RunReport).partition('"""\n')[2])
    return _table(
        ("field", "meaning"),
        (
            (", ".join(f"`{name}`" for name in names), comment)
            for names, comment in _commented(source, r"^(\w+): ")
        ),
    )


def findings() -> str:
    """Return the table of what `doctor` looks at."""
    return _table(
        ("check", "what is looked at", "slow", "wrong", "what helps"),
        (
            (check.subject, check.about, check.slow or "–", check.wrong or "–", check.remedy)
            for check in CHECKS
        ),
    )


def workloads() -> str:
    """Return the table of the racing programs, with the parameters that `-D` sets."""
    return _table(
        ("workload", "what its runners do, or must find", "parameters"),
        (
            (
                f"`{workload.name}`",
                workload.summary,
                ", ".join(f"{key} {value}" for key, value in workload.defaults.items()),
            )
            for workload in WORKLOADS.values()
        ),
    )


def _commented(source: str, definition: str) -> Iterator[tuple[list[str], str]]:
    """Yield the names that stand under each `#:` comment, and the comment."""
    pattern = r"((?:^#: .*\n)+)((?:^(?!#: |# ---).+\n?)*)"
    for match in re.finditer(pattern, source, re.MULTILINE):
        comment = " ".join(line[2:].strip() for line in match[1].splitlines())
        names = re.findall(definition, match[2], re.MULTILINE)
        if names:
            yield names, comment


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
    return {
        **manual.sections(),
        "options": options(),
        "exit-codes": exit_codes(),
        "traps": traps(),
        "report": report_fields(),
        "limits": limits(),
        "findings": findings(),
        "workloads": workloads(),
    }


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
