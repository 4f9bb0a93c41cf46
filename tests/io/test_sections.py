"""Every number of the page comes from the report; what is missing is told."""

from __future__ import annotations

from typing import Any

import pytest

from dvm_mpi.io.sections import Bars, Columns, Heat, Lines, Section, Stack, sections
from tests.io.contents import ACTIVITIES, EMPTY, content_of

NAMES = ["time", "runners", "retries", "lines", "traffic", "pages", "memory"]


def section(name: str, content: dict[str, Any]) -> Section:
    return next(part for part in sections(content) if part.name == name)


def plots(part: Section) -> dict[str, Any]:
    return {figure.name: figure.plot for figure in part.figures}


def test_all_sections_are_there_in_order() -> None:
    parts = sections(content_of())
    assert [part.name for part in parts] == NAMES
    assert all(part.figures and part.tables and not part.why_empty for part in parts)


def test_of_an_empty_report_every_section_says_why_it_is_empty() -> None:
    parts = sections(EMPTY)
    assert [part.name for part in parts] == NAMES
    assert all(part.why_empty and not part.figures and not part.tables for part in parts)


def test_figures_have_names_of_their_own() -> None:
    names = [figure.name for part in sections(content_of()) for figure in part.figures]
    assert len(names) == len(set(names)) == 12


def test_where_the_time_went() -> None:
    part = section("time", content_of())
    drawn = plots(part)
    stack, heat, bars = drawn["over-time"], drawn["ranks-over-time"], drawn["by-rank"]
    assert isinstance(stack, Stack)
    assert stack.series["executing"] == pytest.approx([60.0] * 8)
    assert [sum(x) for x in zip(*stack.series.values(), strict=True)] == pytest.approx([100.0] * 8)
    assert isinstance(heat, Heat)
    assert heat.rows == [[60.0] * 8] * 4
    assert isinstance(bars, Bars)
    assert bars.labels == ["0", "1", "2", "3"]
    assert bars.series["idle"] == pytest.approx([25.0] * 4)
    assert part.tables[0].rows[2] == (
        "2", "node1", "4.80", "0.80", "0.00", "0.00", "0.40", "2.00", "1.00 M",
    )  # fmt: skip


def test_one_rank_is_not_compared_with_others() -> None:
    assert set(plots(section("time", content_of(ranks=1)))) == {"over-time"}


def test_thousands_of_ranks_are_folded() -> None:
    part = section("time", content_of(ranks=4_090))
    drawn = plots(part)
    assert len(drawn["ranks-over-time"].rows) == 128
    assert drawn["ranks-over-time"].y_step == 32
    assert drawn["over-time"].series["executing"] == pytest.approx([60.0] * 8)
    assert len(drawn["by-rank"].labels) <= 32
    assert drawn["by-rank"].labels[-1] == "3968-4089"
    assert len(part.tables[0].rows) == 40
    assert part.tables[0].caption == "Seconds of each rank (40 of 4,090)"


def test_the_last_group_may_be_smaller() -> None:
    """Its ranks count as much as any others."""
    content = content_of(ranks=130)
    content["utilisation"]["executing"][-1] = [1000] * 8
    stack = plots(section("time", content))["over-time"]
    assert stack.series["executing"] == pytest.approx([(128 * 60 + 2 * 100) / 130] * 8)


def test_lengths_by_entry() -> None:
    part = section("runners", content_of())
    columns = plots(part)["lengths"]
    assert isinstance(columns, Columns)
    assert columns.classes == list(range(18))
    assert columns.series["add"][5] == 1699
    assert columns.series["main"][17] == 1
    assert part.tables[0].rows[0] == ("add", "1,700", "34,000", "20", "31")


def test_of_many_entries_the_rest_is_one_series() -> None:
    rows = [
        {"entry": f"e{i}", "attempts": i + 1, "instructions": 9, "longest": 9, "classes": {"4": i}}
        for i in range(60)
    ]
    part = section("runners", content_of(runner_lengths=rows))
    series = plots(part)["lengths"].series
    assert len(series) == 7
    assert sum(values[0] for values in series.values()) == sum(range(60))
    assert len(part.tables[0].rows) == 40


def test_retries_by_line() -> None:
    part = section("retries", content_of())
    assert plots(part)["retries"].labels == ["k.dasm:7 (add)", "k.dasm:8 (add)"]
    assert part.tables[0].rows[0] == (
        "lib/k.dasm:7", "add", "add", "sums+0x8 (0x1000)", "420", "60 %", "3",
    )  # fmt: skip
    calm = section("retries", content_of(contention=[], retries=0))
    assert calm.why_empty == "none of the 1,053 attempts has lost."


def test_the_profile_is_shown_if_it_is_there() -> None:
    part = section("lines", content_of())
    assert part.tables[0].rows == [("k.dasm:9", "add a, b, a", "900", "90 %")]
    assert "--profile" in section("lines", content_of(lines=[])).why_empty


def test_totals_between_ranks_have_what_moves_within_a_group_of_them() -> None:
    part = section("traffic", content_of(traffic={"control": [[5, 1], [2, 7]], "hosts": "any"}))
    assert part.tables[0].rows == [("Bytes of everything else that was sent", "15 B")]
    assert plots(part)["traffic-control"].rows == [[5, 1], [2, 7]]


def traffic_of(hosts: list[str], ranks: list[int]) -> Section:
    square = [[0, 3_000], [50, 7]]
    matrices = dict.fromkeys(("payload_fetched", "payload_stored", "control"), square)
    kept = {"kept_fetched": [1, 2], "kept_stored": [4, 8]}
    return section(
        "traffic", content_of(traffic={**matrices, **kept, "hosts": hosts, "ranks": ranks})
    )


def test_what_moved_between_ranks_is_labelled_with_their_hosts() -> None:
    part = traffic_of(["node1", "node2"], [1, 1])
    assert plots(part)["traffic-control"].labels == ("0 node1", "1 node2")
    assert part.tables[1].head == ("ranks", "host", "sent", "got", "kept", "control sent")
    assert part.tables[1].rows == [
        ("0", "node1", "6.00 kB", "100 B", "5 B", "3.00 kB"),
        ("1", "node2", "114 B", "6.01 kB", "10 B", "57 B"),
    ]


def test_of_many_ranks_those_of_a_host_have_its_name() -> None:
    part = traffic_of(["node1", "node2, node3"], [16, 32])
    assert plots(part)["traffic-control"].labels == ("node1", "node2, node3")
    assert [row[:2] for row in part.tables[1].rows] == [
        ("16 ranks", "node1"), ("32 ranks", "node2, node3")
    ]  # fmt: skip


def test_ranks_of_one_host_need_no_label() -> None:
    part = traffic_of(["node1", "node1"], [1, 1])
    assert plots(part)["traffic-control"].labels == ()


def test_a_run_that_ended_before_a_rank_told_of_its_time_says_so() -> None:
    over_time = {name: [[], []] for name in ACTIVITIES}
    utilisation = {"bucket_s": 0.02, "ranks_per_row": 1, **over_time, "instructions": []}
    part = section("time", content_of(ranks=2, utilisation=utilisation))
    assert "no rank has told of its time" in part.why_empty
    assert part.figures == ()


def test_pages_are_joined_by_array() -> None:
    named, pages = section("pages", content_of()).tables
    assert named.rows == [("sums", "3", "24", "15", "192")]
    assert pages.rows[1] == ("0x440001000", "sums+0x1000", "8", "5", "64")


def test_memory_over_time() -> None:
    part = section("memory", content_of())
    lines = plots(part)["memory"]
    assert isinstance(lines, Lines)
    assert lines.series["resident size"][:2] == [10.0, 20.0]
    assert part.tables[0].rows[3][:3] == ("3", "node1", "1.00 MB")


def test_shares_in_the_table_of_ranks_have_all_activities() -> None:
    head = section("time", content_of()).tables[0].head
    assert head == ("rank", "host", *ACTIVITIES, "instructions")
