"""What stands between MPICH and Slurm at the start, with sockets that play both."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from dvm_mpi.launch.environment import Launch, Launcher
from dvm_mpi.launch.slurm_pmi import LINE_BYTES, VALUE_BYTES, short_values, shorten

PMI2 = Launch(Launcher.SLURM_PMI2, rank=0, size=2, local_rank=0, local_size=1, job="7.0")
#: The longest names of a job and step, a key as MPICH makes them, and a value of a size.
PUT = "cmd=put kvsname=4294967295.4294967295 key=-allgather-shm-1-1048575-seg-10/10 value={}\n"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """What MPICH writes to, and Slurm's end of that."""
    mpich, slurm = socket.socketpair()
    with mpich, slurm:
        slurm.settimeout(60)
        mpich.settimeout(60)
        yield mpich, slurm


def test_only_the_limit_of_values_is_another() -> None:
    said = b"cmd=maxes rc=0 kvsname_max=256 keylen_max=64 vallen_max=1024\n"
    assert shorten(said) == said.replace(b"1024", b"896")


@pytest.mark.parametrize(
    "said",
    [
        b"cmd=maxes rc=0 kvsname_max=256 keylen_max=64 vallen_max=512\n",
        b"cmd=get_result rc=0 value=cmd=maxes vallen_max=1024\n",
        b"    40cmd=kvs-get-response;rc=0;vallen_max=1024;",
        b"",
    ],
)
def test_all_else_stays(said: bytes) -> None:
    assert shorten(said) == said


def test_what_mpich_makes_of_the_limit_is_read_whole() -> None:
    """Two digits for each byte of a part, and a part is half of the limit less two."""
    dense = 2 * ((VALUE_BYTES - 2) // 2)
    assert len(PUT.format(dense * "F")) <= LINE_BYTES
    assert len(PUT.format(1022 * "F")) > LINE_BYTES


def test_both_hear_each_other_while_mpi_starts_and_after(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    mpich, slurm = ends
    before = os.fstat(mpich.fileno()).st_ino
    with short_values(PMI2, {"PMI_FD": str(mpich.fileno())}):
        assert os.fstat(mpich.fileno()).st_ino != before
        mpich.sendall(b"cmd=get_maxes\n")
        assert slurm.recv(LINE_BYTES) == b"cmd=get_maxes\n"
        slurm.sendall(b"cmd=maxes rc=0 vallen_max=1024\n")
        assert mpich.recv(LINE_BYTES) == b"cmd=maxes rc=0 vallen_max=896\n"
    assert os.fstat(mpich.fileno()).st_ino == before
    mpich.sendall(b"cmd=finalize\n")
    assert slurm.recv(LINE_BYTES) == b"cmd=finalize\n"
    slurm.sendall(b"cmd=maxes rc=0 vallen_max=1024\n")
    assert mpich.recv(LINE_BYTES) == b"cmd=maxes rc=0 vallen_max=1024\n"
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_start_that_fails_leaves_nothing(ends: tuple[socket.socket, socket.socket]) -> None:
    mpich, slurm = ends
    before = os.fstat(mpich.fileno()).st_ino
    with (
        pytest.raises(RuntimeError),
        short_values(PMI2, {"PMI_FD": str(mpich.fileno())}),
    ):
        raise RuntimeError
    assert os.fstat(mpich.fileno()).st_ino == before
    slurm.sendall(b"cmd=finalize_ack\n")
    assert mpich.recv(LINE_BYTES) == b"cmd=finalize_ack\n"


def test_slurm_going_away_is_seen(ends: tuple[socket.socket, socket.socket]) -> None:
    mpich, slurm = ends
    with short_values(PMI2, {"PMI_FD": str(mpich.fileno())}):
        slurm.shutdown(socket.SHUT_RDWR)
        assert mpich.recv(LINE_BYTES) == b""


@pytest.mark.parametrize("launcher", [each for each in Launcher if each != Launcher.SLURM_PMI2])
def test_other_launchers_are_left_alone(
    launcher: Launcher, ends: tuple[socket.socket, socket.socket]
) -> None:
    mpich, _ = ends
    before = os.fstat(mpich.fileno()).st_ino
    launch = Launch(launcher, rank=0, size=2, local_rank=0, local_size=1, job="7.0")
    with short_values(launch, {"PMI_FD": str(mpich.fileno())}):
        assert os.fstat(mpich.fileno()).st_ino == before


@pytest.mark.parametrize("value", ["", "x", "99999"])
def test_without_a_descriptor_nothing_happens(value: str) -> None:
    with short_values(PMI2, {"PMI_FD": value}), pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
