"""What `simulate` runs: a program of the user, a workload with its truth, or synthetic runners.

A subject is a program with its engine, its inputs, and what must hold at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np

from dvm_mpi.disa.image import Image
from dvm_mpi.disa.image_file import open_program
from dvm_mpi.disa.verifier import verify
from dvm_mpi.engine.interface import Engine
from dvm_mpi.errors import UsageError
from dvm_mpi.io import arrays, specs
from dvm_mpi.options import SimulateOptions
from dvm_mpi.sim.simulation import Input, SimulatedRun, engine_settings
from dvm_mpi.sim.synthetic import SyntheticEngine, SyntheticWork
from dvm_mpi.sim.workloads import WORKLOADS, RunEnd
from dvm_mpi.values import dataclass

#: The workload that is no program.
SYNTHETIC: Final = "synthetic"
#: Leaves of the synthetic workload for each rank, unless `-D LEAVES` says otherwise.
_LEAVES_PER_RANK: Final = 1_000


@dataclass(frozen=True, slots=True)
class Subject:
    """What is simulated: a program, its engine, and what must hold at its end."""

    name: str
    image: Image
    make_engine: Callable[[], Engine]
    wrong: Callable[[SimulatedRun], list[str]]
    #: Whether its attempts can be executed again, to compare.
    can_replay: bool
    #: Whether it is a program of the user's, which ends as it would end in a run.
    is_users: bool = False
    #: What is loaded into its arrays.
    inputs: tuple[Input, ...] = ()


def subjects(options: SimulateOptions, seed: int) -> Iterator[Subject]:
    """Yield the programs to simulate, one after the other."""
    if options.program is not None:
        image = open_program(options.program, options.defines)
        verify(image)
        yield Subject(
            str(options.program),
            image,
            _engine_factory(options),
            lambda _run: [],
            can_replay=True,
            is_users=True,
            inputs=_inputs(options, image),
        )
        return
    names = list(WORKLOADS) if options.workload == "all" else options.workload.split(",")
    for name in names:
        yield _synthetic(options, seed) if name == SYNTHETIC else _workload(name, options)


def _workload(name: str, options: SimulateOptions) -> Subject:
    if name not in WORKLOADS:
        known = ", ".join([*WORKLOADS, SYNTHETIC, "all"])
        raise UsageError(f"--workload: '{name}' is none of them; there are {known}")
    workload = WORKLOADS[name]
    try:
        given = {key: int(value, 0) for key, value in options.defines.items()}
        image, parameters = workload.image(given), workload.parameters(given)
    except ValueError as error:
        raise UsageError(f"-D: {error}") from error

    def wrong(run: SimulatedRun) -> list[str]:
        console = bytes(run.history.console) if run.history is not None else b""
        end = RunEnd(image, parameters, run.pages, console, run.failure, run.counters)
        modes = run.simulation
        return workload.wrong(end, isolation=modes.isolation, conflict_unit=modes.conflict_unit)

    return Subject(name, image, _engine_factory(options), wrong, True)


def _synthetic(options: SimulateOptions, seed: int) -> Subject:
    unknown = options.defines.keys() - {"LEAVES"}
    if unknown:
        raise UsageError(f"-D {min(unknown)}: the synthetic workload has LEAVES and nothing else")
    try:
        leaves = int(options.defines.get("LEAVES", _LEAVES_PER_RANK * options.ranks))
    except ValueError as error:
        raise UsageError(f"-D LEAVES: {error}") from error
    work = SyntheticWork(seed, leaves)

    def wrong(run: SimulatedRun) -> list[str]:
        contents = (np.frombuffer(content, np.int64) for content in run.pages.values())
        return work.wrong(sum(int(content.sum()) for content in contents))

    return Subject(SYNTHETIC, work.image(), lambda: SyntheticEngine(work), wrong, False)


def _inputs(options: SimulateOptions, image: Image) -> tuple[Input, ...]:
    """Read the arrays that files fill."""
    given = [specs.parse_spec(text, "--in") for text in options.inputs]
    inputs = []
    for spec, declaration in specs.match_declarations(given, image.arrays):
        content = np.zeros(declaration.byte_count, dtype=np.uint8)
        with arrays.open_input(spec, declaration) as source:
            source.read_range(0, content)
        inputs.append((declaration, content))
    return tuple(inputs)


def _engine_factory(options: SimulateOptions) -> Callable[[], Engine]:
    settings = engine_settings(deterministic=options.deterministic)
    if options.engine == "reference":
        from dvm_mpi.engine.reference import ReferenceEngine

        return lambda: ReferenceEngine(settings)
    from dvm_mpi.engine.interp import InterpEngine

    return lambda: InterpEngine(settings)
