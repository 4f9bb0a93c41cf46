"""Times of several ways: what is kept of a process, how ways compare, and when to doubt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.timings import (
    QUARTILES_APART_MAX,
    Timings,
    fastest,
    markdown,
    ratio,
    seconds_text,
    warnings,
    write_results,
)


def timings(*samples: float, name: str = "way") -> Timings:
    """Return a way of which each process timed one repetition."""
    made = Timings(name)
    for sample in samples:
        made.add([sample])
    return made


def test_first_repetition_of_a_process_is_left_out() -> None:
    way = Timings("way")
    way.add([9.0, 2.0, 4.0, 3.0])
    assert way.samples == [3.0]
    assert way.shortest == [2.0]


def test_only_repetition_of_a_process_counts() -> None:
    way = Timings("way")
    way.add([9.0])
    assert way.samples == way.shortest == [9.0]


def test_process_without_times_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match="way: a process that timed nothing"):
        Timings("way").add([])


def test_median_and_quartiles_lie_within_what_was_seen() -> None:
    way = timings(5.0, 1.0, 2.0, 4.0, 3.0)
    assert way.median == 3.0
    assert way.quartiles == (2.0, 4.0)
    assert way.apart == pytest.approx(2 / 3)
    assert timings(7.0).quartiles == (7.0, 7.0)
    assert timings(7.0).apart == 0.0


def test_ratio_compares_medians_and_quickest_repetitions() -> None:
    base, way = Timings("base"), Timings("way")
    base.add([9.0, 1.0, 2.0, 3.0])
    way.add([9.0, 3.0, 5.0, 7.0])
    assert ratio(way, base) == (2.5, 3.0)


def test_fastest_is_by_medians() -> None:
    rarely_quick = timings(0.1, 5.0, 5.0)
    steady = timings(2.0, 2.0, 2.0)
    assert fastest([rarely_quick, steady]) is steady


def test_wide_quartiles_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    half = QUARTILES_APART_MAX / 2
    just_within = timings(1 - half, 1 - half, 1, 1 + half, 1 + half, name="steady")
    too_wide = timings(1 - half, 1 - half, 1, 1.01 + half, 1.01 + half, name="disturbed")
    found = warnings([("primes", [just_within, too_wide])], 0.0, 1)
    assert found == ["primes: disturbed: the quartiles are 16% of the median apart"]


@pytest.mark.parametrize(("load", "wants", "told"), [(1.4, 1, 0), (1.6, 1, 1), (0.6, 2, 1)])
def test_load_of_others_is_a_warning(
    load: float, wants: int, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    assert len(warnings([], load, wants)) == told


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.345, "12.3 s"), (0.012345, "12.3 ms"), (1.2e-5, "12 us")]
)
def test_times_have_three_digits(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_table_has_columns_of_one_width() -> None:
    assert markdown([("a", "bc"), ("def", "g")]) == ("| a   | bc |\n|-----|----|\n| def | g  |")


def test_results_say_where_they_come_from(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "results.json"
    write_results(path, (0.5, 0.4, 0.3), {"warnings": ["one"]})
    content = json.loads(path.read_text())
    assert content["warnings"] == ["one"]
    assert content["load_before"] == [0.5, 0.4, 0.3]
    assert {"finished_at", "command", "revision", "host", "versions", "load_after"} <= set(content)
