"""What a report's page shows: sections with plots and tables, as values; nothing is drawn here.

Every number comes from the report's content. A section without figures says why it has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dvm_mpi.io.findings import attempts_of, percent, shares_of
from dvm_mpi.io.report import scaled
from dvm_mpi.values import dataclass

Content = Mapping[str, Any]
ACTIVITIES: Final = ("executing", "serving", "coordinating", "loading", "waiting", "idle")
#: Rows of a table, and bars of a plot.
_ROWS_MAX: Final = 40
_BARS_MAX: Final = 24
#: Ranks that are shown apart, bar by bar.
_RANKS_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class Stack:
    """Layers over time: `series` by name, a value for each step of `step` seconds."""

    step: float
    series: Mapping[str, Sequence[float]]
    y_label: str


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines over time, as `Stack`, but not on top of each other; `unit` of the values."""

    step: float
    series: Mapping[str, Sequence[float]]
    unit: str


@dataclass(frozen=True, slots=True)
class Heat:
    """A matrix, row 0 on top; `x_step` and `y_step` are what a column and a row stand for."""

    rows: Sequence[Sequence[float]]
    x_label: str
    y_label: str
    value_label: str
    x_step: float = 1
    y_step: float = 1
    #: 0: what the largest value is.
    most: float = 0
    #: From each to each: as high as it is wide, and small.
    is_square: bool = False
    #: What rows and columns of a square are called, if not by their numbers.
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Bars:
    """Horizontal bars, each made of the `series`; the first on top."""

    labels: Sequence[str]
    series: Mapping[str, Sequence[float]]
    x_label: str


@dataclass(frozen=True, slots=True)
class Columns:
    """Columns by powers of two of instructions, each made of the `series`."""

    classes: Sequence[int]
    series: Mapping[str, Sequence[float]]


Plot = Stack | Lines | Heat | Bars | Columns


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot with what it shows, in a sentence."""

    name: str
    caption: str
    plot: Plot

    @property
    def is_half(self) -> bool:
        """Whether two of its kind stand side by side."""
        return isinstance(self.plot, Heat) and self.plot.is_square


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts; columns from `numbers_from` on are aligned to the right."""

    caption: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    numbers_from: int = 1


@dataclass(frozen=True, slots=True)
class Section:
    """One heading of the page; `why_empty` if there is nothing to show."""

    name: str
    title: str
    about: str
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()
    why_empty: str = ""


def sections(content: Content) -> list[Section]:
    """Return all sections of a page, in order."""
    return [
        _time(content),
        _runners(content),
        _retries(content),
        _lines(content),
        _traffic(content),
        _pages(content),
        _memory(content),
    ]


def _cut(rows: list[Any], caption: str) -> tuple[list[Any], str]:
    """Return the rows that are shown, and a caption that says if there are more."""
    hidden = len(rows) - _ROWS_MAX
    more = f" ({_ROWS_MAX} of {len(rows):,})" if hidden > 0 else ""
    return rows[:_ROWS_MAX], caption + more


# --- time ---------------------------------------------------------------------------------------
def _time(content: Content) -> Section:
    about = (
        "Every moment of a rank belongs to one activity: executing runners; serving others and its "
        "home; coordinating (rank 0); loading or writing; waiting for pages or addresses while "
        "runners are there; idle. From the moment when the ranks began."
    )
    utilisation = content.get("utilisation") or {}
    shares = shares_of(content)
    if not any(utilisation.get("executing") or ()) or not shares:
        why = "no rank has told of its time: the run ended before, or an older version wrote this."
        return Section("time", "Where the time went", about, why_empty=why)
    step, ranks = float(utilisation["bucket_s"]), len(content["by_rank"]["host"])
    figures = [
        Figure(
            "over-time",
            "Share of all ranks in each activity, over time.",
            Stack(step, _mean_shares(utilisation, ranks), "% of all ranks"),
        )
    ]
    per_row = int(utilisation["ranks_per_row"])
    if ranks > 1:
        rows = [[value / 10 for value in row] for row in utilisation["executing"]]
        of = "each rank" if per_row == 1 else f"every {per_row} ranks"
        figures.append(
            Figure(
                "ranks-over-time",
                f"How much {of} executed runners, over time; blank: something else, or nothing.",
                Heat(rows, "seconds", "rank", "% executing", step, per_row, 100),
            )
        )
        figures.append(_by_rank(content, shares, ranks))
    return Section("time", "Where the time went", about, tuple(figures), (_rank_table(content),))


def _mean_shares(utilisation: Content, ranks: int) -> dict[str, list[float]]:
    """Return the mean of each activity over all ranks, in percent, by bucket."""
    per_row = int(utilisation["ranks_per_row"])
    count = len(utilisation["executing"])
    # Of the last row there may be fewer ranks.
    weights = [min(per_row, ranks - row * per_row) / ranks / 10 for row in range(count)]
    return {
        name: [
            sum(weight * value for weight, value in zip(weights, column, strict=True))
            for column in zip(*utilisation[name], strict=True)
        ]
        for name in ACTIVITIES
    }


def _by_rank(content: Content, shares: Mapping[str, list[float]], ranks: int) -> Figure:
    per_bar = -(-ranks // _RANKS_MAX)
    bars = [range(first, min(first + per_bar, ranks)) for first in range(0, ranks, per_bar)]
    labels = [f"{bar.start}" if len(bar) == 1 else f"{bar.start}-{bar.stop - 1}" for bar in bars]
    series = {
        name: [100 * sum(shares[name][rank] for rank in bar) / len(bar) for bar in bars]
        for name in ACTIVITIES
    }
    each = "rank" if per_bar == 1 else f"{per_bar} ranks"
    caption = f"What each {each} did with its time, the whole run together."
    return Figure("by-rank", caption, Bars(labels, series, "% of its time"))


def _rank_table(content: Content) -> Table:
    columns = content["by_rank"]
    rows = [
        (
            f"{rank}",
            host,
            *(f"{columns[f'{name}_s'][rank]:.2f}" for name in ACTIVITIES),
            scaled(columns["instructions"][rank]),
        )
        for rank, host in enumerate(columns["host"])
    ]
    shown, caption = _cut(rows, "Seconds of each rank")
    return Table(caption, ("rank", "host", *ACTIVITIES, "instructions"), shown, 2)


# --- runners ------------------------------------------------------------------------------------
def _runners(content: Content) -> Section:
    about = (
        "Instructions of one attempt, those that lost included, by the place where its runner "
        "begins. Short runners cost more to send out than to run; a few long ones keep the others "
        "waiting at the end."
    )
    rows = content.get("runner_lengths") or []
    if not rows:
        why = "no attempt has ended yet, or an older version wrote this."
        return Section("runners", "Lengths of runners", about, why_empty=why)
    used = [int(c) for row in rows for c in row["classes"]]
    classes = list(range(min(used), max(used) + 1))
    largest = sorted(rows, key=lambda row: -int(row["attempts"]))
    series = {
        row["entry"]: [float(row["classes"].get(str(c), 0)) for c in classes] for row in largest[:6]
    }
    if others := largest[6:]:
        series["other entries"] = [
            float(sum(row["classes"].get(str(c), 0) for row in others)) for c in classes
        ]
    figure = Figure(
        "lengths",
        "Attempts by length, in powers of two of instructions.",
        Columns(classes, series),
    )
    told, caption = _cut(rows, "Runners by entry")
    table = Table(
        caption,
        ("entry", "attempts", "instructions", "mean", "longest"),
        [
            (
                row["entry"],
                f"{row['attempts']:,}",
                f"{row['instructions']:,}",
                f"{row['instructions'] / max(row['attempts'], 1):,.0f}",
                f"{row['longest']:,}",
            )
            for row in told
        ],
    )
    return Section("runners", "Lengths of runners", about, (figure,), (table,))


def _retries(content: Content) -> Section:
    about = (
        "Attempts that lost to commits of others and ran again, by the line of the exit where they "
        "wanted to commit. The byte is one that another had stored first."
    )
    title, rows = "Retries by source line", content.get("contention") or []
    if not rows:
        attempts = f"{attempts_of(content):,} attempts"
        return Section("retries", title, about, why_empty=f"none of the {attempts} has lost.")
    bars = rows[:_BARS_MAX]
    labels = [f"{_base(row['line'])} ({row['entry']})" for row in bars]
    plot = Bars(labels, {"attempts lost": [float(row["losses"]) for row in bars]}, "attempts lost")
    figure = Figure("retries", "Attempts lost, by source line and entry of the runners.", plot)
    told, caption = _cut(rows, "Places where attempts lost")
    lost = int(content.get("retries", 0))
    table = Table(
        caption,
        ("line", "label", "entry", "stored to", "lost", "share of all lost", "most of one runner"),
        [
            (
                row["line"],
                row["label"],
                row["entry"],
                f"{row['name']} ({row['address']:#x})".strip(),
                f"{row['losses']:,}",
                percent(row["losses"] / max(lost, row["losses"], 1)),
                f"{row['most']:,}",
            )
            for row in told
        ],
        4,
    )
    return Section("retries", title, about, (figure,), (table,))


def _base(line: str) -> str:
    return line.rpartition("/")[2]


def _lines(content: Content) -> Section:
    about = "Instructions by source line, with --profile."
    title, rows = "Profile by source line", content.get("lines") or []
    if not rows:
        why = "the run did not count instructions by line; --profile does."
        return Section("lines", title, about, why_empty=why)
    shown, caption = _cut(rows, "Lines with the most instructions")
    bars = rows[:_BARS_MAX]
    plot = Bars(
        [_base(row["line"]) for row in bars],
        {"instructions": [float(row["instructions"]) for row in bars]},
        "instructions",
    )
    table = Table(
        caption,
        ("line", "text", "instructions", "share"),
        [
            (
                row["line"],
                row.get("text", ""),
                f"{row['instructions']:,}",
                percent(float(row["share"])),
            )
            for row in shown
        ],
        2,
    )
    figure = Figure("profile", "Instructions by source line.", plot)
    return Section("lines", title, about, (figure,), (table,))


# --- memory -------------------------------------------------------------------------------------
_MATRICES: Final = (
    ("payload_fetched", "Bytes of pages that workers fetched", "B"),
    ("payload_stored", "Bytes of write sets that workers sent to homes", "B"),
    ("control", "Bytes of everything else that was sent", "B"),
    ("messages", "Messages", ""),
)


def _traffic(content: Content) -> Section:
    about = (
        "What moved between ranks, from the row to the column. Where ranks are many, a row is "
        "that of a host or of some hosts, and its own column is what its ranks moved to each "
        "other. What a rank tells itself moves nothing and is nowhere here."
    )
    title, traffic = "Bytes between ranks", content.get("traffic") or {}
    present = [(k, words, unit) for k, words, unit in _MATRICES if _is_matrix(traffic.get(k))]
    if not present:
        why = "there was one rank only, or its traffic was not counted."
        return Section("traffic", title, about, why_empty=why)
    figures: list[Figure] = []
    rows: list[tuple[str, ...]] = []
    labels = _group_labels(traffic)
    for key, words, unit in present:
        matrix = traffic[key]
        rows.append((words, scaled(sum(map(sum, matrix)), unit)))
        plot = Heat(matrix, "to", "from", unit or "count", is_square=True, labels=labels)
        figures.append(Figure(f"traffic-{key.replace('_', '-')}", f"{words}.", plot))
    table = Table("Totals between different ranks", ("what", "total"), rows)
    return Section("traffic", title, about, tuple(figures), (table, *_group_tables(traffic)))


def _groups(traffic: Content) -> list[tuple[str, str]]:
    """Return the ranks of each group, its number if it has one only, and its hosts.

    None if nobody told.
    """
    hosts, counts = traffic.get("hosts"), traffic.get("ranks")
    if not isinstance(hosts, list) or not isinstance(counts, list) or len(hosts) != len(counts):
        return []
    return [
        (f"{place}" if max(counts) == 1 else f"{count} ranks", host)
        for place, (host, count) in enumerate(zip(hosts, counts, strict=True))
    ]


def _group_labels(traffic: Content) -> tuple[str, ...]:
    """Return what a row and a column is called, if there are several hosts."""
    groups = _groups(traffic)
    if len({host for _, host in groups}) < 2:  # noqa: PLR2004 - of one host numbers say enough
        return ()
    return tuple(f"{ranks} {host}" if ranks.isdigit() else host for ranks, host in groups)


def _group_tables(traffic: Content) -> tuple[Table, ...]:
    """Return what each group sent and took, and kept to itself."""
    groups = _groups(traffic)
    if not groups:
        return ()
    payload = [
        [a + b for a, b in zip(fetched, stored, strict=True)]
        for fetched, stored in zip(
            traffic["payload_fetched"], traffic["payload_stored"], strict=True
        )
    ]
    kept = zip(traffic["kept_fetched"], traffic["kept_stored"], strict=True)
    rows = [
        (
            *groups[place],
            scaled(sum(payload[place]), "B"),
            scaled(sum(row[place] for row in payload), "B"),
            scaled(sum(both), "B"),
            scaled(sum(traffic["control"][place]), "B"),
        )
        for place, both in enumerate(kept)
    ]
    shown, caption = _cut(rows, "Content that ranks sent to others, got, and kept")
    return (Table(caption, ("ranks", "host", "sent", "got", "kept", "control sent"), shown, 2),)


def _is_matrix(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, list) for row in value)


def _pages(content: Content) -> Section:
    about = (
        "Pages of 4,096 bytes: how often workers read one from its home, how many versions of it "
        "commits made, and how many commits stored to it beside bytes that others had stored since "
        "their snapshot (false sharing: nobody lost, but the page had to be fetched again)."
    )
    title, rows = "Hot pages and false sharing", content.get("hot_pages") or []
    if not rows:
        why = "no page was fetched or stored, or an older version wrote this."
        return Section("pages", title, about, why_empty=why)
    bars = rows[:_BARS_MAX]
    kinds = ("fetches", "versions", "shared")
    labels = [row["name"] or hex(row["address"]) for row in bars]
    plot = Bars(labels, {kind: [float(row[kind]) for row in bars] for kind in kinds}, "times")
    figure = Figure("hot-pages", "The busiest pages.", plot)
    by_name: dict[str, list[int]] = {}
    for row in rows:
        sums = by_name.setdefault(row["name"].partition("+")[0] or "unnamed", [0, 0, 0, 0])
        for column, value in enumerate((1, *(row[kind] for kind in kinds))):
            sums[column] += value
    named = Table(
        "The busiest pages, by array or area",
        ("name", "pages", *kinds),
        [(name, *(f"{value:,}" for value in sums)) for name, sums in by_name.items()][:_ROWS_MAX],
    )
    shown, caption = _cut(rows, "The busiest pages")
    pages = Table(
        caption,
        ("page", "name", *kinds),
        [(hex(r["address"]), r["name"], *(f"{r[kind]:,}" for kind in kinds)) for r in shown],
        2,
    )
    return Section("pages", title, about, (figure,), (named, pages))


_MARKS: Final = (
    ("resident_bytes", "resident size"),
    ("frame_bytes", "pages of the home"),
    ("staged_bytes", "staged write sets"),
)


def _memory(content: Content) -> Section:
    about = (
        "The highest of any rank: resident size of its process; pages that its home keeps, old "
        "versions included; write sets that wait there to be committed. Between two looks, some "
        "20 ms or more apart, there may have been more."
    )
    title, over_time = "Memory", content.get("memory_over_time") or {}
    columns = content.get("by_rank") or {}
    if not over_time.get("resident_bytes") or not columns:
        why = "no rank has told of its memory: the run ended before, or an older version wrote it."
        return Section("memory", title, about, why_empty=why)
    series = {words: [value / 1e6 for value in over_time[key]] for key, words in _MARKS}
    figure = Figure(
        "memory",
        "High-water marks over time, of the rank that had most.",
        Lines(float(over_time["bucket_s"]), series, "MB"),
    )
    rows = [
        (f"{rank}", host, *(scaled(columns[key][rank], "B") for key, _ in _MARKS))
        for rank, host in enumerate(columns["host"])
    ]
    shown, caption = _cut(rows, "High-water marks of each rank")
    table = Table(caption, ("rank", "host", *(words for _, words in _MARKS)), shown, 2)
    return Section("memory", title, about, (figure,), (table,))
