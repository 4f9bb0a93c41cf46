"""What ranks find out together: who they are, and how fast they reach each other and the files."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dvm_mpi.doctor import checks, exchange, pairs, report, writing
from dvm_mpi.doctor.meeting import Meeting
from dvm_mpi.doctor.report import Told
from dvm_mpi.dsm import probe
from dvm_mpi.io.report import counted
from dvm_mpi.job.greeting import ROW, cores_of, differences, identity_row
from dvm_mpi.launch import binding, segments
from dvm_mpi.launch.environment import Launch
from dvm_mpi.launch.finding import Finding, Level, good


def examine(
    meeting: Meeting,
    launch: Launch,
    mpi: str,
    own: Sequence[Finding],
    *,
    folder: Path | None,
    quick: bool,
) -> tuple[list[Told], list[str]]:
    """Return all findings and the host of each rank, on rank 0; *collective*.

    Parameters
    ----------
    mpi
        Names the MPI library and its version.
    own
        What this rank has found before MPI started.
    folder, quick
        Where a file is written; whether everything that takes time is left out.
    """
    meeting.begin("say who they are")
    rows = meeting.gather(identity_row(mpi).view(np.uint8))
    told: list[Told] = []
    hosts: list[str] = []
    cores: list[Finding] = []
    if rows is not None:
        # As in a run: everybody has mapped what MPI shares.
        segments.unlink_mapped()
        said = rows.reshape(-1).view(ROW)
        hosts = [host.decode() for host in said["host"].tolist()]
        mixed = differences(said)
        same = f"DVM {said['version'][0].decode()}, {said['software'][0].decode()} on all ranks"
        cores = binding.check_cores(cores_of(said), launch)
        world = good("world", f"{counted(launch.size, 'rank')} in one world")
        found = [world, *(mixed or [good("versions", same)]), *cores]
        found += checks.check_allocation(os.environ, launch.size, hosts)
        told = [Told(finding) for finding in found]
    # Ranks of another version may not know what comes next.
    is_mixed = meeting.broadcast(
        any(t.finding.subject == "versions" and _is_wrong(t) for t in told)
    )
    segments.unlink_mapped()
    meeting.begin("say what they have found")
    if is_mixed:
        return [*told, *(Told(finding) for finding in own)], hosts
    listed = meeting.gather_values(report.pack(own).decode())
    found_by_all = [(r, f) for r, text in enumerate(listed) for f in report.unpack(text.encode())]
    told += report.fold(found_by_all)
    told += _clocks(meeting, hosts)
    if not quick:
        has_room = not any(_is_slow_memory(finding) for _, finding in found_by_all)
        told += _progress(meeting, has_room)
        is_crowded = any(finding.level is Level.SLOW for finding in cores)
        told += _messages(meeting, hosts, is_crowded)
        told += _writing(meeting, launch, folder)
    return told, hosts


def _is_wrong(told: Told) -> bool:
    return told.finding.level is Level.WRONG


def _is_slow_memory(finding: Finding) -> bool:
    return finding.subject == "memory" and finding.level is Level.SLOW


def _clocks(meeting: Meeting, hosts: Sequence[str]) -> list[Told]:
    meeting.begin("read their clocks")
    meeting.broadcast(None)
    times_s = meeting.gather_numbers(time.time())
    return [Told(checks.check_clocks(times_s, hosts))] if times_s else []


def _progress(meeting: Meeting, has_room: bool) -> list[Told]:
    """Try what a run tries at its start; not where windows have no room."""
    from dvm_mpi.dsm.window import Windows

    meeting.begin("try their windows")
    if not meeting.broadcast(has_room):
        return []
    windows = Windows(meeting.transport.comm, 1, 1, 0, probe.MAILBOX_BYTES)
    trying = probe.probe(windows, platform.node())
    while True:
        try:
            next(trying)
        except StopIteration as ended:
            found: probe.Finding = ended.value
            break
        meeting.turn()
    windows.close()
    if not meeting.is_first:
        return []
    if found.answers:
        return [Told(good("progress", str(found)))]
    helps = (
        "nothing has to be done; runs that move much data gain from a network that reads memory "
        "without the rank's help (InfiniBand by UCX, Slingshot by libfabric)"
    )
    return [Told(Finding(Level.SLOW, "progress", found.remark, helps))]


def _messages(meeting: Meeting, hosts: Sequence[str], is_crowded: bool) -> list[Told]:
    meeting.begin("exchange messages")
    chosen = meeting.broadcast(pairs.choose(hosts) if meeting.is_first else None)
    rounds = [[(first, second) for first, second in one] for one in chosen]
    own = exchange.measure(meeting.transport.comm, rounds, meeting.turn_for)
    rows = [(m.first, m.second, m.latency_us, m.rate_mb_s) for m in own]
    listed = meeting.gather_values(rows)
    measured = [pairs.Measured(*row) for of_rank in listed for row in of_rank]
    return [Told(finding) for finding in pairs.judge(measured, hosts, is_crowded=is_crowded)]


def _writing(meeting: Meeting, launch: Launch, folder: Path | None) -> list[Told]:
    if folder is None:
        if not meeting.is_first:
            return []
        return [Told(good("writing", "not tried; --folder DIR with the folder of your outputs"))]
    rank, size = launch.rank, launch.size
    path = folder / f".dvm-doctor-{meeting.broadcast(launch.job)}"
    meeting.begin("write into one file")
    wrong = writing.make(path) if meeting.is_first else None
    told = [(0, wrong)] if wrong is not None else []
    if meeting.broadcast(wrong is None):
        seconds, wrong = writing.write(path, rank, size)
        told += _collect(meeting, wrong)
        all_seconds = meeting.gather_numbers(seconds)
        if not meeting.broadcast(bool(told)):
            told += _collect(meeting, writing.read(path, writing.partner(rank, size), size))
        if meeting.is_first:
            writing.remove(path)
            if not told:
                return [Told(writing.judge(folder, all_seconds))]
    return report.fold(told)


def _collect(meeting: Meeting, wrong: Finding | None) -> list[tuple[int, Finding]]:
    """Return what is wrong on each rank, on rank 0."""
    listed = meeting.gather_values(report.pack([wrong] if wrong is not None else []).decode())
    return [(r, f) for r, text in enumerate(listed) for f in report.unpack(text.encode())]
