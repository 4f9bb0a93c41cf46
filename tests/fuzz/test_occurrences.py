"""Hot programs are hot, and what a translator must get right really happens in them."""

from __future__ import annotations

import pytest

from tests.engine.hot_programs import hot_scene
from tests.engine.machine import at, imm, op, via
from tests.engine.random_programs import DATA, POINTERS, VALUES, Scene
from tests.fuzz.occurrences import counted, occurrences

PROGRAMS = 60
#: One that jumps to several places in a hot loop, as one program in ninety does.
JUMPING = 412
#: In one of these programs at least; far more happens in some of them.
WANTED = (
    "attempts set aside", "a page missed late", "branch: l sq", "branch: le not taken",
    "control: bl to a constant", "control: ji to several places", "control: loop around loops",
    "load: data", "load: own stack", "load: private", "several attempts in a batch",
    "store: data", "store: private", "stride: 0", "stride: 1", "stride: 4", "stride: 8",
    "stride: -8", "stride: even", "trap: FUEL_EXHAUSTED",
    "value: fd denormal, computed",
    "value: fs quiet NaN +, computed",
)  # fmt: skip


@pytest.mark.slow
def test_what_is_wanted_happens_in_hot_loops() -> None:
    seen = counted(hot_scene(seed) for seed in (*range(PROGRAMS), JUMPING))
    assert not [name for name in WANTED if not seen[name]]
    assert seen["loops that turned more than 100 times"] > PROGRAMS // 2


def test_what_happens_has_the_right_names() -> None:
    """A loop over two pages, downwards, that stores to a part of its own pointer at its end."""
    pointer, counter = POINTERS[0], VALUES[0]
    listing = [
        op("mov", imm(DATA + 4090), at(pointer)),
        op("mov", imm(0x7FF0_0000_0000_0001), at(VALUES[1])),
        op("add", via(pointer), at(VALUES[1]), via(pointer, 3), types="fd"),
        op("sub", at(pointer), imm(4), at(pointer)),
        op("add", at(counter), imm(1), at(counter)),
        op("br:l", at(counter), imm(150), target=2),
        op("exit:c"),
    ]
    seen = occurrences(Scene(listing))
    assert {"stride: -4", "load: data", "store: data", "branch: l sq"} <= seen
    assert "value: fd signalling NaN +, computed" in seen
    assert "store: on two pages" not in seen, "it was not hot then"
    assert not {name for name in seen if name.startswith("trap")}
