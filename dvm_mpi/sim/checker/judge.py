"""The checker's word on a recorded run: what its values show to be wrong, in lines of text."""

from __future__ import annotations

from collections.abc import Callable

from dvm_mpi.control.validation import Isolation
from dvm_mpi.disa.image import Image
from dvm_mpi.sim.checker.check import check
from dvm_mpi.sim.checker.observation import Level
from dvm_mpi.sim.checker.observe import observe
from dvm_mpi.sim.history import History


def anomalies(
    history: History,
    image: Image,
    isolation: Isolation,
    *,
    inputs: tuple[tuple[int, bytes], ...] = (),
    name: Callable[[int], str] | None = None,
) -> list[str]:
    """Return what is wrong with a run's isolation; empty if nothing is.

    Parameters
    ----------
    history
        A run whose engines tracked loads with their content.
    image
        Its program.
    isolation
        What the machine promised.
    inputs
        `(address, bytes)` of what was loaded beside the image.
    name
        What to call an address; hexadecimal if None.
    """
    if len(dict(history.orders)) < len(history.orders):
        # The rules tell which attempt was ordered twice; there is no order to judge.
        return []
    observations, order = observe(history, image, inputs)
    levels = [Level.SNAPSHOT] + [Level.SERIALIZABLE] * (isolation == "serializable")
    verdicts = [check(observations, level, order=order, name=name) for level in levels]
    return [line for v in verdicts if v.anomaly is not None for line in str(v).split("\n")]
