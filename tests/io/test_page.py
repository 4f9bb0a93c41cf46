"""The page: complete, safe, without a network, and drawn by a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dvm_mpi.errors import FileError
from dvm_mpi.io.page import read_content, render, write_page
from tests.io.contents import EMPTY, HOSTILE, content_of
from tests.patience import PATIENCE_S

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
BROWSER = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    # A container has 64 MB there, and ranks of other tests take them.
    "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--window-size=1000,2000", "--enable-logging=stderr",
    "--virtual-time-budget=10000",
)  # fmt: skip


class Outline(HTMLParser):
    """Notes elements and texts, and asserts that elements end in order."""

    VOID = frozenset({"meta", "link", "br", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)


@cache
def whole_page() -> str:
    return render(content_of())


def test_the_page_tells_how_it_ended_and_what_to_look_at() -> None:
    page = Outline(whole_page())
    for told in (
        "kmeans.dasm", "Exit code 0: the program ended", "What to look at first",
        "40 % of all attempts lost and ran again", "4 ranks on 2 hosts: node0, node1",
        "dvm 0.1.0, python 3.11.7", "python -m dvm_mpi kmeans.dasm --report run.html",
    ):  # fmt: skip
        assert told in page.text, told
    assert page.count("figure") == page.count("svg") == 12
    assert page.count("table") >= 8


def test_a_fault_stands_on_top_with_its_remedy() -> None:
    fault = "k.dasm:3: trap: division by zero\n  remedy: test the divisor"
    page = render(EMPTY | {"exit_code": 5, "exit_meaning": "a runner trapped", "fault": fault})
    assert page.index("remedy: test the divisor") < page.index("What to look at first")
    assert 'class="verdict bad">Exit code 5: a runner trapped' in page


def test_a_run_without_an_end_says_so() -> None:
    page = Outline(render(EMPTY | {"exit_meaning": "it was ended from outside"}))
    assert "Exit code –: it was ended from outside" in page.text
    assert page.text.count("Nothing to show: ") == 7


def hostile(value: Any) -> Any:
    """Return the value with all of its texts replaced."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, list):
        return [hostile(item) for item in value]
    if isinstance(value, dict):
        return {key: hostile(item) for key, item in value.items()}
    return value


def test_names_from_programs_and_files_are_text() -> None:
    page = render(hostile(content_of(fault="x")))
    outline = Outline(page)
    assert outline.count("script") == 0
    assert HOSTILE in outline.text


def test_the_page_asks_no_network_for_anything() -> None:
    page = whole_page()
    outline = Outline(page)
    links = [
        value
        for tag, attributes in outline.elements
        for name, value in attributes.items()
        if name in {"src", "href", "xlink:href", "action", "data"} and tag != "a"
    ]
    assert all(str(link).startswith(("#", "data:")) for link in links)
    assert not re.search(r"@import|url\((?!#|\"?data:)", page)
    assert "default-src 'none'" in page


def test_thousands_of_ranks_fit_into_one_page() -> None:
    page = render(content_of(ranks=4_096, buckets=128))
    assert len(page) < 1_000_000
    assert "4,096 ranks on 2,048 hosts" in page


def test_a_page_is_made_of_a_file(tmp_path: Path) -> None:
    source, target = tmp_path / "run.json", tmp_path / "run.html"
    source.write_text(json.dumps(EMPTY))
    write_page(read_content(source), target)
    assert target.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "run.html"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot read it: No such file"),
        ("{", "is no report"),
        ("[]", "is no report; give the JSON file that --report wrote"),
        ('{"a": 1}', "is no report; give the JSON file"),
        ('{"report_version": 99}', "written by a newer DVM"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str | None, told: str) -> None:
    source = tmp_path / "run.json"
    if text is not None:
        source.write_text(text)
    with pytest.raises(FileError, match=told):
        read_content(source)


# --- in a browser -------------------------------------------------------------------------------


def browse(page: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    if CHROMIUM is None:
        assert os.environ.get("CI") != "true", "chromium is missing where nothing may be skipped"
        pytest.skip("there is no chromium")
    command = [CHROMIUM, *BROWSER, f"--user-data-dir={folder / 'profile'}", *words, page.as_uri()]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=PATIENCE_S, cwd=folder
    )


#: Put into a copy of the page that may run scripts: tells the size of every plot as an attribute.
MEASURE = """<script>
addEventListener("load", () => {
  const sizes = [...document.querySelectorAll("figure svg")].map(plot => {
    const box = plot.getBoundingClientRect();
    return [Math.round(box.width), Math.round(box.height), plot.querySelectorAll("path").length];
  });
  const asked = performance.getEntriesByType("resource").map(entry => entry.name);
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  document.title = JSON.stringify({sizes, asked, wide});
});
</script></head>"""


@pytest.mark.slow
def test_a_real_browser_draws_every_plot_and_asks_for_nothing(tmp_path: Path) -> None:
    page = tmp_path / "run.html"
    write_page(content_of(ranks=300, buckets=128), page)
    shot = tmp_path / "run.png"
    shown = browse(page, tmp_path, f"--screenshot={shot}")
    assert "CONSOLE" not in shown.stderr, shown.stderr
    assert shot.stat().st_size > 20_000

    measured = tmp_path / "measured.html"
    text = page.read_text(encoding="utf-8")
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    measured.write_text(text.replace("</head>", MEASURE, 1), encoding="utf-8")
    shown = browse(measured, tmp_path, "--dump-dom")
    assert "CONSOLE" not in shown.stderr, shown.stderr
    title = Outline(shown.stdout).text.partition("<title>")[2] or shown.stdout
    told = json.loads(re.search(r"<title>(\{.*?\})</title>", title)[1])  # type: ignore[index]
    assert told["asked"] == []
    assert told["wide"] <= 0, "the page is wider than its window"
    assert len(told["sizes"]) == 12
    for width, height, paths in told["sizes"]:
        assert width >= 250
        assert height >= 100
        assert paths >= 3
