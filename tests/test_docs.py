"""The documents say what the machine does: their programs, commands, links and promises hold.

A fence ```` ```dasm NAME ```` is a complete program; ```` ```output ```` after it is what running
it gives, on standard output and standard error. Programs in `jobs/NAME/` may include `../lib/`.
A fence ```` ```session NAME ```` has commands about that program, one after another, each with
what it prints.
"""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from dvm_mpi.cli import main
from dvm_mpi.control.lifecycle import TRANSITIONS, Event, State
from dvm_mpi.options import SUBCOMMANDS, parse_run, subcommand_parser
from dvm_mpi.sim.model.costs import NETWORKS
from tests.sim.bugs import BUGS

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "jobs").rglob("*.md")]
)
TEXTS = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in DOCUMENTS}

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TEST_NAME = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


class Program(NamedTuple):
    """A program of a document, and what it gives; None where the document does not say."""

    document: str
    name: str
    text: str
    output: str | None


def fences(text: str) -> list[tuple[str, str]]:
    return [(match[1].strip(), match[2]) for match in FENCE.finditer(text)]


def checked(document: str, name: str) -> str:
    """Return a section that is written by hand and compared with the code."""
    pattern = rf"<!-- checked: {name} -->\n(.*?)<!-- end of checked -->"
    section = re.search(pattern, TEXTS[document], re.DOTALL)
    assert section is not None
    return section[1]


def programs() -> list[Program]:
    found = []
    for document, text in TEXTS.items():
        for (info, body), (next_info, next_body) in pairwise([*fences(text), ("", "")]):
            if info.startswith("dasm"):
                output = next_body if next_info == "output" else None
                name = info.removeprefix("dasm").strip() or "program.dasm"
                found.append(Program(document, name, body, output))
    return found


@pytest.mark.parametrize("program", programs(), ids=lambda p: f"{p.document}:{p.name}")
def test_programs_do_what_is_said(
    program: Program,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / program.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(program.text, encoding="utf-8")
    (tmp_path / "jobs").mkdir(exist_ok=True)
    (tmp_path / "jobs" / "lib").symlink_to(ROOT / "jobs" / "lib")
    monkeypatch.chdir(tmp_path)
    code = main([program.name, "--engine", "reference", "--quiet", "--stdin", "/dev/null"])
    heard = "".join(capfd.readouterr())
    assert heard == (program.output or "")
    assert (code == 0) == ("error:" not in heard and "trap:" not in heard)


def sessions() -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return document, program and, in their order, commands of its sessions with their output.

    An output that begins with `…` is the end of what is printed.
    """
    found: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for document, text in TEXTS.items():
        for info, body in fences(text):
            if info.startswith("session "):
                parts = re.split(r"^\$ python -m dvm_mpi (.*)\n", body, flags=re.MULTILINE)[1:]
                steps = list(zip(parts[::2], parts[1::2], strict=True))
                found.setdefault((document, info.removeprefix("session ")), []).extend(steps)
    return [(document, name, steps) for (document, name), steps in found.items()]


@pytest.mark.parametrize(("document", "name", "steps"), sessions(), ids=lambda x: str(x)[:30])
def test_sessions_go_as_is_said(
    document: str,
    name: str,
    steps: list[tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (text,) = (p.text for p in programs() if (p.document, p.name) == (document, name))
    (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for command, output in steps:
        words = shlex.split(command)
        if words[0] not in SUBCOMMANDS:
            words += ["--engine", "reference", "--quiet", "--stdin", "/dev/null"]
        main(words)
        heard = "".join(capfd.readouterr())
        if output.startswith("…\n"):
            assert heard.endswith(output.removeprefix("…\n")), command
        else:
            assert heard == output, command


def test_every_document_with_programs_is_read() -> None:
    """A misspelt fence would be skipped without a word."""
    assert {p.document for p in programs()} == {
        "README.md", "docs/assembler.md", "docs/operations.md", "docs/simulation.md",
        "docs/writing-jobs.md",
    }  # fmt: skip
    assert sum(p.output is not None for p in programs()) >= 5


# --- Python ----------------------------------------------------------------------------------


def scripts() -> list[tuple[str, str, str]]:
    """Return document, text and output of Python that is shown with what it prints."""
    return [
        (document, body, printed)
        for document, text in TEXTS.items()
        for (info, body), (next_info, printed) in pairwise([*fences(text), ("", "")])
        if (info, next_info) == ("python", "output")
    ]


@pytest.mark.parametrize(("document", "text", "printed"), scripts(), ids=lambda x: x[:30])
def test_python_prints_what_is_said(
    document: str, text: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """But for numbers, which a change of the order of events changes too."""
    exec(compile(text, document, "exec"), {})
    heard = capsys.readouterr().out
    told, expected = (re.sub(r"0x[0-9a-f]+|\d+", "N", words) for words in (heard, printed))
    assert told == expected, heard


def test_every_planted_fault_is_in_the_table() -> None:
    rows = re.findall(
        r"^\| ([\w' -]+) \| `(\w+)` \| ([\w, ]+) \| \d+ of (\d+) \|$",
        checked("docs/simulation.md", "faults"),
        re.MULTILINE,
    )
    named = [(name, workload, int(seeds)) for name, workload, _, seeds in rows]
    assert named == [(name, bug.workload, bug.seeds_max) for name, bug in BUGS.items()]
    judges = {judge for *_, told, _ in rows for judge in told.split(", ")}
    assert judges == {"rules", "replay", "checker", "truth"}


# --- commands --------------------------------------------------------------------------------


def commands() -> list[tuple[str, list[str]]]:
    """Return every command line of DVM in the documents, without its output's destination."""
    found = []
    for document, text in TEXTS.items():
        joined = text.replace("\\\n", " ")
        lines = re.findall(r"python -m dvm_mpi +(.*?)(?:`|  #| [|>] |$)", joined, re.MULTILINE)
        found += [(document, shlex.split(line)) for line in lines if "[" not in line]
    return found


@pytest.mark.parametrize(("document", "words"), commands())
def test_commands_are_understood(document: str, words: list[str]) -> None:
    if words[0] in SUBCOMMANDS:
        given = vars(subcommand_parser(words[0]).parse_args(words[1:]))
        program = given.get("program") or given.get("record")
    else:
        program = parse_run(words).program
    if program is not None and program.parts[0] == "jobs" and program.parts[1] != "NAME":
        assert (ROOT / program).is_file(), document


def test_targets_of_make_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        (document, target)
        for document, text in TEXTS.items()
        for target in re.findall(r"(?:^|[`=\w] ?)make (\w+)(?=[`\s])(?=.*$)", text, re.MULTILINE)
        if f"`make {target}" in text or re.search(rf"^(?:    )?make {target}\b", text, re.MULTILINE)
    }
    assert len(named) > 5
    assert {(d, t) for d, t in named if t not in targets} == set()


def test_options_that_are_named_exist() -> None:
    words = (ROOT / "dvm_mpi" / name for name in ("options.py", "model_options.py"))
    source = "".join(path.read_text(encoding="utf-8") for path in words)
    known = set(re.findall(r"\"(--[a-z][a-z-]+)\"", source)) | {"--help"}
    known |= {  # of the jobs' Python programs, and of other tools
        option
        for path in (ROOT / "jobs").rglob("*.py")
        for option in re.findall(r"\"(--[a-z][a-z-]+)\"", path.read_text(encoding="utf-8"))
    }
    named = {
        (document, option)
        for document, text in TEXTS.items()
        for option in re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", re.sub(r"<!--.*?-->", "", text))
    }
    # Of mypy, docker, tests.mpi, tests.sim.sweep and .table; of Slurm.
    allowed = {"--strict", "--shm-size", "--pytest", "--first", "--hosts", "--write"}
    allowed |= {"--rounds", "--starter", "--statistics"}
    allowed |= {"--array", "--cpu-bind", "--wait", "--mem", "--mpi", "--nodes", "--ntasks"}
    allowed |= {"--requeue", "--ntasks-per-node", "--time", "--no-install-recommends"}
    # Of pip.
    allowed |= {"--no-index", "--find-links", "--no-deps"}
    assert {(d, o) for d, o in named if o not in known | allowed} == set()


def test_messages_that_are_explained_exist() -> None:
    """Messages are put together from pieces, over several lines of source: look for the pieces."""
    rows = re.findall(r"^\| \d \| (.*?) \|", TEXTS["docs/operations.md"], re.MULTILINE)
    quoted = [message for row in rows for message in re.findall(r"`([^`]+)`", row)]
    pieces = {piece.strip(" :'") for text in quoted for piece in re.split("…|FILE:|COLUMN", text)}
    source = "".join(
        re.sub(r"\"\s*f?\"", "", path.read_text(encoding="utf-8"))
        for path in (ROOT / "dvm_mpi").rglob("*.py")
    )
    wanted = {piece for piece in pieces if len(piece) > len("LINE")}
    assert len(wanted) > 10
    assert {piece for piece in wanted if piece not in source} == set()


# --- promises --------------------------------------------------------------------------------


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_test_that_is_named_exists() -> None:
    missing = [
        f"{document}: {path}::{name}"
        for document, text in TEXTS.items()
        for path, name in TEST_NAME.findall(text)
        if not (ROOT / path).is_file() or name not in functions_of(path)
    ]
    assert missing == []


def guarantees() -> dict[str, str]:
    """Return the text of each guarantee by its number."""
    text = TEXTS["docs/memory-model.md"]
    parts = re.split(r"^\*\*(G\d+)\. ", text, flags=re.MULTILINE)[1:]
    numbers, bodies = parts[::2], parts[1::2]
    assert numbers == [f"G{n}" for n in range(1, len(numbers) + 1)]
    return {n: body.partition("\n#")[0] for n, body in zip(numbers, bodies, strict=True)}


def test_every_guarantee_names_its_tests() -> None:
    shown = {number: body.partition("*Would be")[0] for number, body in guarantees().items()}
    assert [number for number, body in shown.items() if not TEST_NAME.search(body)] == []


def test_every_guarantee_names_what_would_be_noticed() -> None:
    """Planted faults, or tests that plant one; and no fault is there for nothing."""
    named: set[str] = set()
    for number, body in guarantees().items():
        line = re.search(
            r"^\*Would be noticed:\*\s(.*?)\.\n\n", body + "\n\n", re.MULTILINE | re.DOTALL
        )
        assert line is not None, number
        names = re.findall(r"`([^`]+)`", line[1])
        assert names, number
        named |= {name for name in names if not TEST_NAME.fullmatch(f"`{name}`")}
    assert named == set(BUGS)


# --- architecture ----------------------------------------------------------------------------


def test_life_cycle_is_drawn_as_it_is() -> None:
    section = checked("docs/ARCHITECTURE.md", "lifecycle")
    head, _, *rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines()
    ]
    drawn = {
        (State[row[0]], Event[event.upper()], State[cell])
        for row in rows
        for event, cell in zip(head[1:], row[1:], strict=True)
        if cell
    }
    assert drawn == set(TRANSITIONS)
    picture = (ROOT / "docs" / "images" / "runner-life.svg").read_text(encoding="utf-8")
    assert set(State.__members__) <= set(re.findall(r">([A-Z]+)<", picture))


def test_every_module_has_its_place() -> None:
    """`table.py` stands for a file of the layer whose section names it, `reference*.py` for all."""
    text = TEXTS["docs/ARCHITECTURE.md"]
    layers = re.split(r"^### `(\w+(?:/\w+)*)/`", text, flags=re.MULTILINE)
    sections = {"": layers[0], **dict(zip(layers[1::2], layers[2::2], strict=True))}
    lost = []
    for layer, section in sections.items():
        folder = ROOT / "dvm_mpi" / layer
        body = section.partition("\n## ")[0] if layer else section
        patterns = re.findall(r"`([\w*]+\.py)`", body)
        named = {path.name for pattern in patterns for path in folder.glob(pattern)}
        present = {path.name for path in folder.glob("*.py") if path.name[:2] != "__"}
        lost += [f"{layer}/{name}" for name in sorted(present - named)]
        if layer:
            lost += [f"{layer}/{p} (gone)" for p in patterns if not any(folder.glob(p))]
    assert lost == []


# --- links -----------------------------------------------------------------------------------


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as forges make them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


def test_links_lead_to_headings() -> None:
    broken = []
    for document, text in TEXTS.items():
        for target, anchor in re.findall(r"\]\(([^)#\s:]*)#([^)\s]+)\)", text):
            path = (ROOT / document).parent / target if target else ROOT / document
            if anchor not in anchors(path.read_text(encoding="utf-8")):
                broken.append(f"{document}: {target}#{anchor}")
    assert broken == []


def test_pictures_are_there() -> None:
    missing = [
        f"{document}: {target}"
        for document, text in TEXTS.items()
        for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
        if not ((ROOT / document).parent / target).is_file()
    ]
    assert missing == []


def test_the_table_of_limits_has_the_whole_comment_of_each() -> None:
    source = (ROOT / "dvm_mpi" / "config.py").read_text(encoding="utf-8")
    told = re.findall(r"^#: (.+)$", source, re.MULTILINE)
    assert len(told) > 30
    assert [part for part in told if part not in TEXTS["docs/operations.md"]] == []


def test_networks_of_the_model_are_those_that_are_stated() -> None:
    text = TEXTS["docs/scaling.md"]
    table = text.split("<!-- checked: networks -->")[1].split("<!-- end of checked -->")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d.]+) µs \| ([\d.]+) \|", table, re.MULTILINE)
    assert {name for name, _, _ in rows} == set(NETWORKS)
    for name, latency_us, rate in rows:
        network = NETWORKS[name]
        assert float(latency_us) == pytest.approx(network.latency_ns / 1e3, abs=0.005)
        assert float(rate) == pytest.approx(1 / network.byte_ns, abs=0.005)
