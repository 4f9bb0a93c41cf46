from __future__ import annotations

import os
from pathlib import Path

import pytest

from dvm_mpi.config import (
    GIB,
    KIB,
    MEMORY_BYTES_MIN,
    MIB,
    MPICH_NOLOCAL_SHARED_BYTES,
    MPICH_SHARED_BYTES,
    OPEN_MPI_SEGMENT_BYTES,
    OPEN_MPI_SHARED_BYTES,
)
from dvm_mpi.errors import LimitError
from dvm_mpi.launch.environment import Launch, Launcher
from dvm_mpi.launch.memory import (
    MemoryPlan,
    NodeMemory,
    group_limits,
    has_shared_windows,
    in_units,
    measure,
    mpi_shared_bytes,
    plan,
)
from dvm_mpi.layout import PAGE_BYTES

ARENA = 4 * MIB
#: A machine of 24 GiB, as it is and in a container that was given no --shm-size.
NODE = NodeMemory(12 * GIB, 12 * GIB, 24 * GIB, is_limited=False)
CONTAINER = NodeMemory(64 * MIB, 64 * MIB, 24 * GIB, is_limited=False)
NOLOCAL = {"MPIR_CVAR_NOLOCAL": "1"}


def ranks(local_size: int, launcher: Launcher = Launcher.HYDRA, size: int | None = None) -> Launch:
    return Launch(launcher, 0, size or local_size, 0, local_size, "job")


def planned(
    launch: Launch,
    node: NodeMemory,
    memory_bytes: int | None = None,
    plane: str = "auto",
    environ: dict[str, str] | None = None,
    arena_bytes: int = ARENA,
) -> MemoryPlan:
    return plan(
        launch, node, environ or {},
        memory_bytes=memory_bytes, arena_bytes=arena_bytes, plane=plane,
    )  # fmt: skip


def refused(*arguments: object, **more: object) -> str:
    with pytest.raises(LimitError) as caught:
        planned(*arguments, **more)  # type: ignore[arg-type]
    return str(caught.value)


def test_less_than_a_page_is_refused_as_it_was_given() -> None:
    text = refused(ranks(2), NODE, 1000)
    assert text.startswith("--memory 1,000 bytes is too small: a rank needs at least one page of 4")
    assert planned(ranks(2), NODE, PAGE_BYTES).memory_bytes == PAGE_BYTES


# --- what MPI takes ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("launch", "environ", "expected"),
    [
        (ranks(16), {}, 16 * MPICH_SHARED_BYTES),
        (ranks(1), {}, MPICH_SHARED_BYTES),
        (ranks(16), NOLOCAL, 16 * MPICH_NOLOCAL_SHARED_BYTES),
        (ranks(16), {"MPIR_CVAR_NOLOCAL": "0"}, 16 * MPICH_SHARED_BYTES),
        (ranks(1, Launcher.OPEN_MPI), {}, 0),
        (ranks(4, Launcher.OPEN_MPI), NOLOCAL, 3 * OPEN_MPI_SHARED_BYTES + OPEN_MPI_SEGMENT_BYTES),
    ],
)
def test_mpi_itself_needs_shared_memory(
    launch: Launch, environ: dict[str, str], expected: int
) -> None:
    assert mpi_shared_bytes(launch, environ) == expected


def test_measured_borders_hold() -> None:
    """In 64 MB of /dev/shm MPICH was seen to start 12 ranks, and 16 to end by a signal."""
    assert mpi_shared_bytes(ranks(12), {}) <= 64 * MIB < mpi_shared_bytes(ranks(13), {})


def test_windows_are_shared_where_ranks_are_neighbours() -> None:
    assert has_shared_windows(ranks(2), {})
    assert has_shared_windows(ranks(2, Launcher.OPEN_MPI), NOLOCAL)
    assert not has_shared_windows(ranks(1, size=4), {})
    assert not has_shared_windows(ranks(2), NOLOCAL)


# --- the plan ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("launch", "node", "expected"),
    [
        # Half of the node's memory, shared out, less the arena.
        (ranks(4), NodeMemory(23 * GIB, 23 * GIB, 24 * GIB, False), 3 * GIB - ARENA),
        # What is free of /dev/shm, less what MPI takes, shared out, less the arena.
        (
            ranks(4),
            NodeMemory(8 * GIB, GIB, 24 * GIB, False),
            GIB // 4 - MPICH_SHARED_BYTES - ARENA,
        ),
        # Alone on its node: windows are private memory, /dev/shm does not matter.
        (ranks(1, size=4), CONTAINER, 12 * GIB - ARENA),
    ],
    ids=["node", "shm", "alone"],
)
def test_default_is_what_the_node_allows(launch: Launch, node: NodeMemory, expected: int) -> None:
    assert planned(launch, node) == MemoryPlan(expected, "auto", "")


def test_memory_is_whole_pages() -> None:
    got = planned(ranks(3), NODE).memory_bytes
    assert got % PAGE_BYTES == 0
    assert 4 * GIB - 64 * MIB < got < 4 * GIB
    assert planned(ranks(2), NODE, memory_bytes=GIB + 1).memory_bytes == GIB


def test_memory_that_was_asked_for_is_given_if_it_fits() -> None:
    fits = 3 * GIB - MPICH_SHARED_BYTES - ARENA
    assert planned(ranks(4), NODE, fits) == MemoryPlan(fits, "auto", "")
    assert planned(ranks(4), NODE, fits, "rma") == MemoryPlan(fits, "rma", "")
    refused(ranks(4), NODE, fits + PAGE_BYTES, "rma")


def test_messages_replace_windows_that_have_no_room() -> None:
    """A container with 64 MB of /dev/shm runs four ranks, and says why it is slower."""
    got = planned(ranks(4), CONTAINER)
    assert (got.memory_bytes, got.plane) == (3 * GIB, "message")
    assert got.remark == (
        "/dev/shm has 64.0 MiB free, too little for windows of 4 ranks: "
        "data travels in messages, which is slower"
    )
    # What was asked for needs windows that do not fit, but fits into the node's memory.
    got = planned(ranks(4), NODE, 4 * GIB)
    assert (got.memory_bytes, got.plane) == (4 * GIB, "message")


def test_messages_need_neither_windows_nor_arenas() -> None:
    assert planned(ranks(4), CONTAINER, plane="message") == MemoryPlan(3 * GIB, "message", "")
    whole = 6 * GIB - MPICH_SHARED_BYTES
    assert planned(ranks(4), NODE, whole, "message").memory_bytes == whole


def test_node_in_which_mpi_cannot_start_is_refused_whatever_the_plane() -> None:
    for plane in ("auto", "rma", "message"):
        text = refused(ranks(16), CONTAINER, plane=plane)
        assert text.startswith("MPI cannot start here: /dev/shm is too small")
        assert "ranks on this node   16" in text
        assert "/dev/shm             64.0 MiB free of 64.0 MiB" in text
        assert "MPI itself needs     84.0 MiB" in text
        for remedy in ("fewer ranks on each node", "--shm-size", "MPIR_CVAR_NOLOCAL=1"):
            assert remedy in text
    assert planned(ranks(16), CONTAINER, environ=NOLOCAL).plane == "auto"


def test_refusal_names_all_sizes_and_what_would_fit() -> None:
    node = NodeMemory(4 * GIB, 2 * GIB, 24 * GIB, is_limited=True)
    text = refused(ranks(4), node, GIB, "rma")
    fits = (2 * GIB // 4 - MPICH_SHARED_BYTES - ARENA) // MIB
    assert text.splitlines() == [
        "the ranks of this node do not fit into /dev/shm",
        "  ranks on this node   4",
        "  /dev/shm             2.0 GiB free of 4.0 GiB",
        "  memory of the node   24.0 GiB, the limit of its control group",
        "  MPI itself needs     21.0 MiB of /dev/shm",
        "  each rank needs      1.0 GiB (--memory) and 4.0 MiB (arena)",
        "  together             4.0 GiB",
        "  what helps:",
        "    fewer ranks on each node",
        f"    at most --memory {fits}M",
        "    --data-plane message, which keeps the pages out of /dev/shm",
        "    a larger /dev/shm: docker run --shm-size 2g, or mount -o remount,size=2g /dev/shm",
        "    MPIR_CVAR_NOLOCAL=1, with which MPICH uses the network inside a node",
    ]
    assert planned(ranks(4), node, fits * MIB, "rma").memory_bytes == fits * MIB


def test_refusal_for_want_of_memory_names_what_would_fit() -> None:
    for plane in ("auto", "message"):
        text = refused(ranks(4), NODE, 6 * GIB, plane)
        assert text.startswith("the ranks of this node do not fit into its memory")
        assert "--data-plane" not in text
        assert "at most --memory 6138M" in text
    assert planned(ranks(4), NODE, 6138 * MIB, "message").memory_bytes == 6138 * MIB


def test_default_never_falls_below_what_makes_sense() -> None:
    tiny = NodeMemory(GIB, GIB, 16 * 2 * (MEMORY_BYTES_MIN + ARENA), is_limited=True)
    assert planned(ranks(16), tiny).memory_bytes == MEMORY_BYTES_MIN
    less = NodeMemory(GIB, GIB, tiny.total - 32 * PAGE_BYTES, is_limited=True)
    text = refused(ranks(16), less)
    assert "each rank needs      16.0 MiB (the least that makes sense)" in text
    assert "at most --memory" not in text
    # Who asks for less gets it.
    assert planned(ranks(16), less, 8 * MIB).memory_bytes == 8 * MIB


def test_open_mpi_is_not_told_to_set_variables_of_mpich() -> None:
    text = refused(ranks(4, Launcher.OPEN_MPI), CONTAINER, plane="rma", memory_bytes=GIB)
    assert "NOLOCAL" not in text


# --- measuring ---------------------------------------------------------------------------------
def test_this_machine_is_measured() -> None:
    got = measure()
    shm = os.statvfs("/dev/shm")
    assert got.shared_total == shm.f_blocks * shm.f_frsize
    assert 0 <= got.shared_free <= got.shared_total
    assert 64 * MIB < got.total <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def test_missing_shared_memory_counts_as_none(tmp_path: Path) -> None:
    got = measure(tmp_path / "shm")
    assert (got.shared_total, got.shared_free) == (0, 0)
    assert refused(ranks(2), got).startswith("MPI cannot start here")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        # A batch job's group of version 2; the limit is that of a group above the process's.
        (
            "0::/system.slice/slurmd/job_17/step_0\n",
            {
                "system.slice/slurmd/job_17/step_0/memory.max": "max",
                "system.slice/slurmd/job_17/memory.max": str(8 * GIB),
                "system.slice/slurmd/memory.max": "max",
            },
            [8 * GIB],
        ),
        # A container of version 1 sees its own group as the root, its membership from outside.
        (
            "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n0::/\n",
            {"memory/memory.limit_in_bytes": str(2 * GIB)},
            [2 * GIB],
        ),
        (
            "4:memory:/a/b\n",
            {
                "memory/a/b/memory.limit_in_bytes": str(3 * GIB),
                "memory/memory.limit_in_bytes": "9223372036854771712",
            },
            [3 * GIB],
        ),
        ("1:name=systemd:/x\n", {"x/memory.max": "1"}, []),
        ("", {"memory.max": "1"}, []),
    ],
    ids=["v2", "container", "v1", "other", "none"],
)
def test_control_group_limits_are_found(
    tmp_path: Path, membership: str, files: dict[str, str], expected: list[int]
) -> None:
    write(tmp_path / "proc" / "self" / "cgroup", membership)
    for name, text in files.items():
        write(tmp_path / "groups" / name, text + "\n")
    limits = group_limits(tmp_path / "proc" / "self" / "cgroup", tmp_path / "groups")
    assert list(limits) == expected


def test_least_limit_is_the_memory_of_the_node(tmp_path: Path) -> None:
    write(tmp_path / "proc" / "self" / "cgroup", "0::/a\n")
    write(tmp_path / "groups" / "a" / "memory.max", str(50 * MIB))
    write(tmp_path / "groups" / "memory.max", str(70 * MIB))
    got = measure(proc=tmp_path / "proc", groups=tmp_path / "groups")
    assert (got.total, got.is_limited) == (50 * MIB, True)
    assert not measure(proc=tmp_path / "no").is_limited


def test_sizes_are_told_as_they_are_given() -> None:
    told = [in_units(size) for size in (0, 4095, 4 * KIB, 64 * MIB, 5 * GIB + GIB // 5)]
    assert told == ["0 bytes", "4.0 KiB", "4.0 KiB", "64.0 MiB", "5.2 GiB"]
