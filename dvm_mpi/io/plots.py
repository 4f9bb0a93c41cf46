"""Plots of a report's page, as SVG that takes its colours of text and lines from the page.

The only module that imports matplotlib, and itself imported only when a page is made.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dvm_mpi.io.report import scaled
from dvm_mpi.io.sections import Bars, Columns, Figure, Heat, Lines, Plot, Stack

#: Stand for the page's own colours, which depend on light and dark.
_INK: Final = "#010203"
_RULE: Final = "#040506"
_THEMED: Final = {_INK: "var(--ink)", _RULE: "var(--rule)"}
#: Of the activities, by name; and of everything else, in order. Told apart by colour-blind readers.
_ACTIVITY_COLOURS: Final = {
    "executing": "#0a7d5a",
    "serving": "#4aa3df",
    "coordinating": "#b5619c",
    "loading": "#d9a400",
    "waiting": "#d1541f",
    "idle": "#9aa0a6",
}
_COLOURS: Final = ("#0a7d5a", "#d1541f", "#4a7fd4", "#b5619c", "#d9a400", "#5fb3c9", "#9aa0a6")
#: From nothing to full: whatever the paper is, much stands out.
_HEAT: Final = LinearSegmentedColormap.from_list("heat", ["#12a07a00", "#12a07aff"])
_WIDTH_IN: Final = 8.0
_HALF_IN: Final = 4.0
#: Any: its keys are known to the type checker only by their names.
_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _RULE,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid.axis": "y",
    "grid.color": _RULE,
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.axisbelow": True,
}
#: Columns with a label of their own.
_TICKS_MAX: Final = 10
#: Labels of bars are cut to this.
_LABEL_MAX: Final = 44


def draw(figure: Figure) -> str:
    """Return a figure's plot as an SVG element."""
    with mpl.rc_context({**_STYLE, "svg.hashsalt": figure.name}):
        width_in = _HALF_IN if figure.is_half else _WIDTH_IN
        canvas = Canvas(figsize=(width_in, _height_in(figure.plot)), layout="constrained")
        axes = canvas.add_subplot()
        _DRAW[type(figure.plot)](axes, figure.plot)
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None})
    return _clean(buffer.getvalue(), figure)


def _clean(svg: str, figure: Figure) -> str:
    """Make a file an element of the page: ids of its own, the page's colours and letters."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{figure.name}-', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{figure.name}-", svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", svg)
    for stand_in, colour in _THEMED.items():
        svg = svg.replace(stand_in, colour)
    title = f"<title>{escape(figure.caption)}</title>"
    return re.sub(r"<svg[^>]*>", lambda tag: _as_image(tag[0], figure) + title, svg, count=1)


def _as_image(tag: str, figure: Figure) -> str:
    label = escape(figure.caption, quote=True)
    return f'{tag[:-1]} role="img" aria-label="{label}">'


def _height_in(plot: Plot) -> float:
    if isinstance(plot, Bars):
        return 1.2 + 0.22 * len(plot.labels)
    if isinstance(plot, Heat):
        return 3.2 if plot.is_square else min(1.4 + 0.25 * len(plot.rows), 4.5)
    return 2.8


def _colour(name: str, position: int) -> str:
    return _ACTIVITY_COLOURS.get(name, _COLOURS[position % len(_COLOURS)])


def _edges(step: float, count: int) -> Any:
    return np.arange(count + 1) * step


def _stack(axes: Axes, plot: Stack) -> None:
    names = list(plot.series)
    values = np.array([plot.series[name] for name in names], dtype=float)
    edges = _edges(plot.step, values.shape[1])
    heights = np.concatenate([values, values[:, -1:]], axis=1)
    colours = [_colour(name, i) for i, name in enumerate(names)]
    axes.stackplot(edges, heights, labels=names, colors=colours, step="post", linewidth=0)
    axes.set(xlabel="seconds", ylabel=plot.y_label, xlim=(0, edges[-1]), ylim=(0, 100))
    _legend(axes, len(names))


def _lines(axes: Axes, plot: Lines) -> None:
    for position, (name, values) in enumerate(plot.series.items()):
        edges = _edges(plot.step, len(values))
        axes.step(
            edges, [*values, values[-1]], where="post", label=name, color=_COLOURS[position], lw=1.6
        )
    axes.set(xlabel="seconds", ylabel=plot.unit, xlim=(0, edges[-1]))
    axes.set_ylim(bottom=0)
    axes.grid(visible=True)
    _legend(axes, len(plot.series))


def _heat(axes: Axes, plot: Heat) -> None:
    values = np.array(plot.rows, dtype=float)
    row_count, column_count = values.shape
    # A number stands in the middle of its row, a moment at the edge of its column.
    extent = (0.0, column_count * plot.x_step, row_count * plot.y_step - 0.5, -0.5)
    if plot.is_square:
        extent = (-0.5, column_count - 0.5, row_count - 0.5, -0.5)
    image = axes.imshow(
        values,
        aspect="equal" if plot.is_square else "auto",
        cmap=_HEAT,
        vmin=0,
        vmax=plot.most or max(float(values.max()), 1.0),
        extent=extent,
        interpolation="nearest",
    )
    axes.set(xlabel=plot.x_label, ylabel=plot.y_label)
    axes.yaxis.set_major_locator(MaxNLocator(8, integer=True))
    if plot.is_square:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if plot.labels:
        _name_places(axes, plot.labels)
    figure = axes.figure
    bar = figure.colorbar(image, ax=axes, pad=0.02)
    bar.set_label(plot.value_label)
    bar.outline.set_visible(False)
    if not plot.most:
        bar.formatter = _scaled_ticks()
        bar.update_ticks()


def _name_places(axes: Axes, labels: Sequence[str]) -> None:
    """Name rows and columns of a square, as many as there is room for."""
    step = -(-len(labels) // _TICKS_MAX)
    shown = list(range(0, len(labels), step))
    names = [_shortened(labels[place]) for place in shown]
    axes.set_yticks(shown, names)
    axes.set_xticks(shown, names, rotation=90)


def _bars(axes: Axes, plot: Bars) -> None:
    places = np.arange(len(plot.labels))
    left = np.zeros(len(plot.labels))
    for position, (name, values) in enumerate(plot.series.items()):
        widths = np.array(values, dtype=float)
        axes.barh(places, widths, left=left, label=name, color=_colour(name, position), height=0.75)
        left += widths
    axes.set_yticks(places, [_shortened(label) for label in plot.labels])
    axes.set_ylim(len(plot.labels) - 0.5, -0.5)
    axes.set_xlabel(plot.x_label)
    axes.set_xlim(0, max(float(left.max(initial=0)), 1e-9))
    axes.xaxis.set_major_formatter(_scaled_ticks())
    if len(plot.series) > 1:
        _legend(axes, len(plot.series))


def _columns(axes: Axes, plot: Columns) -> None:
    places = np.arange(len(plot.classes))
    bottom = np.zeros(len(plot.classes))
    for position, (name, values) in enumerate(plot.series.items()):
        heights = np.array(values, dtype=float)
        label, colour = _shortened(name), _colour(name, position)
        axes.bar(places, heights, bottom=bottom, label=label, color=colour, width=0.85)
        bottom += heights
    spacing = -(-len(places) // _TICKS_MAX)
    labels = [_power(c - 1) if c else "0" for c in plot.classes]
    axes.set_xticks(places[::spacing] - 0.5, labels[::spacing])
    axes.set(xlabel="instructions of an attempt, from", ylabel="attempts")
    axes.yaxis.set_major_formatter(_scaled_ticks())
    axes.grid(visible=True)
    _legend(axes, len(plot.series))


def _power(exponent: int) -> str:
    """Return a power of two: `512`, `4 Ki`."""
    tens, ones = divmod(exponent, 10)
    return f"{2**ones} {('', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei')[tens]}".rstrip()


def _scaled_ticks() -> FuncFormatter:
    return FuncFormatter(lambda value, _: f"{value:g}" if abs(value) < 1000 else _tick(value))  # noqa: PLR2004


def _tick(value: float) -> str:
    """Return `20 M`, not `20.0 M`."""
    number, _, prefix = scaled(value).partition(" ")
    return f"{float(number):g} {prefix}"


def _shortened(label: str) -> str:
    # Dollars would begin a formula.
    text = label if len(label) <= _LABEL_MAX else f"…{label[1 - _LABEL_MAX :]}"
    return text.replace("$", r"\$")


def _legend(axes: Axes, count: int) -> None:
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=min(count, 6), fontsize=8)


_DRAW: Final[Mapping[type, Callable[[Axes, Any], None]]] = {
    Stack: _stack,
    Lines: _lines,
    Heat: _heat,
    Bars: _bars,
    Columns: _columns,
}


def draw_all(figures: Sequence[Figure]) -> dict[str, str]:
    """Return the SVG of each figure, by its name."""
    return {figure.name: draw(figure) for figure in figures}


def draw_scaling(
    path: Path,
    ranks: Sequence[int],
    gains: Mapping[str, Sequence[float]],
    shares: Mapping[str, Sequence[float]],
) -> None:
    """Write a picture, by its suffix: curves of gains, and of shares, over numbers of ranks.

    Raises
    ------
    OSError
        It cannot be written.
    """
    plain = {_INK: "#222222", _RULE: "#bbbbbb"}
    style = {name: plain.get(str(value), value) for name, value in _STYLE.items()}
    with mpl.rc_context({**style, "figure.facecolor": "white"}):
        canvas = Canvas(figsize=(_WIDTH_IN, _HALF_IN), layout="constrained")
        for axes, label, curves in zip(
            canvas.subplots(1, 2), ("times as fast", "share"), (gains, shares), strict=True
        ):
            for position, (name, values) in enumerate(curves.items()):
                axes.plot(ranks, values, marker="o", label=name, color=_COLOURS[position])
            axes.set_xscale("log", base=2)
            axes.set_xticks(ranks, [f"{count:,}" for count in ranks])
            axes.minorticks_off()
            axes.set(xlabel="ranks", ylabel=label)
            axes.set_ylim(bottom=0)
            axes.grid(visible=True)
            _legend(axes, len(curves))
        canvas.savefig(path)
