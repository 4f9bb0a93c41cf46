"""What ranks tell each other before a run: are we the same program, the same version, one job?

Every rank gives one row; rank 0 compares them, reads the program and sends it to all, so that only
rank 0 needs the program's file. Rows and the welcome are plain bytes, for MPI's collectives.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import __version__, config
from dvm_mpi.errors import DvmError, ExitCode
from dvm_mpi.io.report import counted
from dvm_mpi.launch import binding, software
from dvm_mpi.launch.finding import Finding, Level, refuse
from dvm_mpi.launch.memory import MemoryPlan
from dvm_mpi.native import store
from dvm_mpi.options import RunOptions
from dvm_mpi.values import dataclass, replace

Bytes = NDArray[np.uint8]

#: What one rank says of itself; texts are cut to their room. Rows of all versions have one length
#: and begin with the version, so that another version is told as such.
ROW: Final = np.dtype(
    {
        "itemsize": 1024,
        "names": [
            "version",
            "sources",      # of the package, so that two versions do not meet
            "options",      # of the command line, as it was understood
            "program",      # of the program's file; empty if this rank cannot read it
            "host",
            "pid",
            "plane",        # data plane that this rank's node has room for
            "memory_bytes",
            "software",     # versions of Python, packages and MPI library
            "cores",        # that this rank may use, as the kernel lists them
            "cpu_count",    # of the host
            "numa_count",
        ],
        "formats": ["S32", "S32", "S32", "S32", "S64", "<i8", "S8", "<i8", "S192",
                    f"S{binding.LIST_BYTES}", "<i8", "<i8"],
    }
)  # fmt: skip

_DIGEST_DIGITS: Final = 32


def _digest(*parts: bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:_DIGEST_DIGITS].encode()


def _sources_digest() -> bytes:
    """Return a digest of the names and the content of all sources of the package."""
    digest = hashlib.sha256()
    folder = str(Path(__file__).resolve().parents[1])
    for path in _sources(folder):
        digest.update(f"{path.removeprefix(folder)}\0".encode())
        digest.update(store.content_of(path))
        digest.update(b"\0")
    return digest.hexdigest()[:_DIGEST_DIGITS].encode()


def _sources(folder: str) -> list[str]:
    """Return the paths of all sources in a folder and in those within, in one order."""
    found, folders = [], [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    found.append(entry.path)
                elif entry.is_dir() and entry.name != "__pycache__":
                    folders.append(entry.path)
    return sorted(found, key=lambda path: path.removeprefix(folder))


def _program_digest(path: Path) -> bytes:
    try:
        return _digest(path.read_bytes())
    except OSError:
        return b""


def own_row(options: RunOptions, plan: MemoryPlan, mpi: str) -> NDArray[Any]:
    """Return this rank's row: (1,) ROW; `mpi` names the library and its version."""
    # The folder of the program may differ between hosts; its bytes must not.
    # Nodes that allow few addresses execute runners with another engine: to the same bits.
    told = replace(options, program=Path(options.program.name), command=(), engine="")
    row = identity_row(mpi)
    row["options"] = _digest(repr(told).encode())
    row["program"] = _program_digest(options.program)
    row["plane"] = plan.plane.encode()
    row["memory_bytes"] = plan.memory_bytes
    return row


def identity_row(mpi: str) -> NDArray[Any]:
    """Return what a row says whatever is run: (1,) ROW."""
    row = np.zeros(1, ROW)
    row["version"] = __version__.encode()
    row["sources"] = _sources_digest()
    row["host"] = platform.node().encode()
    row["pid"] = os.getpid()
    row["software"] = f"{software.as_text(software.versions())}, {mpi}".encode()
    cores = binding.own_list().encode()
    row["cores"] = cores if len(cores) <= binding.LIST_BYTES else b""
    row["cpu_count"], row["numa_count"] = binding.host_shape()
    return row


def cores_of(rows: NDArray[Any]) -> list[binding.Cores]:
    """Return which cores ranks may use: (rank_count,) ROW."""
    return [
        binding.Cores(
            rank,
            row["host"].decode(),
            row["cores"].decode(),
            int(row["cpu_count"]),
            int(row["numa_count"]),
        )
        for rank, row in enumerate(rows)
    ]


def check_rows(rows: NDArray[Any]) -> None:
    """Compare what all ranks said of themselves: (rank_count,) ROW.

    Raises
    ------
    LaunchError
        Some rank differs from rank 0; the text names the ranks, the hosts and the remedy.
    """
    refuse(differences(rows))


def differences(rows: NDArray[Any]) -> list[Finding]:
    """Return in what ranks differ from rank 0: (rank_count,) ROW; the deepest reason first."""
    # What rank 0 cannot read is told when it is read.
    readers = (rows["program"] != b"") & (rows["program"][0] != b"")
    other_version = rows["version"] != rows["version"][0]
    questions = (
        (other_version, _other_version),
        (~other_version & (rows["sources"] != rows["sources"][0]), _other_sources),
        (rows["software"] != rows["software"][0], _other_software),
        (rows["options"] != rows["options"][0], _other_options),
        (readers & (rows["program"] != rows["program"][0]), _other_program),
    )
    return [
        Finding(Level.WRONG, "versions", tell(rows, ranks))
        for differs, tell in questions
        if len(ranks := np.flatnonzero(differs))
    ]


def common_plan(rows: NDArray[Any]) -> MemoryPlan:
    """Return what all ranks have room for, each of them at least: (rank_count,) ROW.

    Windows are made by all ranks or by none. Nodes may differ, and ranks of one node look at
    different moments: one that has no room for windows decides for all.
    """
    without = np.flatnonzero(rows["plane"] == b"message")
    plane, remark = rows["plane"][0].decode(), ""
    if len(without):
        plane = "message"
        remark = (
            f"/dev/shm has too little room for windows at {_ranks_on_hosts(rows, without)}: "
            "data of all ranks travels in messages, which is slower"
        )
    return MemoryPlan(int(rows["memory_bytes"].min()), plane, remark)


def _ranks_on_hosts(rows: NDArray[Any], ranks: NDArray[np.int64]) -> str:
    shown = ranks[: config.RANKS_SHOWN_MAX].tolist()
    told = ", ".join(f"rank {rank} on {rows['host'][rank].decode()}" for rank in shown)
    hidden = len(ranks) - len(shown)
    return told + (f" and {hidden:,} more" if hidden else "")


def _other_version(rows: NDArray[Any], ranks: NDArray[np.int64]) -> str:
    theirs = rows["version"][ranks[0]].decode()
    return (
        f"rank 0 runs DVM {rows['version'][0].decode()}, but {_ranks_on_hosts(rows, ranks)} "
        f"run{'s' if len(ranks) == 1 else ''} {theirs}; start all ranks from one environment"
    )


def _other_sources(rows: NDArray[Any], ranks: NDArray[np.int64]) -> str:
    return (
        f"the DVM of {_ranks_on_hosts(rows, ranks)} differs from that of rank 0 on "
        f"{rows['host'][0].decode()}, though both say {rows['version'][0].decode()}; "
        "start all ranks from one environment, or install the same tree on every host"
    )


def _other_software(rows: NDArray[Any], ranks: NDArray[np.int64]) -> str:
    own, theirs = (rows["software"][rank].decode().split(", ") for rank in (0, ranks[0]))
    pairs = [(a, b) for a, b in zip_longest(own, theirs, fillvalue="nothing") if a != b]
    return (
        f"rank 0 runs {', '.join(a for a, _ in pairs)}, but {_ranks_on_hosts(rows, ranks)} "
        f"run{'s' if len(ranks) == 1 else ''} {', '.join(b for _, b in pairs)}; "
        "start all ranks from one environment"
    )


def _other_options(rows: NDArray[Any], ranks: NDArray[np.int64]) -> str:
    return (
        f"the command line of {_ranks_on_hosts(rows, ranks)} differs from that of rank 0; "
        "start all ranks with one command line (`mpiexec -n N python -m dvm_mpi ...`)"
    )


def _other_program(rows: NDArray[Any], ranks: NDArray[np.int64]) -> str:
    return (
        f"the program's file has other bytes at {_ranks_on_hosts(rows, ranks)} than at rank 0 on "
        f"{rows['host'][0].decode()}; copy the same file to every host, or use a shared folder"
    )


@dataclass(frozen=True, slots=True)
class Welcome:
    """What rank 0 sends to all before the run; after a failure only what it says of that."""

    #: Unique for the run: heads the names of files about it.
    job: str = ""
    #: The program as an image file, and the whole of standard input.
    image: bytes = b""
    stdin: bytes = b""
    exit_code: int = int(ExitCode.OK)
    #: The data plane of all ranks, or "auto".
    plane: str = ""
    #: The host of each rank, as a number.
    hosts: tuple[int, ...] = ()

    def encode(self) -> Bytes:
        """Return this as bytes; a line of JSON and the contents."""
        sizes = (len(self.image), len(self.stdin))
        header = json.dumps([self.job, *sizes, self.exit_code, self.plane, self.hosts])
        return np.frombuffer(header.encode() + b"\n" + self.image + self.stdin, np.uint8)

    @classmethod
    def decode(cls, data: Bytes) -> Welcome:
        """Undo `encode`."""
        raw = data.tobytes()
        header, _, content = raw.partition(b"\n")
        job, image_bytes, stdin_bytes, exit_code, plane, hosts = json.loads(header)
        assert len(content) == image_bytes + stdin_bytes, "a welcome of another version"
        image, stdin = content[:image_bytes], content[image_bytes:]
        return cls(job, image, stdin, exit_code, plane, tuple(hosts))


#: Room for the text of one rank's failure.
_TEXT_BYTES: Final = 2048
VERDICT: Final = np.dtype([("exit_code", "<i8"), ("length", "<i8"), ("text", f"V{_TEXT_BYTES}")])


def verdict_row(error: DvmError | None) -> NDArray[Any]:
    """Return (1,) VERDICT: this rank can go on, or why it cannot."""
    row = np.zeros(1, VERDICT)
    if error is not None:
        text = error.message.encode()[:_TEXT_BYTES]
        row["exit_code"], row["length"] = error.exit_code, len(text)
        row["text"] = np.void(text.ljust(_TEXT_BYTES, b"\0"))
    return row


def first_failure(rows: NDArray[Any], tell: Callable[[str], None]) -> int:
    """Tell the first failure among all ranks; return its exit code, 0 if there is none."""
    failed = np.flatnonzero(rows["exit_code"])
    if len(failed) == 0:
        return 0
    first = rows[failed[0]]
    text = first["text"].tobytes()[: int(first["length"])].decode(errors="replace")
    others = f" (and {counted(len(failed) - 1, 'more rank')})" if len(failed) > 1 else ""
    tell(f"{text}\n  at rank {failed[0]}{others}")
    return int(first["exit_code"])
