"""What memory a program needs on several ranks: a table for people, sizes for scripts.

Counted is what a program is sure to fill, as in `control/capacity`, and what the machine takes
beside it. What a program stores beyond that, from `.space` to `malloc`, nobody knows before it
runs. The sizes are what a rank has at most, if `--memory` is as recommended; pages of memory take
room only when they are used.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from dvm_mpi import config
from dvm_mpi.control.capacity import data_bytes, geometry_of, listed, needed_pages
from dvm_mpi.disa.image_file import open_program
from dvm_mpi.disa.verifier import verify
from dvm_mpi.dsm.staging import arena_slice_bytes
from dvm_mpi.io import specs
from dvm_mpi.io.arrays import open_input
from dvm_mpi.launch.memory import NodeMemory, in_units
from dvm_mpi.layout import PAGE_BYTES
from dvm_mpi.values import dataclass

#: The text in the view, decoded, and with its lines.
_PROGRAM_FACTOR: Final = 8
#: One byte of the view's masks marks so many bytes as stored.
_BYTES_PER_MARK: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Sizes in bytes, those of a rank unless the name says otherwise."""

    program: str
    ranks: int
    ranks_per_node: int
    #: Of the whole program: the arrays, their names with sizes, and other data that is not zero.
    array_bytes: int
    arrays: str
    data_bytes: int
    #: What `--memory` must be at least, should be, and must be if everything that the program fills
    #: is stored again while snapshots need the old content.
    memory_min_bytes: int
    memory_bytes: int
    memory_max_bytes: int
    #: Pages of arrays and data at the rank that has most of them, each once.
    pages_bytes: int
    #: The staging arena, and what MPI takes of /dev/shm.
    arena_bytes: int
    mpi_bytes: int
    #: The process without the program, and the program.
    process_bytes: int
    program_bytes: int
    #: Pages that runners see, with the marks of stored bytes.
    view_bytes: int
    #: Write sets that wait to be committed, each at most `stores_bytes`.
    staged_bytes: int
    stores_bytes: int
    #: Directory of the pages.
    table_bytes: int
    #: For reading inputs that do not lie in their files as in memory.
    input_bytes: int
    #: The options that the run needs as well.
    options: tuple[str, ...]

    @property
    def is_shared(self) -> bool:
        """Whether pages and arena are in /dev/shm: windows are, if several ranks share a node."""
        return self.ranks_per_node > 1

    @property
    def window_bytes(self) -> int:
        """Pages, arena and what MPI takes beside them."""
        return self.memory_bytes + self.arena_bytes + self.mpi_bytes

    @property
    def own_bytes(self) -> int:
        """Memory that is this process's alone, wherever windows are."""
        return (
            self.process_bytes
            + self.program_bytes
            + self.view_bytes
            + self.staged_bytes
            + self.table_bytes
            + self.input_bytes
        )

    @property
    def rank_bytes(self) -> int:
        """Everything."""
        return self.window_bytes + self.own_bytes


def estimate(
    program: Path,
    defines: Mapping[str, str],
    inputs: tuple[str, ...],
    *,
    ranks: int,
    ranks_per_node: int,
    stores_bytes: int,
) -> Estimate:
    """Add up what a program needs; its inputs are compared with their arrays.

    Raises
    ------
    DvmError
        The program cannot be assembled, or an input cannot be used.
    """
    assert 0 < ranks_per_node <= ranks
    image = open_program(program, defines)
    verify(image)
    given = [specs.parse_spec(text, "--in") for text in inputs]
    are_direct = []
    for spec, declaration in specs.match_declarations(given, image.arrays):
        with open_input(spec, declaration) as source:
            are_direct.append(source.is_direct)
    pages = int(needed_pages(image, geometry_of(image, ranks)).max())
    pages_bytes = pages * PAGE_BYTES
    array_bytes = sum(array.byte_count for array in image.arrays.values())
    filled_bytes = array_bytes + data_bytes(image)
    stores_bytes = min(stores_bytes, filled_bytes)
    seen_bytes = min(config.CACHE_BYTES_DEFAULT + stores_bytes, filled_bytes)
    spare = config.MEMORY_SPARE_BYTES
    return Estimate(
        program=str(program),
        ranks=ranks,
        ranks_per_node=ranks_per_node,
        array_bytes=array_bytes,
        arrays=listed(image.arrays.values()),
        data_bytes=data_bytes(image),
        memory_min_bytes=_whole_mib(pages_bytes + spare),
        memory_bytes=_whole_mib(int(pages_bytes * config.MEMORY_FACTOR) + spare),
        memory_max_bytes=_whole_mib(2 * pages_bytes + spare),
        pages_bytes=pages_bytes,
        arena_bytes=ranks * arena_slice_bytes(ranks),
        mpi_bytes=config.MPICH_SHARED_BYTES if ranks > 1 else 0,
        process_bytes=config.RANK_BYTES,
        program_bytes=_PROGRAM_FACTOR * len(image.text) + data_bytes(image),
        view_bytes=seen_bytes + seen_bytes // _BYTES_PER_MARK,
        staged_bytes=config.STAGED_WRITE_SETS * stores_bytes,
        stores_bytes=stores_bytes,
        table_bytes=pages * config.TABLE_BYTES_PER_PAGE,
        input_bytes=0 if all(are_direct) else config.CHUNK_CACHE_BYTES,
        options=_options(defines, inputs),
    )


def _whole_mib(size: int) -> int:
    return -(-size // config.MIB) * config.MIB


def _options(defines: Mapping[str, str], inputs: tuple[str, ...]) -> tuple[str, ...]:
    given = [("-D", f"{name}={value}") for name, value in defines.items()]
    return tuple(word for pair in (*given, *(("--in", text) for text in inputs)) for word in pair)


def as_json(sizes: Estimate) -> str:
    """Return the sizes as JSON text, one field a line."""
    sums = {
        "window_bytes": sizes.window_bytes,
        "own_bytes": sizes.own_bytes,
        "rank_bytes": sizes.rank_bytes,
        "node_bytes": sizes.rank_bytes * sizes.ranks_per_node,
    }
    return json.dumps(asdict(sizes) | sums, indent=2) + "\n"


def as_text(sizes: Estimate, machine: NodeMemory) -> str:
    """Return the table, the command to run, and whether this machine would do."""
    s = sizes
    nodes = math.ceil(s.ranks / s.ranks_per_node)
    lines = [
        f"{Path(s.program).name} on {_counted(s.ranks, 'rank')}"
        f"{f', {s.ranks_per_node} on each of {nodes} nodes' if nodes > 1 else ''}",
        f"  arrays       {s.arrays}",
        f"  other data   {in_units(s.data_bytes)}",
        "",
        f"{'':40}{'each rank':>12}{'each node':>12}",
    ]
    windows = "in /dev/shm" if s.is_shared else "in memory of its own"
    for title, rows in (
        (f"pages and windows, {windows}", tuple(_window_rows(s))),
        ("the process, in memory of its own", tuple(_own_rows(s))),
    ):
        lines.append(f"  {title}")
        for what, size in rows:
            lines.append(_row(f"  {what}", size, s.ranks_per_node))
    lines += [
        _row("together", s.rank_bytes, s.ranks_per_node),
        "",
        f"  --memory {_mib(s.memory_bytes)} is recommended. At least {_mib(s.memory_min_bytes)}: "
        "every page once. A page that is",
        "  stored while a snapshot needs the old one takes a second frame until then: "
        f"{_mib(s.memory_max_bytes)}",
        "  if that may happen to all of them at once. What the program takes with malloc or stores",
        "  to .space comes on top.",
        "",
        f"  {command(s)}",
        "",
        *(f"  {line}" for line in _verdict(s, machine)),
    ]
    return "\n".join(lines)


def command(sizes: Estimate) -> str:
    """Return the command line of the run."""
    launcher = f"mpiexec -n {sizes.ranks} " if sizes.ranks > 1 else ""
    words = [sizes.program, *sizes.options, "--memory", _mib(sizes.memory_bytes)]
    return f"{launcher}python -m dvm_mpi {shlex.join(words)}"


def _window_rows(s: Estimate) -> Iterator[tuple[str, int]]:
    yield "pages, each once", s.pages_bytes
    yield "second frames, and room for more", s.memory_bytes - s.pages_bytes
    yield "staging arena", s.arena_bytes
    if s.mpi_bytes:
        yield "MPI itself", s.mpi_bytes


def _own_rows(s: Estimate) -> Iterator[tuple[str, int]]:
    yield "Python, compiled code, libraries", s.process_bytes
    yield "program", s.program_bytes
    yield "view, with the page cache", s.view_bytes
    yield f"write sets of {in_units(s.stores_bytes)}, staged", s.staged_bytes
    yield "directory of the pages", s.table_bytes
    if s.input_bytes:
        yield "reading of swapped or compressed inputs", s.input_bytes


def _row(what: str, size: int, count: int) -> str:
    return f"  {what:38}{in_units(size):>12}{in_units(size * count):>12}"


def _verdict(s: Estimate, machine: NodeMemory) -> Iterator[str]:
    """Tell whether a node like this one would do, and what to do if not."""
    n = s.ranks_per_node
    shared = s.window_bytes * n if s.is_shared else 0
    has = f"{in_units(machine.total)} of memory"
    if s.is_shared:
        has += f", {in_units(machine.shared_free)} of /dev/shm free"
    lacks = []
    if s.rank_bytes * n > machine.total:
        lacks.append(f"{in_units(s.rank_bytes * n)} of memory")
    if shared > machine.shared_free:
        lacks.append(f"{in_units(shared)} of /dev/shm")
    if not lacks:
        yield f"This machine has {has}: enough for {_counted(n, 'rank')}."
        return
    yield f"This machine has {has}: TOO LITTLE for {_counted(n, 'rank')},"
    yield f"which may need {' and '.join(lacks)}."
    if s.ranks > 1 or n > 1:
        yield "What helps: more nodes with fewer ranks on each (--ranks-per-node)."
    if shared > machine.shared_free:
        yield "Without windows (--data-plane message) the pages are not in /dev/shm."


def _mib(size: int) -> str:
    return f"{size // config.MIB}M"


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
