"""The status page, and the page of a comparison, in a real browser. Not in the normal run.

It is Chromium, which must be installed (CONTRIBUTING.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.core.positions import Lsn
from mirror.parity.html import Second
from mirror.parity.html import page as report_page
from mirror.parity.report import ColumnDifference, Difference, ParityReport, TableReport
from mirror.parity.server import Server
from tests.integration.test_status_page import serving
from tests.support.browser import Page
from tests.support.commands import CommandLine
from tests.support.page_data import MadeUp, path_of
from tests.support.source import Writer
from tests.support.waiting import until

pytestmark = pytest.mark.slow

#: Pixels: a phone, and a window on a desk.
WIDTHS = (390, 1280)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with Page() as page:
        yield page
        assert page.errors == []


def texts(page: Page, selector: str) -> list[str]:
    """Of the elements that are seen."""
    found: list[str] = page.value(
        f"[...document.querySelectorAll({selector!r})]"
        ".filter((one) => one.checkVisibility()).map((one) => one.textContent.trim())"
    )
    return found


def fits(page: Page) -> bool:
    """Whether nothing is wider than the window."""
    return bool(page.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth"))


def colours(page: Page) -> tuple[int, int]:
    """How light ground and text are, from 0 to 255."""
    one, other = (
        page.value(f"getComputedStyle(document.body).{name}.match(/\\d+/g).slice(0, 3).map(Number)")
        for name in ("backgroundColor", "color")
    )
    return sum(one) // 3, sum(other) // 3


#: The texts that are seen of which the contrast with what is behind them is less than AA asks for; each with it.
_POOR = """
(() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((one) => one / 255)
    .map((one) => one <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4)
    .reduce((sum, one, at) => sum + one * [.2126, .7152, .0722][at], 0);
  const behind = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const colour = parts(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  return [...document.body.querySelectorAll("*")].filter((one) => one.checkVisibility()
      && [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()))
    .map((one) => [light(parts(getComputedStyle(one).color)), light(behind(one)), one.textContent.trim().slice(0, 40)])
    .map(([a, b, text]) => [(Math.max(a, b) + .05) / (Math.min(a, b) + .05), text])
    .filter(([contrast]) => contrast < 4.5);
})()
"""
#: Cells of a report that are broken into lines.
_BROKEN = """
[...document.querySelectorAll("td.key, td.number, td.line")].filter((cell) => {
  const range = document.createRange();
  range.selectNodeContents(cell);
  const lines = [...range.getClientRects()].filter((box) => box.width).map((box) => Math.round(box.bottom / 8));
  return new Set(lines).size > 1;
}).map((cell) => cell.textContent)
"""


#: Words of commands that are on more than one line, though there is room for them.
_BROKEN_WORDS = (
    "[...document.querySelectorAll('li code span')]"
    ".filter((one) => one.textContent.length < 30 && one.offsetHeight > 30).map((one) => one.textContent)"
)


def test_a_comparison(page: Page, tmp_path: Path) -> None:
    """Nothing is wider than a phone but what scrolls, keys are on one line, and all can be read, light and dark."""
    examples = (
        Difference("missing", ["agent-0000-1111-2222", 999999]),
        Difference("different", [100], (ColumnDifference("name", "Customer 3", "x"), ColumnDifference("n", 1, None))),
        Difference("different", [2], (ColumnDifference("a_column_with_a_long_name", "word " * 20, "y" * 120),)),
    )
    at = {"first_lsn": Lsn(31, 603), "last_lsn": Lsn(64, 756), "source_digest": "ab" * 16, "target_digest": "cd" * 16}
    tables = (
        TableReport("customers", "equal", source_rows=1_000_000, target_rows=1_000_000, **at),
        TableReport("empty", "equal", source_rows=0, target_rows=0),
        TableReport("odd", "equal except rejects", source_rows=5, target_rows=3, rejected=2, **at),
        TableReport("memory_item_categories_by_agent", "different", "why", 9, 8, 1, 0, 2991, examples=examples, **at),
        TableReport("taken", "not mirrored", "Postgres refuses it: it is the table of another program", refused=True),
        TableReport("other", "not checked", "because"),
    )
    server = Server("/a/rather/long/path/of/a/socket", 5432, "app", "public", "17.2 (Debian 17.2-1.pgdg120+1)")
    report = ParityReport(
        f"/home/{'long' * 30}/a.db",
        tables,
        "different",
        "",
        1.0,
        10,
        0.01,
        options=" --state-dir /srv/a-state-dir",
        server=server,
    )
    lags = [Second(1_000 + at, 0.004 * (at % 9), at % 40) for at in range(200)]
    (tmp_path / "report.html").write_text(
        report_page([(report, lags), (report, [Second(1, 0.1, 0), Second(90, 0, 0)])])
    )
    page.open(f"file://{tmp_path / 'report.html'}")
    for width in WIDTHS:
        for dark in (False, True):
            page.resize(width, dark=dark)
            assert fits(page), width
            assert page.value(_BROKEN) == [] == page.value(_POOR), (width, dark)
            assert page.value(_BROKEN_WORDS) == [], width
            narrow = "Math.min(...[...document.querySelectorAll('td.value')].map((one) => one.offsetWidth))"
            assert page.value(narrow) >= 180
            page.picture(tmp_path / f"report-{width}-{'dark' if dark else 'light'}.png")
    assert "--state-dir" in texts(page, "li code span")
    assert len(texts(page, "td.number")) and page.value("document.querySelectorAll('.bar').length") == 2 * 3
    assert texts(page, ".chart span") == ["32 ms", "0 ms", "00:16:40", "00:19:59 UTC", "39/s", "0/s", "00:16:40",
                                          "00:19:59 UTC", "100 ms", "0 ms", "00:00:01", "00:01:30 UTC"]  # fmt: skip
    assert "… and 2,989 more rows of memory_item_categories_by_agent" in texts(page, "td")


def test_a_mirror_that_runs(page: Page, folder: Path, dsn: str, database: Path, writer: Writer, tmp_path: Path) -> None:
    """Data comes by itself; light and dark, on a desk and on a phone; and when the mirror ends it says so."""
    cli = CommandLine(folder, dsn)
    writer.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)", "INSERT INTO notes VALUES (1, 'one')")
    with serving(cli, database, "--http", "0") as client:
        page.open(f"http://{client.host}:{client.port}/")
        until(lambda: texts(page, ".phase") == ["following"])
        writer.run("INSERT INTO notes VALUES (2, 'two')")
        assert cli.run("wait", database).code == 0
        until(lambda: "M" in (page.value("document.querySelector('.lags path').getAttribute('d')") or ""))
        assert texts(page, "#summary") == ["1 of 1 source well"] and texts(page, ".name") == ["source.db"]
        assert "never compared" in texts(page, ".figures")[0]
        assert texts(page, "#choice") == [] == texts(page, "#heads")
        # What has to be done is there, with its command.
        assert cli.run("parity", database).code == 0
        until(lambda: "equal, " in texts(page, ".figures")[0])
        for width in WIDTHS:
            for dark in (False, True):
                page.resize(width, dark=dark)
                assert fits(page), width
                assert page.value(_POOR) == [] == page.value(_BROKEN_WORDS), (width, dark)
                ground, text = colours(page)
                assert (ground < 60 and text > 200) if dark else (ground > 200 and text < 60)
                page.picture(tmp_path / f"{width}-{'dark' if dark else 'light'}.png")
    until(lambda: "does not answer" in texts(page, "#summary")[0])
    assert page.value("document.title") == "✗ mirror"
    page.errors.clear()  # of requests to a mirror that has ended


@pytest.fixture
def made_up(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MadeUp]:
    made = MadeUp(request.param, tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("made_up", [1, 40, 500], indirect=True)
def test_few_and_many(made_up: MadeUp, page: Page) -> None:
    """One is a card; many are lines, the worst first, that are filtered, ordered and opened."""
    number = made_up.count
    page.open(made_up.url)
    until(lambda: texts(page, "#when")[0].startswith("as of"))
    assert page.value("document.querySelectorAll('.source').length") == number
    page.value("document.querySelectorAll('#words, .rest').forEach((one) => { one.open = true })")
    for width in WIDTHS:
        for dark in (False, True):
            page.resize(width, dark=dark)
            assert fits(page), width
            assert page.value(_POOR) == [], (width, dark)
    assert "answers in 0.2\u00a0ms" in texts(page, "#around")[0] and "3 agents online" in texts(page, "#around")[0]
    if number == 1:
        until(
            lambda: (
                len(texts(page, ".source figure")) == 2 and page.value("document.querySelectorAll('svg').length") == 2
            )
        )
        assert "99\u00a0% Postgres" in texts(page, ".figures")[0]
        most, *ends = texts(page, ".lags .chart span")
        assert most.endswith("\u00a0ms") and ends == ["0\u00a0ms", "5\u00a0min ago", "now"]
        assert texts(page, ".rates .chart span")[1:] == ["0/s", "5\u00a0min ago", "now"]
        # Each word of a figure is explained where it stands, and at the foot for those who cannot point at it.
        explained = texts(page, "#words dt")
        for word in texts(page, ".figures dt"):
            assert word in explained
            assert page.value(
                f"[...document.querySelectorAll('dt span')].find((one) => one.textContent == '{word}').title"
            )
        return
    names = texts(page, ".name")
    assert names[0] == "agent-003/memory.db" and len(set(names)) == len(names) == number
    assert texts(page, ".phase")[0] == "waiting" and page.value("document.querySelectorAll('svg').length") == 0
    # One line is opened: its plots, what to do, and only its history is asked for.
    page.value(f"document.querySelector('[data-source=\"{path_of(5)}\"] > summary').click()")
    until(lambda: page.value("document.querySelectorAll('.source[open] svg').length") == 2)
    assert texts(page, ".source[open] code") == [f"mirror rejects list {path_of(5)}"]
    asked = page.value(
        "performance.getEntriesByType('resource').map((one) => one.name).filter((one) => /history/.test(one))"
    )
    assert asked and all(one.count("source=") == 1 for one in asked)
    # Filter and order.
    page.value("(wanted.value = 'AGENT-01', wanted.dispatchEvent(new Event('input', {bubbles: true})))")
    assert len(texts(page, ".name")) == 10
    page.value("(order.value = 'name', order.dispatchEvent(new Event('input', {bubbles: true})))")
    assert texts(page, ".name")[:2] == ["agent-010/memory.db", "agent-011/memory.db"]
    page.value("(wrong.checked = true, wrong.dispatchEvent(new Event('input', {bubbles: true})))")
    assert texts(page, ".name") == ["agent-016/memory.db"]
    page.value("(wanted.value = 'nothing', wanted.dispatchEvent(new Event('input', {bubbles: true})))")
    assert texts(page, "#none") == ["No source is to be shown."]


def test_names_are_text(page: Page, tmp_path: Path) -> None:
    """Not markup, whatever the files are called."""
    made = MadeUp(1, tmp_path, path=lambda _: "/s/<img src=x onerror=alert(1)>.db")
    try:
        page.open(made.url)
        until(lambda: texts(page, ".name") == ["<img src=x onerror=alert(1)>.db"])
        assert page.value("document.querySelectorAll('img').length") == 0
    finally:
        made.close()
