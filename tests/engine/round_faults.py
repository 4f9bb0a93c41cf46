"""Faults planted in the rounds of loops around loops, as those in translation_faults.py."""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir

from dvm_mpi.engine.translation import abreast, rounds
from dvm_mpi.engine.translation.frame import BIT, Value, word
from dvm_mpi.engine.translation.rounds import Rounds
from tests.engine.planting import Patch, Plant, noting

ROUND_FAULTS: Final[dict[str, Plant]] = {}
fault = noting(ROUND_FAULTS)


@fault("a pointer is not asked whether it is where a round would leave it")
def _(patch: Patch) -> None:
    patch.setattr(Rounds, "_is_as_left", lambda *_: ir.Constant(BIT, 1))


@fault("there is one round too many")
def _(patch: Patch) -> None:
    count = rounds._Latch.rounds

    def more(latch: Any, *rest: Any) -> Value:
        return latch._frame.builder.add(count(latch, *rest), word(1))

    patch.setattr(rounds._Latch, "rounds", more)


@fault("a stream is one round longer than its pages")
def _(patch: Patch) -> None:
    opened = Rounds._open_rounds

    def longer(given: Rounds, *rest: Any) -> tuple[Any, Value, Value]:
        one, count, length = opened(given, *rest)
        return one, given._frame.builder.add(count, word(1)), length

    patch.setattr(Rounds, "_open_rounds", longer)


@fault("rounds are marked like one")
def _(patch: Patch) -> None:
    mark = Rounds._mark

    def fewer(given: Rounds, one: Any, count: Value) -> None:
        is_inner = one.stream in given._nest.inner.streams
        mark(given, one, count if is_inner else word(1))

    patch.setattr(Rounds, "_mark", fewer)


@fault("a row is not asked whether others meet it")
def _(patch: Patch) -> None:
    patch.setattr(Rounds, "_are_rows_apart", lambda *_: ir.Constant(BIT, 1))


@fault("rounds abreast share what differs between them")
def _(patch: Patch) -> None:
    patch.setattr(rounds, "differing_cells", lambda *_: ())


@fault("rounds are abreast though a turn leaves something to the next")
def _(patch: Patch) -> None:
    patch.setattr(abreast, "_is_carried", lambda *_: False)


@fault("rounds are abreast where fewer are left")
def _(patch: Patch) -> None:
    patch.setattr(Rounds, "_abreast", lambda given, most, _: given._smaller(most, word(1)))
