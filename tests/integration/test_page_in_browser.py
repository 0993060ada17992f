"""The status page in a real browser: Chromium, which must be installed (CONTRIBUTING.md). Not in the normal run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

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
        until(lambda: "verified" in texts(page, ".figures")[0])
        for width in WIDTHS:
            for dark in (False, True):
                page.resize(width, dark=dark)
                assert fits(page), width
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
    for width in WIDTHS:
        page.resize(width)
        assert fits(page), width
    assert "answers in 0.2\u00a0ms" in texts(page, "#around")[0] and "3 agents online" in texts(page, "#around")[0]
    if number == 1:
        until(
            lambda: (
                len(texts(page, ".source figure")) == 2 and page.value("document.querySelectorAll('svg').length") == 2
            )
        )
        assert "99\u00a0% Postgres" in texts(page, ".figures")[0]
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
