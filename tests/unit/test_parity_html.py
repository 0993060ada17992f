"""The report as a page: self-contained, escaped, the verdict first."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from mirror.parity.html import Second, page
from mirror.parity.report import Difference, ParityReport, Status, TableReport, verdict_of

EVIL = "<script>alert('x')</script>"


class Structure(HTMLParser):
    """Which elements open and close."""

    VOID = frozenset({"meta", "polyline"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def report(*tables: TableReport, source: str = "/x/s.db") -> ParityReport:
    return ParityReport(source, tables, verdict_of(tables), "", 1.0, 10, 0.012)


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        (("equal", "equal"), "equal"),
        (("equal", "different"), "different"),
        (("not checked", "equal"), "not checked"),
    ],
)
def test_the_verdict_is_first(statuses: tuple[Status, ...], verdict: str) -> None:
    text = page([(report(TableReport("t", status, source_rows=5, target_rows=5)), []) for status in statuses])
    body = Structure(text).text.partition("parity: ")[2]
    assert body.startswith(verdict)
    assert re.search(r"<h1[^>]*><span[^>]*>([a-z ]+):", text)[1] == verdict  # type: ignore[index]


def test_whatever_comes_from_a_database_is_escaped() -> None:
    table = TableReport(
        EVIL, "different", EVIL, 10, 9, 1, 0, 1, 2, examples=(Difference("different", EVIL, EVIL, EVIL, EVIL),)
    )
    found = Structure(page([(report(table, source=f"/x/{EVIL}.db"), [])]))
    assert "script" not in found.seen and found.open == []
    assert found.text.count(EVIL) >= 7


def test_it_needs_nothing_else() -> None:
    text = page(
        [(report(TableReport("t", "equal", source_rows=0, target_rows=0)), [Second(1, 0.5, 3), Second(9, 1, 4)])]
    )
    assert not re.search(r"(src|href|url|@import)\s*[=(]", text)
    found = Structure(text)
    assert found.seen.count("svg") == 2 and "script" not in found.seen and "link" not in found.seen
    assert "worst lag in ms, at most 1,000.0, over 8 s" in found.text
