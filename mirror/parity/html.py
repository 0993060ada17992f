"""A comparison as one HTML page that loads nothing: no script, no font, no picture.

The verdict is at the top; then each source's tables with bars, the rows that differ, both values side by side, and its
lag and throughput of the last minutes. All text from a database is escaped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mirror.parity.report import ParityReport, Status, TableReport, verdict_of

_WIDTH, _HEIGHT = 640, 120

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --equal: #1a7f37; --different: #c62828; --unknown: #b26a00; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; border-left: .5rem solid var(--mark); padding-left: .8rem; }
h2 { font-size: 1.1rem; margin-top: 2.5rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem; text-align: left; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.equal { --mark: var(--equal); } .different { --mark: var(--different); } .unknown { --mark: var(--unknown); }
td.mark { white-space: nowrap; } td.digest { font-family: monospace; white-space: nowrap; }
.mark { color: var(--mark); font-weight: 600; }
.bar { background: var(--line); height: .7rem; min-width: 8rem; display: flex; margin-top: .4rem; }
.bar i { background: var(--equal); } .bar b { background: var(--different); } .bar u { background: var(--unknown); }
code { overflow-wrap: anywhere; white-space: pre-wrap; }
.wide { overflow-x: auto; }
svg { width: 100%; height: auto; border: 1px solid var(--line); }
"""

_CLASSES: dict[Status, str] = {"equal": "equal", "different": "different", "not checked": "unknown"}


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
    rows = sum(report.rows for report, _ in reports)
    made = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    title = f"{verdict}: {rows:,} rows compared of {len(reports)} source{'s' * (len(reports) != 1)}"
    body = "".join(_source(report, history) for report, history in reports)
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>parity: {verdict}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>'
        f'<body><h1 class="{_CLASSES[verdict]}"><span class="mark">{title}</span></h1>'
        f"<p>Compared value by value at {made}.</p>{body}</body></html>\n"
    )


def _source(report: ParityReport, history: Sequence[Second]) -> str:
    steps = "".join(f"<li><code>{escape(step)}</code></li>" for step in report.next_steps)
    return (
        f'<section class="{_CLASSES[report.verdict]}"><h2>{escape(report.source)}</h2>'
        f'<p class="mark">{escape(report.headline)}</p>'
        + (f"<p>Next:</p><ul>{steps}</ul>" if steps else "")
        + _tables(report)
        + _differences(report)
        + _history(history)
        + f"<p>The longest read transaction on the source took {report.longest_read * 1000:.0f} ms.</p></section>"
    )


def _tables(report: ParityReport) -> str:
    counts = ("missing", "extra", "different", "rejected")
    heads = "".join(f'<th class="number">{name}</th>' for name in ("source", "Postgres", *counts))
    rows = []
    for table in report.tables:
        numbers = (table.source_rows, table.target_rows, *(getattr(table, name) for name in counts))
        cells = "".join(f'<td class="number">{"" if number is None else f"{number:,}"}</td>' for number in numbers)
        digests = dict.fromkeys(digest for digest in (table.source_digest, table.target_digest) if digest)
        places = dict.fromkeys(str(lsn) for lsn in (table.first_lsn, table.last_lsn) if lsn is not None)
        cells += f'<td class="number">{table.seconds:.2f}</td><td>{" – ".join(places)}</td>'
        cells += f'<td class="digest">{" ≠ ".join(digest[:8] for digest in digests)}</td>'
        reason = f'<tr><td></td><td colspan="11">{escape(table.reason)}</td></tr>' if table.reason else ""
        rows.append(
            f'<tr class="{_CLASSES[table.status]}"><td>{escape(table.table)}</td>'
            f'<td class="mark">{table.status}</td><td>{_bar(table)}</td>{cells}</tr>{reason}'
        )
    heads += '<th class="number">seconds</th><th>position</th><th>digests</th>'
    table_ = f"<table><tr><th>table</th><th>verdict</th><th>rows</th>{heads}</tr>{''.join(rows)}</table>"
    return f'<div class="wide">{table_}</div>'


def _bar(table: TableReport) -> str:
    """Equal rows, then rows that differ, then rows that Postgres cannot hold, by their share."""
    wrong = table.missing + table.extra + table.different
    whole = (table.source_rows or 0) + table.extra
    shares = [("i", whole - wrong - table.rejected), ("b", wrong), ("u", table.rejected)]
    if table.status == "not checked":
        shares = []
    # A part is at least 3 pixels wide, however small its share.
    parts = "".join(f'<{tag} style="width:max({100 * n / whole:.2f}%,3px)"></{tag}>' for tag, n in shares if n > 0)
    return f'<div class="bar">{parts}</div>'


def _differences(report: ParityReport) -> str:
    rows = []
    for table in report.tables:
        for example in table.examples:
            values = (example.key, example.column, example.source_value, example.target_value)
            cells = "".join(f"<td><code>{escape(value or '')}</code></td>" for value in values)
            rows.append(f"<tr><td>{escape(table.table)}</td><td>{example.kind}</td>{cells}</tr>")
    if not rows:
        return ""
    heads = "".join(f"<th>{name}</th>" for name in ("table", "kind", "key", "column", "source", "Postgres"))
    return f'<h3>Rows that differ</h3><div class="wide"><table><tr>{heads}</tr>{"".join(rows)}</table></div>'


def _history(history: Sequence[Second]) -> str:
    if len(history) < 2:
        return ""
    lags = _chart("worst lag in ms", history, [second.lag * 1000 for second in history])
    rates = _chart("Postgres transactions a second", history, [float(second.transactions) for second in history])
    return f"<h3>The last minutes</h3>{lags}{rates}"


def _chart(title: str, history: Sequence[Second], values: Sequence[float]) -> str:
    first, span = history[0].at, max(1, history[-1].at - history[0].at)
    most = max(max(values), 1e-9)
    points = " ".join(
        f"{(second.at - first) / span * _WIDTH:.1f},{_HEIGHT - value / most * (_HEIGHT - 20):.1f}"
        for second, value in zip(history, values, strict=True)
    )
    return (
        f'<figure><figcaption>{title}, at most {most:,.1f}, over {span:,} s</figcaption><svg viewBox="0 0 {_WIDTH}'
        f' {_HEIGHT}" role="img" aria-label="{title}"><polyline fill="none" stroke="currentColor" stroke-width="1.5"'
        f' points="{points}"/></svg></figure>'
    )
