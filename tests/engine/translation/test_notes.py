"""Translated code notes the loads that the interpreter notes, to the byte."""

from __future__ import annotations

import pytest

from dvm_mpi.disa.instruction import Instruction
from dvm_mpi.engine.interface import LoadTracking
from dvm_mpi.engine.reference import ReferenceEngine
from dvm_mpi.engine.translation.hammocks import Body
from dvm_mpi.engine.translation.loops import NOTED_STREAMS_MAX, Loop, is_notable, loop_of
from dvm_mpi.layout import DATA_START, PAGE_BYTES
from tests.engine.agreement import ALL_ENGINES, chosen, disagreements, observed
from tests.engine.hot_programs import hot_scene
from tests.engine.machine import Host, Task, at, batch, imm, op, settings, via
from tests.engine.random_programs import VALUES, Scene
from tests.engine.translated import TranslatedEngine
from tests.engine.translation.texts import Seen

ENGINES = chosen(["reference", "translate"])
POINTER, OTHER, VALUE, COUNTER = VALUES[:4]
TURNS = 700


def sweeping(*body: Instruction, first: int = 0, other: int = 0, turns: int = TURNS) -> Scene:
    """Return a loop over four pages, with two pointers at distances from their beginning."""
    return Scene(
        [
            op("mov", imm(DATA_START + first), at(POINTER)),
            op("mov", imm(DATA_START + other), at(OTHER)),
            op("mov", imm(0), at(COUNTER)),
            *body,
            op("add", at(COUNTER), imm(1), at(COUNTER)),
            op("br:l", at(COUNTER), imm(turns), target=3),
            op("exit:c"),
        ],
        tasks=[Task(grants=((DATA_START, 4 * PAGE_BYTES, 0),))],
        memory={DATA_START + i: i % 251 for i in range(4 * PAGE_BYTES)},
        changes={"loads": LoadTracking.CONTENT},
        slice_fuel=100_000,
    )


def load(displacement: int = 0, types: str = "sq", pointer: int = POINTER) -> Instruction:
    return op("mov", via(pointer, displacement), at(VALUE), types=types)


def store(displacement: int = 0, types: str = "sq", pointer: int = POINTER) -> Instruction:
    return op("mov", imm(5), via(pointer, displacement), types=types)


def step(amount: int, pointer: int = POINTER) -> Instruction:
    return op("add", at(pointer), imm(amount), at(pointer))


ADD = op("add", via(POINTER), imm(1), via(POINTER))
FAR = 2 * PAGE_BYTES

SWEEPS = {
    "all of it": sweeping(load(), step(8)),
    "unaligned": sweeping(load(), step(8), first=3),
    "with gaps": sweeping(load(types="sd"), step(8), first=1),
    "over and over": sweeping(load(types="ub"), step(1), load(types="ub")),
    "downwards": sweeping(load(), step(-8), first=2 * PAGE_BYTES),
    "downwards with gaps": sweeping(load(4, "sd"), step(-12), first=3 * PAGE_BYTES),
    "one place": sweeping(load(16), load(3, "ub")),
    "each is changed": sweeping(ADD, step(8)),
    "one is changed": sweeping(ADD),
    "what was stored": sweeping(store(), load(), step(8)),
    "some of what was stored": sweeping(store(2, "sd"), load(), step(8)),
    "what the last turn stored": sweeping(load(), store(8), step(8)),
    "what the next turn stores": sweeping(load(8), store(), step(8)),
    "a part of what the last turn stored": sweeping(load(types="sd"), store(6, "sd"), step(4)),
    "beside what is stored": sweeping(load(types="sd"), store(4, "sd"), step(8)),
    "far from what is stored": sweeping(
        load(), store(pointer=OTHER), step(8), step(8, OTHER), other=FAR, turns=500
    ),
    "up to what is stored": sweeping(
        load(), store(pointer=OTHER), step(8), step(8, OTHER), other=8 * 500, turns=500
    ),
    "into what was stored": sweeping(
        load(), store(pointer=OTHER), step(8), step(8, OTHER), other=8 * 490, turns=500
    ),
    "towards what is stored": sweeping(
        load(), store(pointer=OTHER), step(8), step(-8, OTHER), other=8 * 500, turns=400
    ),
    "by two pointers": sweeping(load(), store(pointer=OTHER), step(8), step(8, OTHER)),
    "behind two pointers": sweeping(
        store(pointer=OTHER), load(), step(8), step(8, OTHER), first=8, other=16
    ),
}


@pytest.mark.parametrize("name", SWEEPS)
def test_loops_without_checks_note_what_they_load(name: str) -> None:
    found, expected = disagreements(SWEEPS[name], ENGINES)
    assert not found, "\n".join(found)
    (ended,) = expected["ended"]
    assert ended.loads or name == "what was stored"


@pytest.mark.parametrize("name", ["all of it", "with gaps", "each is changed", "one place"])
def test_where_loads_are_noted_nearly_all_is_native(name: str) -> None:
    scene = SWEEPS[name]
    engine = TranslatedEngine(settings(**scene.changes))
    try:
        engine.load(scene.image, b"")
        engine.begin(batch(scene.tasks))
        (ended,) = Host(engine, scene.memory, malloc_left=0, exits=[]).run(scene.slice_fuel)
        executed = ended.row["instructions"]
        assert engine.native_instructions > 0.95 * executed
    finally:
        engine.close()


def test_a_second_way_over_the_same_bytes_notes_the_same() -> None:
    """What was noted, or stored, in an earlier loop of the attempt is known in the next."""
    scene = sweeping(
        op("mov", imm(DATA_START), at(POINTER)),
        load(),
        step(8),
        op("br:l", at(POINTER), imm(DATA_START + 2_000), target=4),
        op("mov", imm(DATA_START + 8), at(POINTER)),
        store(),
        step(8),
        op("br:l", at(POINTER), imm(DATA_START + 3_000), target=8),
        op("mov", imm(DATA_START), at(POINTER)),
        load(),
        step(8),
        op("br:l", at(POINTER), imm(DATA_START + 5_000), target=12),
        turns=3,
    )
    found, expected = disagreements(scene, ENGINES)
    assert not found, "\n".join(found)
    (ended,) = expected["ended"]
    places = [(start - DATA_START, length) for start, length, _ in ended.loads]
    assert places == [(0, 2_000), (3_000, 2_000)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("mov (p), x", True),
        ("mov x, (p)", True),
        ("mov (p), x; mov x, (p)", True),
        ("mov x, (p); mov (p), x", False),  # it loads what it has stored
        ("mov (p), x; mov x, 8(p)", False),  # and here the next iteration does
        ("mov (p), x; mov x, (q); mov (q), x", False),
        ("mov (p), x; mov x, (q)", True),  # asked when it runs
        ("mov (q), x; mov x, 8(q)", True),  # the same place each time, loaded first
    ],
)
def test_which_loops_may_note_behind_them(body: str, expected: bool) -> None:
    lines = body.replace("; ", "\n        ")
    text = f"""
            .private p, q, n, x
            .array  a, sq, 1000
            .entry  main
            .text
    main:
            {lines}
            add     p, $8, p
            add     n, $1, n
            br:l    n, $100, main
            exit:c
    """
    assert is_notable(loop_in(text)) == expected


def loop_in(text: str) -> Loop:
    """Return what is known of a loop that is one block at `main`."""
    seen = Seen(text)
    found = loop_of(Body((seen.block("main"),)), seen.cells(), seen.groups("main"))
    assert found is not None
    return found


@pytest.mark.parametrize("count", [NOTED_STREAMS_MAX, NOTED_STREAMS_MAX + 1])
def test_loops_with_many_streams_note_each_load(count: int) -> None:
    loads = "\n".join(f"        mov     (p + {8 * k}), x" for k in range(count))
    steps = "\n".join(f"        add     p + {8 * k}, $8, p + {8 * k}" for k in range(count))
    loop = loop_in(f"""
        .private n, x
        .private p:{8 * count}
        .entry  main
        .text
main:
{loads}
{steps}
        add     n, $1, n
        br:l    n, $100, main
        exit:c
""")
    assert len(loop.streams) == count
    assert is_notable(loop) == (count <= NOTED_STREAMS_MAX)


@pytest.mark.parametrize(
    "engine", ["translate", "translate-hard", "translate-parts", "translate-windows"]
)
def test_random_programs_note_the_same(engine: str) -> None:
    engines = {"reference": ReferenceEngine, engine: ALL_ENGINES[engine]}
    for seed in range(500, 506):
        scene = hot_scene(seed)
        scene.changes["loads"] = LoadTracking.CONTENT
        found, _ = disagreements(scene, engines)
        assert not found, "\n".join([f"program {seed}", *found])


def test_code_that_notes_no_loads_leaves_them_to_the_interpreter() -> None:
    """A unit for engines that do not track loads is right for those that do."""

    class Unaware(TranslatedEngine):
        @property
        def _notes_loads(self) -> bool:
            return False

    for name in ("all of it", "each is changed"):
        expected = observed(ReferenceEngine, SWEEPS[name])
        assert observed(Unaware, SWEEPS[name]) == expected
