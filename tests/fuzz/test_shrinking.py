"""A planted difference between engines is shrunk to the instruction that has it."""

from __future__ import annotations

import pytest

from dvm_mpi.disa.types import Type
from dvm_mpi.engine import reference_arithmetic
from dvm_mpi.engine.interp import InterpEngine
from dvm_mpi.engine.reference import ReferenceEngine
from tests.engine.agreement import chosen, disagreements, observed
from tests.engine.case_files import read_cases
from tests.engine.machine import at, code, imm, op
from tests.engine.random_programs import DATA, VALUES, Scene, random_scene
from tests.fuzz.shrinking import shrunk
from tests.fuzz.telling import case_text, told

#: Scenes to look through for one that meets the planted fault.
SEEDS = range(200)


@pytest.fixture
def wrong_sub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the reference wrong where it subtracts an odd number."""
    right = reference_arithmetic.ARITHMETIC["sub"]

    def wrong(kind: Type, a: int, b: int) -> int:
        return right(kind, a, b) ^ (b & 1)

    monkeypatch.setitem(reference_arithmetic.ARITHMETIC, "sub", wrong)


PAIR = chosen(["reference", "interp"])


def differs(scene: Scene) -> bool:
    return bool(disagreements(scene, PAIR)[0])


@pytest.mark.usefixtures("wrong_sub")
def test_a_planted_difference_shrinks_to_what_has_it() -> None:
    seed = next(seed for seed in SEEDS if differs(random_scene(seed)))
    scene = random_scene(seed)
    smallest = shrunk(scene, differs)
    assert len(scene.listing) > 15
    assert len(smallest.listing) <= 3
    assert "sub" in {instruction.mnemonic for instruction in smallest.listing}
    assert smallest.memory == {}
    assert len(smallest.tasks) == 1
    text = told(seed, smallest, *disagreements(smallest, PAIR))
    assert text.startswith(f"seed {seed}: the engines differ in ")
    assert "\n    sub" in text


def test_branches_stay_where_they_lead_when_instructions_go() -> None:
    """What is jumped over goes, and the jump; a loop back stays one."""
    listing = [
        op("br:j", target=2),
        op("nop"),
        op("add", at(DATA), imm(1), at(DATA)),
        op("br:ne", at(DATA), imm(3), target=2),
        op("exit:c"),
    ]

    def counts_to_three(scene: Scene) -> bool:
        ended = observed(InterpEngine, scene).get("ended")
        return ended is not None and ended[0].trap is None and ended[0].stored.get(DATA) == 3

    smallest = shrunk(Scene(listing, changes={"fuel_max": 50}), counts_to_three)
    assert [i.mnemonic for i in smallest.listing] == ["add", "br", "exit"]
    assert smallest.listing[1].target == 0


def test_addresses_of_instructions_stay_where_they_lead() -> None:
    """What an address leads to is still called when instructions before it are gone."""
    link, value = at(VALUES[1]), at(VALUES[0])
    listing = [
        op("nop"),
        op("nop"),
        op("bl", code(5), link),
        op("mov", value, at(DATA)),
        op("exit:c"),
        op("add", value, imm(7), value),
        op("br:ji", link),
    ]

    def stores_seven(scene: Scene) -> bool:
        ended = observed(InterpEngine, scene).get("ended")
        is_called = any(i.mnemonic == "bl" for i in scene.listing)
        return ended is not None and ended[0].stored.get(DATA) == 7 and is_called

    smallest = shrunk(Scene(listing, changes={"fuel_max": 50}), stores_seven)
    assert [i.mnemonic for i in smallest.listing] == ["bl", "mov", "add", "br"]
    assert smallest.listing[0].operands[0] == code(2)


def test_what_is_printed_is_a_case_file(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scene, its case, and the case run again: the same was seen."""
    listing = [op("sub", at(DATA), imm(7), at(DATA)), op("br:j", target=0)]
    scene = Scene(listing, memory={DATA: 9}, stdin=b"\n\xff", changes={"fuel_max": 4})
    expected = disagreements(scene, {"reference": ReferenceEngine})[1]
    text = case_text("a name", scene, expected)
    assert text is not None
    (tmp_path / "new.case").write_text(text)
    monkeypatch.setattr("tests.engine.case_files.CASES", tmp_path)
    (case,) = read_cases()
    assert case.name == "a name"
    assert case.lines("set") == ["fuel_max 4"]
    assert any(line.startswith("trap FUEL_EXHAUSTED line") for line in case.lines("expect"))
