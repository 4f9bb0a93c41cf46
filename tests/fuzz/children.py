"""Processes that try cases, and the parent that outlives them.

A child writes down what it tries next before it does, so that a crash leaves the seed behind, and
its figures as it goes. The parent starts it, looks at what it has written, ends it when one case
takes too long, and starts another one behind the case that ended it.
"""

from __future__ import annotations

import faulthandler
import json
import signal
import subprocess
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from tests.fuzz.cases import Figures, Kind

#: A case that takes longer hangs. It takes some hundredths of a second, a hundred times that where
#: the machine is busy, and the first one may have to compile.
CASE_SECONDS: Final = 300.0
#: How often a child saves its figures, and the parent looks.
SAVE_SECONDS: Final = 1.0
#: Findings after which a child stops: the first ones are enough to work on.
FINDINGS_MAX: Final = 5
TAIL_LINES: Final = 40


class Task(NamedTuple):
    """The cases of one child: numbers `first`, `first + stride`, and so on."""

    first: int
    stride: int
    seconds: float


class Files:
    """What a child writes, in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.note = folder / "note"
        self.figures = folder / "figures.json"
        self.findings = folder / "findings.txt"
        self.errors = folder / "stderr.txt"

    def noted(self) -> tuple[str, int] | None:
        """Return kind and number of the case in hand, if there is one."""
        words = self.note.read_text().split() if self.note.exists() else []
        return (words[0], int(words[1])) if words else None


def try_cases(task: Task, kinds: dict[str, Kind], files: Files) -> None:
    """Try cases until the time is over: the child's side."""
    faulthandler.enable()
    figures, names = Figures(), list(kinds)
    saved = begun = time.monotonic()
    number, findings = task.first, 0
    while (now := time.monotonic()) - begun < task.seconds and findings < FINDINGS_MAX:
        # The strides of children may be even, so that the number alone would not reach all kinds.
        name = names[number // task.stride % len(names)]
        files.note.write_text(f"{name} {number}\n")
        finding = try_case(kinds[name], number, figures)
        if finding is not None:
            findings += 1
            with files.findings.open("a") as file:
                file.write(f"--- {name} {number}\n{finding}\n")
        if now - saved > SAVE_SECONDS:
            saved = now
            files.figures.write_text(json.dumps(figures))
        number += task.stride
    files.figures.write_text(json.dumps(figures))
    files.note.write_text("")


def try_case(kind: Kind, number: int, figures: Figures) -> str | None:
    """Try one case, and return what was found, with its traceback if it was raised."""
    try:
        return kind(number, figures)
    except Exception:
        return traceback.format_exc()


@dataclass
class Child:
    """One place for a child; when one dies, another takes it. `command` gets the task's words."""

    command: Sequence[str]
    files: Files
    task: Task
    #: What went wrong, in words.
    crashes: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)
    case_seconds: float = CASE_SECONDS
    _process: subprocess.Popen[bytes] | None = None
    _end: float = 0.0

    def start(self) -> None:
        """Begin, with the time of the task before it."""
        self._end = time.monotonic() + self.task.seconds
        self._spawn(self.task.first)

    def is_done(self) -> bool:
        """Look after the child; return whether it has come to an end that nothing follows."""
        assert self._process is not None, "the child was not started"
        code = self._process.poll()
        if code is None:
            case = self.files.noted()
            written = self.files.note.stat().st_mtime if case else time.time()
            if time.time() - written < self.case_seconds:
                return False
            # The fault handler of the child prints where it is.
            self._process.send_signal(signal.SIGABRT)
            self._process.wait()
            self._note_crash(f"hangs: more than {self.case_seconds:g} s")
        elif code:
            self._note_crash(f"ends the process: status {code}")
        self._take_figures()
        case = self.files.noted()
        left = self._end - time.monotonic()
        if code == 0 or case is None or left <= 0 or len(self.crashes) >= FINDINGS_MAX:
            return True
        self._spawn(case[1] + self.task.stride)
        return False

    def stop(self) -> None:
        """End the child, if it is there."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _spawn(self, first: int) -> None:
        self.files.folder.mkdir(parents=True, exist_ok=True)
        self.files.note.write_text("")
        seconds = max(self._end - time.monotonic(), 0.0)
        words = [str(first), str(self.task.stride), str(seconds), str(self.files.folder)]
        with self.files.errors.open("wb") as errors:
            self._process = subprocess.Popen([*self.command, *words], stderr=errors)

    def _note_crash(self, what: str) -> None:
        tail = self.files.errors.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        case = self.files.noted()
        told = "the child, before its first case," if case is None else f"{case[0]} {case[1]}"
        self.crashes.append("\n".join([f"--- {told} {what}", *tail]))

    def _take_figures(self) -> None:
        if self.files.figures.exists():
            self.figures += Counter(json.loads(self.files.figures.read_text()))
            self.files.figures.unlink()


def watch(children: Sequence[Child]) -> None:
    """Run children to their ends; none outlives this call."""
    try:
        for child in children:
            child.start()
        going = list(children)
        while going:
            time.sleep(SAVE_SECONDS / 5)
            going = [child for child in going if not child.is_done()]
    finally:
        for child in children:
            child.stop()
