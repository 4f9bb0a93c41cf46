"""The sizes that are told before a run, against sums made by hand."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from dvm_mpi import config
from dvm_mpi.cli import main
from dvm_mpi.config import GIB, KIB, MIB
from dvm_mpi.control.capacity import check_fits, geometry_of
from dvm_mpi.disa.image_file import open_program
from dvm_mpi.errors import ExitCode, FileError, LimitError
from dvm_mpi.job.estimate import Estimate, as_json, as_text, command, estimate
from dvm_mpi.launch.memory import NodeMemory

PROGRAM = """\
        .array  big, fd, N
        .array  small, sd, 100
        .text
main:   exit:c
"""
LARGE = NodeMemory(1 << 50, 1 << 50, 1 << 50, False)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "p.dasm"
    path.write_text(PROGRAM)
    return path


def sizes_of(
    program: Path,
    elements: int,
    ranks: int,
    ranks_per_node: int | None = None,
    inputs: tuple[str, ...] = (),
    stores_bytes: int = 16 * MIB,
) -> Estimate:
    return estimate(
        program,
        {"N": str(elements)},
        inputs,
        ranks=ranks,
        ranks_per_node=ranks_per_node or ranks,
        stores_bytes=stores_bytes,
    )


def test_eight_gib_on_four_ranks_stay_below_twelve(program: Path) -> None:
    sizes = sizes_of(program, 1 << 30, 4)
    assert 2 * GIB <= sizes.pages_bytes <= 2 * GIB + config.HOME_BLOCK_PAGES * 4096
    assert sizes.pages_bytes < sizes.memory_min_bytes < sizes.memory_bytes < sizes.memory_max_bytes
    assert 4 * sizes.rank_bytes <= 12 * GIB
    assert sizes.table_bytes == sizes.pages_bytes // 4096 * config.TABLE_BYTES_PER_PAGE
    assert sizes.staged_bytes == 48 * MIB
    assert sizes.arena_bytes == 4 * config.ARENA_SLICE_BYTES


@pytest.mark.parametrize("elements", [1, 1000, 1 << 20, (1 << 24) + 1])
@pytest.mark.parametrize("ranks", [1, 3, 16])
def test_what_is_told_is_accepted(program: Path, elements: int, ranks: int) -> None:
    sizes = sizes_of(program, elements, ranks)
    image = open_program(program, {"N": str(elements)})
    check_fits(image, geometry_of(image, ranks), sizes.memory_min_bytes)
    with pytest.raises(LimitError):
        check_fits(image, geometry_of(image, ranks), sizes.pages_bytes - 1)


def test_a_small_program_needs_little(program: Path) -> None:
    """What holds bytes of the program is not larger than the program."""
    sizes = sizes_of(program, 1000, 1)
    assert sizes.stores_bytes == 8 * 1000 + 4 * 100
    assert sizes.view_bytes < 16 * KIB
    assert sizes.rank_bytes < 100 * MIB
    assert sizes.mpi_bytes == 0


def test_the_table_adds_up(program: Path) -> None:
    sizes = sizes_of(program, 1 << 30, 64, 16)
    text = as_text(sizes, LARGE)
    assert text.startswith("p.dasm on 64 ranks, 16 on each of 4 nodes\n")
    assert "  arrays       big 8.0 GiB, small 400 bytes\n" in text
    listed = json.loads(as_json(sizes))
    assert listed["rank_bytes"] == listed["window_bytes"] + listed["own_bytes"]
    assert listed["node_bytes"] == 16 * listed["rank_bytes"]
    parts = ("process", "program", "view", "staged", "table", "input")
    assert listed["own_bytes"] == sum(listed[f"{part}_bytes"] for part in parts)
    assert f"{16 * sizes.rank_bytes / GIB:.1f} GiB\n" in text
    assert "enough for 16 ranks" in text


def test_the_command_is_the_one_to_run(program: Path) -> None:
    assert command(sizes_of(program, 8, 4)) == (
        f"mpiexec -n 4 python -m dvm_mpi {program} -D N=8 --memory 17M"
    )
    assert command(sizes_of(program, 8, 1)).startswith("python -m dvm_mpi ")


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (NodeMemory(64 * GIB, 64 * GIB, 8 * GIB, False), "may need 11.6 GiB of memory."),
        (NodeMemory(64 * GIB, GIB, 64 * GIB, False), "may need 9.7 GiB of /dev/shm."),
        (NodeMemory(0, 0, GIB, True), "may need 11.6 GiB of memory and 9.7 GiB of /dev/shm."),
    ],
)
def test_a_machine_that_is_too_small_is_told(
    program: Path, machine: NodeMemory, words: str
) -> None:
    text = as_text(sizes_of(program, 1 << 30, 4), machine)
    assert "TOO LITTLE for 4 ranks" in text
    assert words in text
    assert "--ranks-per-node" in text
    assert ("--data-plane message" in text) == ("/dev/shm." in words)


def test_one_rank_on_a_node_needs_no_shared_memory(program: Path) -> None:
    text = as_text(sizes_of(program, 1 << 30, 4, 1), NodeMemory(0, 0, 64 * GIB, False))
    assert "This machine has 64.0 GiB of memory: enough for 1 rank." in text


def test_inputs_are_compared_and_their_reading_counts(program: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["plain"] = np.zeros(1000)
        file.create_dataset("packed", data=np.zeros(1000), compression="lzf")
    assert sizes_of(program, 1000, 2, inputs=(f"big={tmp_path}/a.h5:plain",)).input_bytes == 0
    packed = sizes_of(program, 1000, 2, inputs=(f"big={tmp_path}/a.h5:packed",))
    assert packed.input_bytes == config.CHUNK_CACHE_BYTES
    assert f"--in big={tmp_path}/a.h5:packed --memory" in command(packed)
    with pytest.raises(FileError, match="of shape"):
        sizes_of(program, 999, 2, inputs=(f"big={tmp_path}/a.h5:plain",))


def test_the_command_line(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tmp_path / "sizes.json"
    words = ["estimate", str(program), "-D", "N=8", "-n", "4", "--ranks-per-node", "2"]
    assert main([*words, "--stores", "1M", "--json", str(told)]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert "p.dasm on 4 ranks, 2 on each of 2 nodes" in out
    assert not err
    assert json.loads(told.read_text())["ranks_per_node"] == 2
    assert main([*words, "--json", str(tmp_path / "no" / "sizes.json")]) == ExitCode.FILE
    assert "cannot write" in capsys.readouterr().err
    assert main(["estimate", str(program)]) == ExitCode.SOURCE
    assert main(["estimate", str(program), "-n", "0"]) == ExitCode.USAGE
