from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from dvm_mpi.io.plots import draw
from dvm_mpi.io.sections import Bars, Columns, Figure, Heat, Lines, Stack, sections
from tests.io.contents import HOSTILE, content_of

FIGURES = [figure for part in sections(content_of()) for figure in part.figures]
# fmt: off
EDGES = [
    Figure("stack", "one bucket", Stack(0.02, {"executing": [0.0]}, "%")),
    Figure("lines", "nothing", Lines(1.0, {"a": [0.0], "b": [0.0]}, "MB")),
    Figure(
        "square", "hosts",
        Heat([[0.0] * 30] * 30, "to", "from", "B", is_square=True,
             labels=[f"{rank} node$x$" for rank in range(30)]),
    ),
    Figure("heat", "nothing", Heat([[0.0]], "seconds", "rank", "%")),
    Figure("bars", "nothing", Bars(["x"], {"a": [0.0]}, "times")),
    Figure("columns", "class 0", Columns([0], {"a": [1.0]})),
]
# fmt: on


@pytest.mark.parametrize("figure", FIGURES + EDGES, ids=lambda figure: figure.name)
def test_a_plot_is_one_image_with_a_label_and_ids_of_its_own(figure: Figure) -> None:
    svg = draw(figure)
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert (root.get("role"), root.get("aria-label")) == ("img", figure.caption)
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert ids
    assert all(name.startswith(f"{figure.name}-") for name in ids)
    used = re.findall(r'xlink:href="#([^"]*)"|url\(#([^)]*)\)', svg)
    assert {name for pair in used for name in pair if name} <= set(ids)
    # The page's own colours, and no font of one machine.
    assert "var(--ink)" in svg
    assert "#010203" not in svg
    assert "DejaVu" not in svg


def test_the_same_figures_give_the_same_bytes() -> None:
    assert draw(FIGURES[0]) == draw(FIGURES[0])


def test_names_from_programs_are_text() -> None:
    figure = Figure("bars", HOSTILE, Bars([HOSTILE], {HOSTILE: [1.0], "b": [2.0]}, "times"))
    svg = draw(figure)
    assert "<script" not in svg
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == HOSTILE
    texts = " ".join("".join(node.itertext()) for node in root.iter() if node.tag.endswith("text"))
    assert "$x$" in texts
