"""Files that MPI libraries leave in /dev/shm: those of dead runs are told, our own are unlinked.

A rank that is killed cannot remove what MPI made for it, and nobody else does; each such file
holds memory until the machine is restarted. A name is only needed until every rank of the node has
mapped the file, so a run that removes the names early leaves nothing, however it dies.

What is dead is decided by processes: a file that no process has mapped or open. Nothing is removed
here but the names of files that this process has mapped itself.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from dvm_mpi import config
from dvm_mpi.launch.memory import SHM, in_units
from dvm_mpi.values import dataclass

#: How the files of MPICH, UCX, Open MPI and PSM are named.
_PATTERNS: Final = (
    "mpich_shm_*",
    "mpich_shar_*",
    "ucx_shm_posix_*",
    "osc_sm*",
    "sm_segment*",
    "vader_segment*",
    "psm*_shm*",
)
_PROC: Final = Path("/proc")
_PATH_FIELD: Final = 5
_HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Segment:
    """A shared-memory file that nobody uses."""

    path: Path
    #: Memory that it takes, which may be less than its length.
    taken_bytes: int
    owner: int
    #: Seconds since it was last changed, as far as the file tells.
    age_s: float


def stale(now_s: float, shm: Path = SHM, proc: Path = _PROC) -> list[Segment]:
    """Return the files of dead MPI runs, by name; cheap if there are none at all.

    Files of another user with processes that we may not look into are left out: one of those may
    use them. Among our own processes only those that guard secrets refuse, and those are no ranks.
    Files that vanish while we look are left out too.

    Parameters
    ----------
    now_s
        The time of day, as file times count it.
    """
    found = {path: path.lstat() for path in _mpi_files(shm)}
    if not found:
        return []
    names = {path.name for path in found}
    used: set[tuple[int, str]] = set()
    doubtful: set[int] = set()
    for process in proc.iterdir():
        if process.name.isdigit():
            try:
                used.update(_mapped(process / "maps", names))
                used.update(_opened(process / "fd", names))
            except PermissionError:
                doubtful.update(_owner(process))
            except OSError:
                continue
    return [
        Segment(path, status.st_blocks * 512, status.st_uid, max(now_s - status.st_mtime, 0.0))
        for path, status in sorted(found.items())
        if (status.st_ino, path.name) not in used
        and status.st_uid not in doubtful - {os.getuid()}
        and path.exists()
    ]


def describe(segments: Sequence[Segment], user: int) -> str:
    """Return the message about files of dead runs: what they take, and how to be rid of them.

    Parameters
    ----------
    segments
        At least one.
    user
        Who reads this; files of others are told with their owners' names.
    """
    assert segments, "nothing to tell"
    count = len(segments)
    taken = in_units(sum(segment.taken_bytes for segment in segments))
    oldest = max(segment.age_s for segment in segments)
    lines = [
        f"dead MPI runs have left {count} {'file' if count == 1 else 'files'} of shared memory, "
        f"{taken} in all, for up to {_age(oldest)}; no process that can be seen here uses them"
    ]
    shown = segments[: config.SEGMENTS_SHOWN_MAX]
    import shlex

    own = [shlex.quote(s.path.name) for s in shown if user in {0, s.owner}]
    if own:
        folder = shlex.quote(str(shown[0].path.parent))
        lines.append(f"  remove them with: (cd {folder} && rm {' '.join(own)})")
    lines += [
        f"  {segment.path} belongs to {_user_name(segment.owner)}"
        for segment in shown
        if user not in {0, segment.owner}
    ]
    if count > len(shown):
        lines.append(f"  and {count - len(shown):,} more")
    return "\n".join(lines)


def unlink_mapped(shm: Path = SHM, maps: Path = _PROC / "self" / "maps") -> list[str]:
    """Remove the names of MPI's files that this process has mapped; return them, sorted.

    To be called when all ranks of the node have mapped them; they may all call it. The memory
    stays until the last process ends.
    """
    removed = []
    present = list(_mpi_files(shm))
    mapped = {name for _, name in _mapped(maps, {path.name for path in present})}
    for path in present:
        if path.name in mapped:
            try:
                path.unlink()
            except OSError:
                # Another rank of the node was first, or the folder is not ours to change.
                continue
            removed.append(path.name)
    return removed


def _mpi_files(shm: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(shm))  # noqa: PTH208 - names, not paths, are compared
    except OSError:
        return
    for name in names:
        if any(fnmatchcase(name, pattern) for pattern in _PATTERNS):
            path = shm / name
            if path.is_file() and not path.is_symlink():
                yield path


def _mapped(maps: Path, names: Collection[str]) -> Iterator[tuple[int, str]]:
    """Yield inode and name of the files of these names that a process has mapped.

    Both, and no device: containers may see one file under several devices and folders.
    """
    content = maps.read_bytes()
    # Most processes map none of them, and a process may have thousands of lines.
    if not any(os.fsencode(name) in content for name in names):
        return
    for line in content.splitlines():
        fields = line.split(None, _PATH_FIELD)
        if len(fields) > _PATH_FIELD:
            name = os.fsdecode(fields[_PATH_FIELD].rpartition(b"/")[2])
            if name in names:
                yield int(fields[4]), name


def _opened(descriptors: Path, names: Collection[str]) -> Iterator[tuple[int, str]]:
    """Yield inode and name of the files of these names that a process has open."""
    for number in os.listdir(descriptors):  # noqa: PTH208 - thousands, most of them not looked at
        link = f"{descriptors}/{number}"
        try:
            name = os.readlink(link).rpartition("/")[2]  # noqa: PTH115 - likewise
            if name in names:
                yield os.stat(link).st_ino, name  # noqa: PTH116 - likewise
        except OSError:
            continue


def _owner(process: Path) -> Iterable[int]:
    try:
        return (process.stat().st_uid,)
    except OSError:
        return ()


def _user_name(user: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"


def _age(seconds: float) -> str:
    if seconds < _HOUR_S:
        return f"{int(seconds // 60)} min"
    hours = int(seconds // _HOUR_S)
    return f"{hours} h" if hours < 48 else f"{hours // 24} days"  # noqa: PLR2004 - two days
