"""The translated units of one program: a folder, through which ranks and the translator meet.

The folder lies in the cache of compiled code, and its name says for what its units are: program,
version, compiler and processor. Whatever is in it came into being complete, by a rename:

    <unit>.unit       a unit (unit_file.py); the name is a digest of what it is
    <place>.wanted    a request: an address in hexadecimal, or `all`; in it a `Request`
    <place>.begun     a request that a translator works on
    <place>.none      there is nothing to translate
    <place>.failed    a translation that failed, and why
    all.done          the names of all units of the program
    image             the program
    lock              held by the translator at work
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from dvm_mpi.config import UNIT_FOLDERS_MAX
from dvm_mpi.disa.image import Image
from dvm_mpi.native import store
from dvm_mpi.values import dataclass

UNIT: Final = ".unit"
WANTED: Final = ".wanted"
BEGUN: Final = ".begun"
NONE: Final = ".none"
FAILED: Final = ".failed"
#: The place of a request for everything, and what tells that everything is there.
ALL: Final = "all"
DONE: Final = "all.done"
IMAGE: Final = "image"
LOCK: Final = "lock"
_FOLDERS: Final = "dvm-units-*"
_DIGEST_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Request:
    """What should be translated: the unit around an address, or all that there is if it is None.

    `static_pages` are those of the program as its records know them; `tries`: during how many
    translations of it the translator has died; `notes_loads`: for engines that track loads.
    """

    pc: int | None
    static_pages: tuple[int, ...]
    tries: int = 0
    notes_loads: bool = False

    @property
    def place(self) -> str:
        """Its name in the folder."""
        return ALL if self.pc is None else f"{self.pc:x}"

    @property
    def content(self) -> bytes:
        """What is in its file."""
        given = {
            "pc": self.pc,
            "static_pages": self.static_pages,
            "tries": self.tries,
            "notes_loads": self.notes_loads,
        }
        return json.dumps(given).encode()


def is_unit_name(name: str) -> bool:
    """Say whether a file of this name is a unit, and lies in the folder itself."""
    return re.fullmatch(r"[0-9a-f]+\.unit", name) is not None


def name_of(image: Image, *, notes_loads: bool = False) -> str:
    """Return the name of a program's folder: equal for all who may share translated code.

    Engines that track loads have code of their own.
    """
    own = Path(__file__).parent
    folders = own, own / "translation", store.PACKAGE / "disa"
    sources = [path for folder in folders for path in store.sources_in(folder)]
    program = hashlib.sha256(image.text)
    # Where instructions begin decides where control may go.
    program.update(b"flat" if image.lines is None else image.lines.addresses.tobytes())
    program.update(b"notes loads" if notes_loads else b"")
    digest = program.hexdigest()[:_DIGEST_DIGITS]
    return f"dvm-units-{store.digest_of(sources)}-{digest}"


class UnitFolder:
    """One program's folder; every process that needs it has one of these."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: What the units in it must be for.
        self.key = path.name

    @classmethod
    def of(cls, image: Image, *, notes_loads: bool = False) -> UnitFolder:
        """Return the folder of a program, which need not exist yet."""
        return cls(store.choose_folder().path / name_of(image, notes_loads=notes_loads))

    # --- files ----------------------------------------------------------------------------------
    def names(self) -> set[str]:
        """Return the names of all files."""
        try:
            return {path.name for path in self.path.iterdir()}
        except FileNotFoundError:
            return set()

    def read(self, name: str) -> bytes | None:
        """Return a file's content; None if it is not there."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Let a file be there, complete; the folder is made if need be."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.path / f"{name}.{os.uname().nodename}-{os.getpid()}"
        part.write_bytes(content)
        part.replace(self.path / name)

    def drop(self, name: str) -> None:
        """Let a file be gone."""
        (self.path / name).unlink(missing_ok=True)

    def touch(self) -> None:
        """Note that the folder is used, if it is there."""
        if self.path.is_dir():
            os.utime(self.path)

    def drop_old_ones(self) -> None:
        """Drop folders beside this one that were not used for longest, if there are too many."""
        beside = [path for path in self.path.parent.glob(_FOLDERS) if path != self.path]
        import shutil  # noqa: PLC0415, the translator does this, no rank

        by_use = sorted(beside, key=_used_at, reverse=True)
        for path in by_use[UNIT_FOLDERS_MAX - 1 :]:
            shutil.rmtree(path, ignore_errors=True)

    # --- requests -------------------------------------------------------------------------------
    def ask(self, request: Request) -> None:
        """Put a request there, unless one like it is."""
        if not self.names() & {request.place + WANTED, request.place + BEGUN}:
            self.write(request.place + WANTED, request.content)

    def requests(self, suffix: str = WANTED) -> list[Request]:
        """Return the requests that are there, in order of places."""
        found = []
        for name in sorted(self.names()):
            if name.endswith(suffix):
                content = self.read(name)
                request = None if content is None else _request_of(content)
                if request is None or request.place + suffix != name:
                    self.drop(name)
                else:
                    found.append(request)
        return found

    def begin(self, request: Request) -> None:
        """Note that a request is worked on."""
        self.write(request.place + BEGUN, request.content)
        self.drop(request.place + WANTED)

    def settle(self, request: Request) -> None:
        """Note that a request has been worked on."""
        self.drop(request.place + BEGUN)

    def fail(self, request: Request, why: str) -> None:
        """Note that a request has been worked on, and nothing came of it."""
        self.write(request.place + FAILED, why.encode())
        self.drop(request.place + BEGUN)

    def refuse(self, request: Request) -> None:
        """Note that there is nothing to translate."""
        self.write(request.place + NONE, b"")
        self.drop(request.place + BEGUN)

    def ask_again(self, request: Request) -> None:
        """Let a request that was begun be open again; its translator has ended."""
        self.write(request.place + WANTED, request.content)
        self.drop(request.place + BEGUN)

    def complete(self, units: Iterable[str]) -> None:
        """Note that all units of the program are there."""
        self.write(DONE, json.dumps(sorted(units)).encode())

    def all_units(self) -> set[str] | None:
        """Return the names of all units of the program; None if not all have been made."""
        content = self.read(DONE)
        try:
            return None if content is None else set(json.loads(content))
        except (ValueError, TypeError):
            self.drop(DONE)
            return None


def _used_at(path: Path) -> float:
    """Return when a folder was last used; long ago if somebody has just dropped it."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _request_of(content: bytes) -> Request | None:
    """Return a request; None if it is damaged."""
    try:
        given = json.loads(content)
        pages = tuple(int(page) for page in given["static_pages"])
        pc = None if given["pc"] is None else int(given["pc"])
        return Request(pc, pages, int(given["tries"]), bool(given["notes_loads"]))
    except (ValueError, TypeError, KeyError):
        return None
