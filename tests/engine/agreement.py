"""One program on every engine, and what they do not agree on."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from dvm_mpi.engine.interface import TrapKind
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.layout import TEXT_START
from tests.engine.machine import Ended, EngineMaker, Host, batch, settings
from tests.engine.random_programs import Scene
from tests.engine.translated import TranslatedEngine

#: The first is the one that the others are compared with. `translate` translates all of a program
#: when it is loaded.
ENGINES: Final[dict[str, EngineMaker]] = {
    "reference": ReferenceEngine,
    "interp": InterpEngine,
    "translate": TranslatedEngine,
}
#: Those that fuzzing may choose from. `translate-plain` leaves out what LLVM makes of the code: two
#: thirds of the time. `translate-parts` goes in and out of translated code; of `translate-windows`
#: even small loops have no form with checks, where they can do without.
ALL_ENGINES: Final[dict[str, EngineMaker]] = {
    **ENGINES,
    "translate-hard": partial(TranslatedEngine, level=3),
    "translate-plain": partial(TranslatedEngine, level=0),
    "translate-parts": partial(TranslatedEngine, level=0, is_whole=False),
    "translate-windows": partial(TranslatedEngine, level=0, large_body=1),
}
#: Places of each list and dict, and characters of what stands there, that are told of a difference.
PLACES_MAX: Final = 4
WORDS_MAX: Final = 400
#: What an engine is observed to do when it raises instead: always a defect of ours.
RAISED: Final = "raised"


def chosen(names: Iterable[str]) -> dict[str, EngineMaker]:
    """Return engines by name, in the order given."""
    return {name: ALL_ENGINES[name] for name in names}


def _is_bad(ended: Ended) -> bool:
    return ended.row["trap"] == TrapKind.BAD_JUMP and ended.row["instructions"] == 1


def observed(maker: EngineMaker, scene: Scene) -> dict[str, Any]:
    """Run a scene, and return all that the engine lets its host see."""
    image = scene.image
    try:
        engine = maker(settings(**scene.changes))
        try:
            engine.load(image, scene.stdin)
            host = Host(engine, scene.memory, malloc_left=1 << 20, exits=[])
            ended: list[Ended] = []
            for part in scene.rounds:
                is_parking = part.parking_seed != 0
                host.parking = random.Random(part.parking_seed) if is_parking else None
                engine.begin(batch(part.tasks))
                ended += host.run(*part.slice_fuels)
            # The interpreter lets an attempt with a bad entry end where no fuel is left.
            bad_entry = any(e.row["trap_pc"] == TEXT_START and _is_bad(e) for e in ended)
            return {
                "ended": ended,
                "exits": None if bad_entry else host.exits,
                "undeclared": engine.undeclared_accesses(),
                "counts": engine.instruction_counts().tolist(),
                "misses": host.misses,
                "slept": host.slept_us,
            }
        finally:
            engine.close()
    except Exception as error:
        return {RAISED: f"{type(error).__name__}: {error}"}


def _differences(expected: Any, got: Any, where: str = "") -> list[tuple[str, Any, Any]]:
    """Return where two values differ, and what is there: a few places of each kind."""
    if expected == got:
        return []
    pairs: list[tuple[str, Any, Any]] = []
    if dataclasses.is_dataclass(expected) and type(expected) is type(got):
        names = [field.name for field in dataclasses.fields(expected)]
        pairs = [(f".{name}", getattr(expected, name), getattr(got, name)) for name in names]
    elif isinstance(expected, dict) and isinstance(got, dict):
        keys = sorted(expected.keys() | got.keys())
        pairs = [(f"[{key!r}]", expected.get(key), got.get(key)) for key in keys]
    elif isinstance(expected, list) and isinstance(got, list) and len(expected) == len(got):
        pairs = [(f"[{i}]", a, b) for i, (a, b) in enumerate(zip(expected, got, strict=True))]
    if not pairs:
        return [(where, expected, got)]
    found = [_differences(a, b, where + name) for name, a, b in pairs if a != b]
    return [difference for differences in found[:PLACES_MAX] for difference in differences]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < WORDS_MAX else f"{text[:WORDS_MAX]} …"


def disagreements(
    scene: Scene, engines: Mapping[str, EngineMaker] = ENGINES
) -> tuple[list[str], dict[str, Any]]:
    """Return what differs between engines, in words, and what the first one was seen to do."""
    (first, maker), *others = engines.items()
    expected = observed(maker, scene)
    return differing(first, expected, scene, dict(others)), expected


def differing(
    first: str, expected: dict[str, Any], scene: Scene, others: Mapping[str, EngineMaker]
) -> list[str]:
    """Return what other engines do differently from what the first was seen to do."""
    found = [f"{first} raised {expected[RAISED]}"] if RAISED in expected else []
    for name, other in others.items():
        got = observed(other, scene)
        if RAISED in got:
            found.append(f"{name} raised {got[RAISED]}")
        found += [
            f"{key}: {where}\n  {first}: {_short(was)}\n  {name}: {_short(is_now)}"
            for key in expected.keys() & got.keys() - {RAISED}
            for where, was, is_now in _differences(expected[key], got[key])
        ]
    return found
