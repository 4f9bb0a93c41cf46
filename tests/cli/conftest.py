"""The command line, run inside the test's process, in a folder of the test's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dvm_mpi.cli import main

ENGINES = ("reference", "interp")


@dataclass(frozen=True, slots=True)
class Ended:
    """What one run left: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str

    @property
    def messages(self) -> list[str]:
        """The lines of standard error, without the headline and the summary."""
        lines = self.err.splitlines()
        figures = ("  time ", "  runners ", "  engine ", "  native ", "  memory ", "  watchers ")
        return [x for x in lines if not x.startswith(("dvm 0.", *figures))]


class Command:
    """Runs command lines; the working folder is the test's own, standard input is empty."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str], engine: str) -> None:
        self.folder = folder
        self.engine = engine
        self._capfd = capfd

    def __call__(self, *arguments: str) -> Ended:
        """Run `python -m dvm_mpi ARGUMENTS`; whatever happens, without a traceback."""
        self._capfd.readouterr()
        try:
            code = main(arguments)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else -1
        captured = self._capfd.readouterr()
        assert "Traceback" not in captured.err
        assert not list(self.folder.glob(".*")), "something half written is left"
        return Ended(code, captured.out, captured.err)

    def run(self, text: str, *options: str) -> Ended:
        """Run the program `p.dasm` of this text with the test's engine."""
        (self.folder / "p.dasm").write_text(text, encoding="utf-8")
        stdin = () if "--stdin" in options else ("--stdin", "/dev/null")
        return self("p.dasm", "--engine", self.engine, *stdin, *options)


@pytest.fixture
def make_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], Command]:
    """Return what makes a command line for an engine."""
    monkeypatch.chdir(tmp_path)
    return lambda engine: Command(tmp_path, capfd, engine)


@pytest.fixture
def dvm(make_command: Callable[[str], Command]) -> Command:
    """Return a command line with the engine that starts fastest."""
    return make_command("reference")


@pytest.fixture(params=ENGINES)
def every_dvm(request: pytest.FixtureRequest, make_command: Callable[[str], Command]) -> Command:
    """Return a command line for each engine in turn."""
    return make_command(request.param)
