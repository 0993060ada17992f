"""A comparison as one HTML page that loads nothing: no script, no font, no picture.

The verdict is at the top; then each source's tables with bars, the rows that differ, both values side by side, and its
lag and throughput of the last minutes; at the foot what the words mean. All text from a database is escaped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from mirror.core.words import counted
from mirror.parity.report import KINDS, Difference, ParityReport, Status, TableReport, verdict_of
from mirror.parity.shown import said

_WIDTH, _HEIGHT = 640, 100
_CLASSES: dict[Status, str] = {
    "equal": "equal",
    "equal except rejects": "unknown",
    "different": "different",
    "not mirrored": "different",
    "not checked": "unknown",
}
#: What the words of the page mean, one short line each.
_WORDS = {
    "equal": "every value of every row is the same in SQLite and in Postgres, to the bit",
    "equal except rejected rows": "so is every row that Postgres can hold",
    "not mirrored": "Postgres refuses the table, and has nothing of it",
    "not checked": "nothing is known: it could not be compared, for the reason that is given",
    "missing in Postgres": "only SQLite has the row",
    "only in Postgres": "SQLite has no such row: another program has written it, or it was not deleted there",
    "different": "both have the row, with other values",
    "declared loss": "a value that the application's own column takes, and does not give back as SQLite has it:"
    " the adoption has said so",
    "rejected": "a row that Postgres cannot hold; it is kept whole in the table mirror.rejects (mirror rejects list)",
    "position": "the commits at which the table was compared, as generation:frame of SQLite's write-ahead log:"
    " later commits have larger ones",
    "digest": "a short mark of all rows: two comparisons that show the same one have seen the same rows",
    "lag": "for how long a commit of SQLite was not in Postgres yet",
}
#: The columns of counts, by their names in the report.
_COUNTS = KINDS | {"rejected": "rejected"}


@dataclass(frozen=True, slots=True)
class Second:
    """What the mirror did in one second of the last minutes."""

    at: int
    """Seconds since the epoch."""
    lag: float
    """The longest, in seconds."""
    transactions: int
    """How many were committed in Postgres."""


def page(reports: Sequence[tuple[ParityReport, Sequence[Second]]]) -> str:
    """The whole page; ``reports``: each with what the mirror did in the last minutes, the oldest second first."""
    verdict = verdict_of(tuple(TableReport(report.source, report.verdict) for report, _ in reports))
    rows = counted(sum(report.rows for report, _ in reports), "row")
    rejected = counted(sum(report.rejected for report, _ in reports), "rejected row")
    word = f"equal except {rejected}" if verdict == "equal except rejects" else verdict
    title = f"{word} ({rows} of {counted(len(reports), 'source')} compared)"
    body = "".join(_source(report, history) for report, history in reports)
    style = files("mirror.parity").joinpath("report.css").read_text()
    meanings = "".join(f"<dt>{word}</dt><dd>{escape(meaning)}</dd>" for word, meaning in _WORDS.items())
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>parity: {word}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        f'<body><h1 class="{_CLASSES[verdict]}"><span class="mark">{title}</span></h1>{body}'
        f"<footer><h2>What the words mean</h2><dl>{meanings}</dl></footer></body></html>\n"
    )


def _source(report: ParityReport, history: Sequence[Second]) -> str:
    steps = "".join(f"<li><code>{_command(step)}</code></li>" for step in report.next_steps)
    planned = "".join(f"<li>{escape(each.said)}</li>" for each in report.planned or ())
    return (
        f'<section class="{_CLASSES[report.verdict]}"><h2>{escape(report.source)}</h2>'
        f'<p class="mark">{escape(report.headline)}</p>'
        f"<p>Every value compared with {escape(report.told)}.</p>"
        + (f"<p>Next:</p><ul>{steps}</ul>" if steps else "")
        + (f"<p>A repair was not carried out; it would have written:</p><ul>{planned}</ul>" if planned else "")
        + _tables(report)
        + _differences(report)
        + _history(history)
        + f"<p>The longest read transaction on the source took {report.longest_read * 1000:.0f} ms.</p></section>"
    )


def _command(text: str) -> str:
    """A command, each of its words in an element of its own: a line is broken between them, not after a hyphen."""
    return " ".join(f"<span>{escape(word)}</span>" for word in text.split(" "))


def _abbr(word: str, shown: str = "") -> str:
    """A word with what it means, for those who point at it."""
    return f'<abbr title="{escape(_WORDS[word])}">{shown or word}</abbr>'


def _tables(report: ParityReport) -> str:
    if not report.tables:
        return ""
    counts = [name for name in _COUNTS if any(getattr(table, name) for table in report.tables)]
    names = ("in SQLite", "in Postgres", *(_abbr(_COUNTS[name]) for name in counts))
    heads = "".join(f'<th class="number">{name}</th>' for name in names)
    heads += f'<th class="number">seconds</th><th>{_abbr("position")}</th><th>{_abbr("digest")}</th>'
    rows = []
    for table in report.tables:
        numbers = (table.source_rows, table.target_rows, *(getattr(table, name) for name in counts))
        cells = "".join(f'<td class="number">{"" if number is None else f"{number:,}"}</td>' for number in numbers)
        places = dict.fromkeys(str(lsn) for lsn in (table.first_lsn, table.last_lsn) if lsn is not None)
        cells += f'<td class="number">{table.seconds:.2f}</td><td class="line">{" – ".join(places)}</td>'
        cells += f'<td class="line code">{table.digest}</td>'
        said_ = filter(None, (table.reason, *(column.said for column in table.columns)))
        reason = "".join(f'<tr><td></td><td colspan="{7 + len(counts)}">{escape(each)}</td></tr>' for each in said_)
        rows.append(
            f'<tr class="{_CLASSES[table.status]}"><td class="key">{escape(table.table)}</td>'
            f'<td class="mark line">{table.status}</td><td>{_bar(table)}</td>{cells}</tr>{reason}'
        )
    table_ = f"<table><tr><th>table</th><th>verdict</th><th>rows</th>{heads}</tr>{''.join(rows)}</table>"
    return f'<div class="wide" role="region" aria-label="tables" tabindex="0">{table_}</div>'


def _bar(table: TableReport) -> str:
    """Equal rows, then rows that differ, then rows that Postgres cannot hold, by their share; none without rows."""
    whole = (table.source_rows or 0) + table.extra
    if not whole or table.status == "not checked":
        return ""
    parts = (
        ("i", whole - table.wrong - table.rejected, "equal"),
        ("b", table.wrong, "different"),
        ("u", table.rejected, "rejected"),
    )
    said_ = ", ".join(f"{number:,} {word}" for _, number, word in parts if number > 0)
    # A part is at least 3 pixels wide, however small its share.
    drawn = "".join(
        f'<{tag} style="width:max({100 * number / whole:.2f}%,3px)"></{tag}>' for tag, number, _ in parts if number > 0
    )
    return f'<div class="bar" role="img" aria-label="{said_}" title="{said_}">{drawn}</div>'


def _differences(report: ParityReport) -> str:
    rows = "".join(_rows(table) for table in report.tables)
    if not rows:
        return ""
    heads = "".join(f"<th>{name}</th>" for name in ("table", "row", "key", "column", "in SQLite", "in Postgres"))
    return (
        '<h3>Rows that differ</h3><div class="wide" role="region" aria-label="rows that differ" tabindex="0">'
        f"<table><tr>{heads}</tr>{rows}</table></div>"
    )


def _rows(table: TableReport) -> str:
    """The rows that are kept as examples, a line for each column that differs; and how many there are besides."""
    rows = "".join(_row(table.table, example) for example in table.examples)
    if rows and table.more:
        more = f"… and {counted(table.more, 'more row', 'more rows')} of {escape(table.table)}"
        rows += f'<tr><td colspan="6">{more}</td></tr>'
    return rows


def _row(table: str, example: Difference) -> str:
    head = (
        f'<td class="key">{escape(table)}</td><td class="line">{_abbr(KINDS[example.kind])}</td>'
        f'<td class="key"><code>{escape(example.named)}</code></td>'
    )
    if not example.columns:
        return f'<tr>{head}<td colspan="3"></td></tr>'
    lines = []
    for one in example.columns:
        values = "".join(
            f'<td class="value"><code>{escape(said(value))}</code></td>'
            for value in (one.source_value, one.target_value)
        )
        lines.append(f'<tr>{head}<td class="key">{escape(one.column)}</td>{values}</tr>')
        head = '<td colspan="3"></td>'
    return "".join(lines)


def _history(history: Sequence[Second]) -> str:
    if len(history) < 2:
        return ""
    drawn = _chart(
        f"{_abbr('lag', 'Lag')}: how far Postgres was behind SQLite, the worst of each second",
        history, [second.lag * 1000 for second in history], lambda value: f"{value:,.0f} ms",
    ) + _chart(
        "Transactions of the mirror in Postgres, in each second",
        history, [float(second.transactions) for second in history], lambda value: f"{value:,.0f}/s",
    )  # fmt: skip
    return f"<h3>The last {counted(round((history[-1].at - history[0].at) / 60) or 1, 'minute')}</h3>{drawn}"


def _chart(title: str, history: Sequence[Second], values: Sequence[float], shown: Callable[[float], str]) -> str:
    """A line over time, with both ends of both axes; a sentence where there is nothing to draw."""
    first, last, most = history[0].at, history[-1].at, max(values)
    if not most:
        return f"<figure><figcaption>{title}: {shown(0)} all the time</figcaption></figure>"
    points = " ".join(
        f"{(second.at - first) / max(1, last - first) * _WIDTH:.1f},{_HEIGHT - value / most * (_HEIGHT - 2):.1f}"
        for second, value in zip(history, values, strict=True)
    )
    began, ended = (time.strftime("%H:%M:%S", time.gmtime(at)) for at in (first, last))
    return (
        f'<figure><figcaption>{title}</figcaption><div class="chart"><span class="most">{shown(most)}</span>'
        f'<span class="least">{shown(0)}</span><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none"'
        f' role="img" aria-label="at most {shown(most)}"><polyline points="{points}"/></svg>'
        f'<span class="from">{began}</span><span class="to">{ended} UTC</span></div></figure>'
    )
