"""The report as a page: self-contained, escaped, the verdict first."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from mirror.parity.html import Second, page
from mirror.parity.report import (
    ColumnDifference,
    ColumnReport,
    Difference,
    ParityReport,
    Planned,
    Status,
    TableReport,
    verdict_of,
)
from mirror.parity.server import Server

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
    assert re.search(r"<h1[^>]*><span[^>]*>([a-z ]+) \(", text)[1] == verdict  # type: ignore[index]


def test_declared_losses_are_told() -> None:
    table = TableReport("t", "equal", columns=(ColumnReport("id"), ColumnReport("rate", (("rounded to 2 places", 1),))))
    text = page([(report(table), [])])
    assert "rate: equal but for 1 value rounded to 2 places" in text and "id: " not in text


def test_whatever_comes_from_a_database_is_escaped() -> None:
    table = TableReport(
        EVIL,
        "different",
        EVIL,
        10,
        9,
        1,
        0,
        1,
        2,
        examples=(Difference("different", [EVIL], (ColumnDifference(EVIL, EVIL, EVIL),)),),
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
    assert (
        "Lag: how far Postgres was behind SQLite, the worst of each second1,000 ms0 ms00:00:0100:00:09 UTC"
        in found.text
    )


def test_an_empty_bar_or_chart_is_not_shown() -> None:
    tables = [
        TableReport("empty", "equal", source_rows=0, target_rows=0),
        TableReport("unknown", "not checked", "why", source_rows=5, target_rows=5),
        TableReport("refused", "not mirrored", "why"),
    ]
    text = page([(report(*tables), [Second(1, 0.0, 0), Second(9, 0.0, 0)])])
    found = Structure(text)
    assert "svg" not in found.seen and 'class="bar"' not in text
    assert "in each second: 0/s all the time" in found.text
    rows = TableReport("rows", "equal except rejects", source_rows=10_000, target_rows=9_999, rejected=1)
    assert 'aria-label="9,999 equal, 1 rejected"' in page([(report(rows), [])])


def test_rejected_rows_are_in_the_verdict() -> None:
    rejecting = TableReport(
        "t", "equal except rejects", source_rows=3, target_rows=2, rejected=1,
        source_digest="ab" * 16, target_digest="cd" * 16,
    )  # fmt: skip
    text = page([(report(rejecting), []), (report(rejecting), [])])
    assert "equal except 2 rejected rows (20 rows of 2 sources compared)" in text
    assert '<h1 class="unknown">' in text and "≠" not in text and "cdcdcdcd" in text


def test_all_that_differs_and_how_much_more() -> None:
    """Each column of a row; which Postgres, which mirror, when; and what a repair would have done."""
    columns = (ColumnDifference("name", "a", None), ColumnDifference("n", 1, {"real": "1.0"}))
    table = TableReport(
        "t", "different", source_rows=9, different=2991, examples=(Difference("different", [1], columns),)
    )
    made = replace(
        report(table),
        server=Server("db.example.org", 5432, "app", "public", "17.2"),
        finished_at=86400.0,
        planned=(Planned("t", 0, 2991, 0, "", others=False),),
    )
    text = Structure(page([(made, [])])).text
    for expected in (
        'tdifferent[1]name"a"nulln11.0… and 2,990 more rows of t',
        "Postgres 17.2 at db.example.org:5432, database app, schema public; mirror ",
        "; 1970-01-02 00:00:00 UTC.",
        "t: would change 2,991 rows",
    ):
        assert expected in text


def test_words_are_explained_where_they_stand_and_at_the_foot() -> None:
    table = TableReport("t", "different", "", 9, 9, 1, 1, 1, 1, examples=(Difference("missing", [1]),))
    text = page([(report(table), [Second(1, 0.5, 3), Second(9, 1, 4)])])
    explained = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    pointed = re.findall(r'<abbr title="(.*?)">(.*?)</abbr>', text)
    assert {word for _, word in pointed} == {
        "missing in Postgres", "only in Postgres", "different", "rejected", "position", "digest", "Lag",
    }  # fmt: skip
    assert all(explained[word.lower() if word == "Lag" else word] == meaning for meaning, word in pointed)
