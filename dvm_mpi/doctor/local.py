"""What one rank finds of itself and its host before MPI starts, by the checks of a run."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from dvm_mpi.doctor import checks
from dvm_mpi.dsm.staging import arena_slice_bytes
from dvm_mpi.engine.address_space import AddressSpace
from dvm_mpi.launch import limits, memory, segments
from dvm_mpi.launch.environment import Launch
from dvm_mpi.launch.finding import Finding, Level, caught, good
from dvm_mpi.native import store
from dvm_mpi.values import replace


def findings(launch: Launch | None, environ: Mapping[str, str]) -> list[Finding]:
    """Return what this rank finds; *every rank* asks, and one of each host about left files."""
    limit = limits.measure()
    size, local_size = (launch.size, launch.local_size) if launch is not None else (1, 1)
    found = [_address_space(limit), _memory(launch, environ), _compiled_code()]
    if launch is None or launch.speaks_for_node:
        found.append(_left_files())
    threads = thread_count()
    settings = checks.thread_settings(environ)
    return [
        *found,
        limits.check_open_files(limit, size),
        limits.check_processes(limit, local_size, threads),
        limits.check_threads(threads, local_size, os.cpu_count() or 1, settings),
    ]


def _address_space(limit: limits.ProcessLimits) -> Finding:
    finding = limits.check_address_space(limit)
    if finding.level is not Level.GOOD:
        # A run that asks for no engine by name takes the reference.
        return replace(finding, level=Level.SLOW)

    def reserve() -> str:
        AddressSpace.shared()
        return f"{limits.ADDRESS_SPACE_BYTES >> 40} TiB are reserved"

    return caught("address space", reserve)


def _memory(launch: Launch | None, environ: Mapping[str, str]) -> Finding:
    node = memory.measure()
    free, total = memory.in_units(node.shared_free), memory.in_units(node.shared_total)
    limit = ", the limit of the control group" if node.is_limited else ""
    told = f"{memory.in_units(node.total)} in a host{limit}; /dev/shm {free} free of {total}"
    if launch is None:
        return good("memory", told)
    remark = ""

    def plan() -> str:
        nonlocal remark
        found = memory.plan(
            launch,
            node,
            environ,
            memory_bytes=None,
            arena_bytes=launch.size * arena_slice_bytes(launch.size),
            plane="auto",
        )
        remark = found.remark
        return f"{told}; a rank gets {memory.in_units(found.memory_bytes)}"

    finding = caught("memory", plan)
    if remark:
        helps = "a larger /dev/shm: docker run --shm-size 2g, or mount -o remount,size=2g /dev/shm"
        return Finding(Level.SLOW, "memory", remark, helps)
    return finding


def _left_files() -> Finding:
    found = segments.stale(time.time())
    if found:
        return Finding(Level.SLOW, "left files", segments.describe(found, os.getuid()))
    return good("left files", "none in /dev/shm")


def _compiled_code() -> Finding:
    chosen: list[store.Folder] = []

    def choose() -> str:
        chosen.append(store.choose_folder())
        return ""

    finding = caught("compiled code", choose)
    if not chosen:
        return finding
    path = str(chosen[0].path)
    kind = checks.file_system_of(path, _text(Path("/proc/self/mounts")))
    return checks.check_code_folder(path, chosen[0].notice, kind)


def thread_count(proc: Path = Path("/proc")) -> int:
    """Return the threads of this process."""
    lines = _text(proc / "self" / "status").splitlines()
    counts = [int(line.split()[1]) for line in lines if line.startswith("Threads:")]
    return counts[0] if counts else 1


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
