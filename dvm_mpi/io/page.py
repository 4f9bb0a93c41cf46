"""The report as a page: one HTML file with all plots inside, which asks no network for anything.

Made of the content of a report's JSON file, by the run itself or later, on another machine. Needs
the extra `report` (jinja2 and matplotlib); imported only when a page is made.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dvm_mpi.errors import FileError
from dvm_mpi.io.findings import findings, percent
from dvm_mpi.io.plots import draw_all
from dvm_mpi.io.report import REPORT_VERSION, counted, in_place, scaled
from dvm_mpi.io.sections import sections

Content = Mapping[str, Any]


def read_content(path: Path) -> Content:
    """Read a report's JSON file.

    Raises
    ------
    FileError
        There is none, or it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path}: cannot read it: {error.strerror}") from error
    except ValueError as error:
        raise FileError(
            f"{path} is no report: {error}; give the JSON file that --report wrote"
        ) from error
    if not isinstance(content, dict) or "report_version" not in content:
        raise FileError(f"{path} is no report; give the JSON file that --report wrote")
    if content["report_version"] > REPORT_VERSION:
        raise FileError(
            f"{path} was written by a newer DVM (report version {content['report_version']}, "
            f"this one knows {REPORT_VERSION}): use that version"
        )
    return content


def render(content: Content) -> str:
    """Return the page of a report's content."""
    environment = Environment(
        loader=PackageLoader("dvm_mpi.io"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = sections(content)
    drawn = draw_all([figure for part in parts for figure in part.figures])
    code = content.get("exit_code")
    return environment.get_template("report.html").render(
        program=Path(str(content.get("program", "?"))).name,
        verdict="unfinished" if code is None else "good" if code == 0 else "bad",
        code="–" if code is None else code,
        meaning=content.get("exit_meaning", ""),
        fault=content.get("fault", ""),
        findings=findings(content),
        tiles=_tiles(content),
        facts=_facts(content),
        sections=parts,
        drawn=drawn,
    )


def write_page(content: Content, path: Path) -> None:
    """Write the page beside its place and rename it.

    Raises
    ------
    FileError
        It cannot be written; a page that was there is unchanged.
    """
    in_place(path, render(content))


def _tiles(content: Content) -> list[tuple[str, str, str]]:
    """Return the figures on top: what it is, the value, and what belongs to it."""
    work = float(content.get("work_s", 0))
    retries, commits = int(content.get("retries", 0)), int(content.get("commits", 0))
    instructions = int(content.get("instructions", 0))
    before = {"start": "startup_s", "load": "load_s", "compile": "compile_s", "output": "output_s"}
    told = (f"{name} {content.get(field, 0.0):.2f}" for name, field in before.items())
    rate = f"{scaled(instructions / work)} a second" if work else ""
    lost = f"{percent(retries / (commits + retries))} of them and commits" if retries else "none"
    traffic = f"{scaled(content.get('bytes_committed', 0), 'B')} committed"
    return [
        ("work", f"{work:.2f} s", f"{', '.join(told)} s"),
        ("runners", f"{content.get('runners', 0):,}", f"{commits:,} committed"),
        ("retries", f"{retries:,}", lost),
        ("instructions", scaled(instructions), rate),
        ("fetched", scaled(content.get("bytes_fetched", 0), "B"), traffic),
        ("peak memory", scaled(content.get("peak_memory_bytes", 0), "B"), "of the largest rank"),
    ]


def _facts(content: Content) -> list[tuple[str, str]]:
    host: Mapping[str, Any] = content.get("host") or {}
    hosts = sorted(
        set((content.get("by_rank") or {}).get("host") or [host.get("name", "?")]) - {""}
    )
    named = ", ".join(hosts[:8]) + (f" and {len(hosts) - 8} more" if len(hosts) > 8 else "")  # noqa: PLR2004
    modes = [
        f"placement {content.get('placement', '?')}",
        f"isolation {content.get('isolation', '?')}",
        f"conflict unit {content.get('conflict_unit', '?')}",
        *(["deterministic"] if content.get("deterministic") else []),
        *([f"seed {content['seed']}"] if content.get("seed") is not None else []),
    ]
    ranks = counted(int(content.get("ranks", 1)), "rank")
    return [
        ("command", shlex.join(["python", "-m", "dvm_mpi", *content.get("command", [])])),
        ("program", str(content.get("program", "?"))),
        ("began", str(content.get("started_at", "?"))),
        ("ranks", f"{ranks} on {counted(len(hosts), 'host')}: {named}"),
        ("data plane", str(content.get("data_plane", "?"))),
        ("engine", f"{content.get('engine', '?')}; {', '.join(modes)}"),
        ("system", f"{host.get('system', '?')}, {host.get('machine', '?')}; "
         f"{host.get('processors', '?')} processors for rank 0"),
        ("versions", ", ".join(f"{k} {v}" for k, v in (content.get("versions") or {}).items())),
    ]  # fmt: skip
