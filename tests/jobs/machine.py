"""Runs a job of `jobs/` to its end on a machine inside the test's process."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dvm_mpi import config
from dvm_mpi.control.delivery import InOrder, Shuffled
from dvm_mpi.control.driver import LocalMachine, MachineSettings, Silent
from dvm_mpi.disa.assembler import assemble_file, assemble_text
from dvm_mpi.disa.image import ArrayDeclaration, Image
from dvm_mpi.engine.interface import EngineSettings
from dvm_mpi.io.arrays import DTYPES
from dvm_mpi.layout import PAGE_BYTES, PAGE_SHIFT
from tests.engine.agreement import ALL_ENGINES

JOBS = Path(__file__).resolve().parents[2] / "jobs"


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished run leaves; `watchers_left` counts templates that were still armed."""

    console: str
    arrays: dict[str, NDArray[np.generic]]
    watchers_left: int
    firings: int


class _Listener(Silent):
    def __init__(self) -> None:
        self.heard = bytearray()

    def printed(self, data: NDArray[np.uint8]) -> None:
        self.heard += data.tobytes()


def source_of(name: str) -> Path:
    """Return the program of a job."""
    return JOBS / name / f"{name}.dasm"


def run_text(text: str, engine: str = "reference") -> str:
    """Run a program that stands in a test, and return what it prints; may include from lib/."""
    image = assemble_text(text, str(JOBS / "hello" / "test.dasm"), {})
    return run_image(image, engine=engine).console


def run_job(name: str, parameters: Mapping[str, int] | None = None, **options: object) -> Result:
    """Assemble a job with `-D` parameters and run it; options as for `run_image`."""
    defines = {key: str(value) for key, value in (parameters or {}).items()}
    image = assemble_file(source_of(name), defines)
    return run_image(image, **options)  # type: ignore[arg-type]


def run_image(
    image: Image,
    *,
    engine: str = "interp",
    workers: int = 1,
    homes: int = 1,
    seed: int | None = None,
    inputs: Mapping[str, NDArray[np.generic]] | None = None,
) -> Result:
    """Run to the end; `inputs` fills arrays of the program, `seed` shuffles the order of events."""
    settings = MachineSettings(workers=workers, homes=homes, memory_bytes=256 * config.MIB)
    engine_settings = EngineSettings(
        stack_bytes=settings.stack_bytes,
        fuel_max=0,
        allow_undeclared=False,
        cache_bytes=config.CACHE_BYTES_DEFAULT,
        clock=time.time_ns,
    )
    listener = _Listener()
    delivery = InOrder() if seed is None else Shuffled(seed, config.SLICE_FUEL)
    machine = LocalMachine(
        image,
        settings,
        lambda: ALL_ENGINES[engine](engine_settings),
        delivery=delivery,
        observer=listener,
    )
    with closing(machine):
        for name, content in (inputs or {}).items():
            _load(machine, image.arrays[name], np.frombuffer(content.tobytes(), np.uint8))
        ending = machine.run()
        assert ending.failure is None, "the job trapped"
        return Result(
            console=listener.heard.decode(),
            arrays={a.name: read_array(machine, a) for a in image.arrays.values()},
            watchers_left=len(ending.watchers),
            firings=machine.scheduler.counters.watcher_firings,
        )


def _load(machine: LocalMachine, array: ArrayDeclaration, raw: NDArray[np.uint8]) -> None:
    def read_range(start: int, target: NDArray[np.uint8]) -> None:
        target[:] = raw[start : start + target.size]

    assert raw.size == array.byte_count
    for loaded_bytes in machine.loader.load_input(array, read_range):
        assert loaded_bytes <= machine.loader.loaded_bytes


def read_array(machine: LocalMachine, array: ArrayDeclaration) -> NDArray[np.generic]:
    """Return an array of the program as of the newest visible epoch."""
    dtype = DTYPES[array.type_name]
    assert array.address % PAGE_BYTES == 0
    raw = machine.read(array.address >> PAGE_SHIFT, -(-array.byte_count // PAGE_BYTES)).reshape(-1)
    content: NDArray[np.generic] = raw[: array.byte_count].view(dtype).reshape(array.shape)
    return content
