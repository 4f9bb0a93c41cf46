"""The report: findings of all ranks, equal ones folded, grouped, as text and as JSON."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

from dvm_mpi import __version__, config
from dvm_mpi.doctor.table import GROUPS, ORDER
from dvm_mpi.errors import ExitCode
from dvm_mpi.io.report import counted
from dvm_mpi.launch.binding import listed
from dvm_mpi.launch.finding import Finding, Level
from dvm_mpi.values import dataclass

#: From bad to good.
_LEVELS: Final = (Level.WRONG, Level.SLOW, Level.GOOD)
_NUMBER: Final = re.compile(r"\d[\d.,]*( [KMG]iB)?")
#: Columns of a report.
_WIDTH: Final = 110
_INDENT: Final = " " * 24


@dataclass(frozen=True, slots=True)
class Told:
    """A finding, and which ranks have it; none for what is about all of them together."""

    finding: Finding
    ranks: tuple[int, ...] = ()


def fold(findings: Iterable[tuple[int, Finding]]) -> list[Told]:
    """Join findings of ranks that are equal but for numbers; the first one is shown for all.

    Free memory differs a little from rank to rank, and that is not what a report is about.
    """
    joined: dict[tuple[Level, str, str], tuple[Finding, list[int]]] = {}
    for rank, finding in findings:
        kind = (finding.level, finding.subject, _NUMBER.sub("#", finding.text))
        joined.setdefault(kind, (finding, []))[1].append(rank)
    return [Told(finding, tuple(sorted(ranks))) for finding, ranks in joined.values()]


def exit_code(told: Sequence[Told]) -> ExitCode:
    """Return the code of the first finding that is wrong, in the order of the table; else 0."""
    wrong = [t.finding for t in told if t.finding.level is Level.WRONG]
    if not wrong:
        return ExitCode.OK
    return min(wrong, key=lambda finding: ORDER[finding.subject]).exit_code


def as_text(headline: str, told: Sequence[Told], hosts: Sequence[str]) -> str:
    """Return the report for people; `hosts[r]` is the host of rank r."""
    lines = [headline]
    ordered = sorted(told, key=_place)
    for group, members in groupby(ordered, key=lambda t: GROUPS[t.finding.subject]):
        lines += ["", group]
        for _, same in groupby(members, key=lambda t: (t.finding.subject, t.finding.level)):
            rows = list(same)
            for row in rows[: config.FINDINGS_SHOWN_MAX]:
                lines += _lines_of(row, hosts)
            hidden = len(rows) - config.FINDINGS_SHOWN_MAX
            if hidden > 0:
                lines.append(f"{_INDENT}and {hidden:,} more like these")
    return "\n".join((*lines, "", _verdict(told)))


def _place(told: Told) -> tuple[int, int]:
    return ORDER[told.finding.subject], _LEVELS.index(told.finding.level)


def _lines_of(told: Told, hosts: Sequence[str]) -> list[str]:
    finding = told.finding
    where = _where(told.ranks, hosts) if finding.level is not Level.GOOD else ""
    lines = [part for line in (finding.text + where).splitlines() for part in _wrapped(line)]
    head = f"  {finding.level.value:<5}  {finding.subject:<13}  "
    return [head + lines[0], *(_INDENT + line for line in lines[1:])]


def _wrapped(line: str) -> list[str]:
    """Break a sentence into lines; what its maker has laid out, such as a command, is left."""
    if line.startswith(" ") and not line.startswith("  what helps: "):
        return [line]
    return textwrap.wrap(
        line,
        _WIDTH - len(_INDENT),
        subsequent_indent="    " if line.startswith(" ") else "",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _where(ranks: tuple[int, ...], hosts: Sequence[str]) -> str:
    """Return who has a finding, as a line; empty if all have, or if it names them itself."""
    if not ranks or len(ranks) == len(hosts):
        return ""
    names = list(dict.fromkeys(hosts[rank] for rank in ranks))
    shown = ", ".join(names[: config.RANKS_SHOWN_MAX])
    hidden = len(names) - config.RANKS_SHOWN_MAX
    more = f" and {hidden:,} more" if hidden > 0 else ""
    return (
        f"\n  at rank{'s' if len(ranks) > 1 else ''} {listed(ranks)} "
        f"on {'hosts ' if len(names) > 1 else ''}{shown}{more}"
    )


def _verdict(told: Sequence[Told]) -> str:
    counts = {level: sum(t.finding.level is level for t in told) for level in _LEVELS}
    if counts[Level.WRONG]:
        slow = f", {counted(counts[Level.SLOW], 'slow one')}" if counts[Level.SLOW] else ""
        return f"WRONG: {counted(counts[Level.WRONG], 'finding')} must be mended first{slow}"
    if counts[Level.SLOW]:
        return f"works: {counted(counts[Level.SLOW], 'finding')} may make runs slower"
    return "good: nothing is wrong"


def as_json(headline: str, told: Sequence[Told], hosts: Sequence[str]) -> str:
    """Return the report for scripts."""
    rows = [
        {
            "group": GROUPS[t.finding.subject],
            "subject": t.finding.subject,
            "level": t.finding.level.value,
            "what": t.finding.what,
            "remedy": t.finding.remedy,
            "ranks": list(t.ranks) or list(range(len(hosts))),
        }
        for t in sorted(told, key=_place)
    ]
    whole = {
        "version": __version__,
        "headline": headline,
        "exit_code": int(exit_code(told)),
        "hosts": list(hosts),
        "findings": rows,
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def pack(findings: Sequence[Finding]) -> bytes:
    """Return findings as bytes, for rank 0."""
    rows = [[f.level.value, f.subject, f.what, f.remedy, int(f.exit_code)] for f in findings]
    return json.dumps(rows).encode()


def unpack(data: bytes) -> list[Finding]:
    """Undo `pack`."""
    return [
        Finding(Level(level), subject, what, remedy, ExitCode(code))
        for level, subject, what, remedy, code in json.loads(data)
    ]
