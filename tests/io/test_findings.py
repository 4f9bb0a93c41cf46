from __future__ import annotations

from typing import Any

import pytest

from dvm_mpi.io.findings import findings, percent, shares_of
from tests.io.contents import ACTIVITIES, EMPTY, content_of


def quiet(**fields: object) -> dict[str, Any]:
    calm = {"retries": 0, "contention": [], "hot_pages": [], "runner_lengths": []}
    return content_of(**(calm | fields))  # type: ignore[arg-type]


def by_rank(**columns: list[float]) -> dict[str, Any]:
    count = len(next(iter(columns.values())))
    times = {f"{name}_s": columns.get(name, [0.0] * count) for name in ACTIVITIES}
    return {"host": ["h"] * count, **times}


def test_a_calm_run_has_nothing_that_stands_out() -> None:
    assert findings(quiet()) == ["Nothing stands out."]
    assert findings(EMPTY) == ["Nothing stands out."]


def test_losses_are_told_with_their_line() -> None:
    (told,) = [text for text in findings(content_of()) if "lost and ran again" in text]
    assert told.startswith("40 % of all attempts lost and ran again; 60 % of these at lib/k.dasm:7")
    assert "(in add), since others had stored to sums+0x8." in told


def test_few_losses_are_no_finding() -> None:
    content = content_of(retries=40)
    assert not any("lost and ran" in text for text in findings(content))


def test_idle_ranks_are_told_and_the_one_that_is_worst() -> None:
    times = by_rank(executing=[6.0, 6.0, 6.0, 2.0], idle=[4.0, 4.0, 4.0, 8.0])
    told = findings(quiet(by_rank=times))
    assert told[0].startswith("Ranks were idle 50 % of their time")
    assert told[1] == "Rank 3 was idle 80 % of its time, the others 40 % on average."


def test_waiting_and_coordinating_are_told() -> None:
    times = by_rank(coordinating=[9.0, 0.0], executing=[1.0, 2.0], waiting=[0.0, 8.0])
    told = findings(quiet(by_rank=times))
    assert told[0].startswith("Ranks waited 40 % of their time for pages")
    assert told[1].startswith("Rank 0 spent 90 % of its time on coordination")


def test_short_runners_and_one_long_one_are_told() -> None:
    rows = content_of()["runner_lengths"]
    told = findings(quiet(runner_lengths=rows))
    assert told[0].startswith("1.70 k attempts of add executed 20 instructions on average")
    told = findings(quiet(runner_lengths=rows[1:], instructions=100_000))
    assert told[0].startswith("One attempt of main executed 70 % of all instructions (70.0 k)")


def test_shared_pages_are_told_by_array() -> None:
    told = findings(quiet(hot_pages=content_of()["hot_pages"]))
    assert told[0].startswith("Pages of sums were shared: 192 commits")
    assert "meanwhile, in runners of add (k.dasm:7), sub (k.dasm:9). Nobody lost" in told[0]


def test_slow_files_and_watchers_are_told() -> None:
    told = findings(quiet(load_s=9.0, compile_s=48.0, output_s=8.5, watchers_left=2))
    assert [text.split(",")[0] for text in told[:3]] == [
        "Loading took 9.0 s",
        "Waiting for compiled code took 48.0 s",
        "Writing the outputs took 8.5 s",
    ]
    assert told[3].startswith("2 watchers still armed")


def test_shares_of_a_rank_add_up() -> None:
    shares = shares_of(content_of())
    assert set(shares) == set(ACTIVITIES)
    assert [sum(of) for of in zip(*shares.values(), strict=True)] == pytest.approx([1.0] * 4)
    assert shares_of({"by_rank": by_rank(idle=[0.0])})["idle"] == [0.0]


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (0.003, "0.3 %"), (0.42, "42 %"), (1, "100 %")]
)
def test_shares_as_people_write_them(share: float, text: str) -> None:
    assert percent(share) == text
