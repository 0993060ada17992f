"""The report: verdicts, exit codes, the JSON contract, the terminal table."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from mirror.cli.parity import render
from mirror.core.positions import Lsn
from mirror.parity.report import Difference, ParityReport, Status, TableReport, verdict_of

EQUAL = TableReport("a", "equal", source_rows=2, target_rows=2, first_lsn=Lsn(1, 2), last_lsn=Lsn(1, 9))
REJECTING = TableReport("[b]", "equal", source_rows=3, target_rows=2, rejected=1)
DIFFERENT = TableReport("c", "different", missing=1, examples=(Difference("different", "[1]", "x", "1", "1.0"),))
UNKNOWN = TableReport("d", "not checked", reason="because")


def report(*tables: TableReport, reason: str = "") -> ParityReport:
    """A report of these tables."""
    verdict: Status = "not checked" if reason else verdict_of(tables)
    return ParityReport("s.db", tables, verdict, reason, seconds=0.5, rows=10, longest_read=0.01)


@pytest.mark.parametrize(
    ("tables", "verdict", "code"),
    [
        ((), "equal", 0),
        ((EQUAL, REJECTING), "equal", 0),
        ((EQUAL, DIFFERENT), "different", 1),
        ((EQUAL, UNKNOWN), "not checked", 2),
        ((DIFFERENT, UNKNOWN), "different", 1),
    ],
)
def test_verdicts(tables: tuple[TableReport, ...], verdict: str, code: int) -> None:
    """A proved difference outweighs an unknown; an unknown outweighs equality."""
    made = report(*tables)
    assert (made.verdict, made.exit_code) == (verdict, code)


def test_a_run_that_broke_off_is_not_checked() -> None:
    """Whatever it had found."""
    made = report(DIFFERENT, reason="gone")
    assert (made.verdict, made.exit_code) == ("not checked", 2)
    assert "gone" in made.headline
    assert any("gone" in step for step in made.next_steps)


def test_json() -> None:
    """The fields and their order are a contract."""
    data = json.loads(report(EQUAL, REJECTING, DIFFERENT).to_json())
    assert list(data) == [
        "version", "source", "verdict", "reason", "moved", "exit_code", "seconds", "rows", "sample", "rows_per_second",
        "rejected", "longest_read_seconds", "tables", "left_out", "next_steps",
    ]  # fmt: skip
    assert data["version"] == 1
    assert data["rows_per_second"] == 20.0
    assert data["tables"][0] == {
        "table": "a", "status": "equal", "reason": "", "source_rows": 2, "target_rows": 2, "missing": 0,
        "extra": 0, "different": 0, "rejected": 0, "seconds": 0.0, "first_lsn": "1:2", "last_lsn": "1:9",
        "source_digest": "", "target_digest": "", "examples": [],
    }  # fmt: skip
    assert data["tables"][2]["examples"] == [
        {"kind": "different", "key": "[1]", "column": "x", "source_value": "1", "target_value": "1.0"}
    ]
    assert [step.split("  ")[0] for step in data["next_steps"]] == [
        "mirror parity s.db --repair",
        "mirror rejects list s.db",
    ]


def test_render() -> None:
    """Names are printed as they are, also with brackets; rejects are in the verdict line."""
    out = io.StringIO()
    render(report(EQUAL, REJECTING, DIFFERENT, UNKNOWN), Console(file=out, width=160))
    text = out.getvalue()
    assert "[b]" in text
    assert "not checked: because" in text
    assert "c [1] x: source 1, Postgres 1.0" in text
    assert "1 row rejected" in text.splitlines()[-4]


def test_render_leaves_out_what_is_zero() -> None:
    """An equal source fits into 80 characters, with its whole names."""
    out = io.StringIO()
    name = "memory_item_categories_by_agent"
    table = TableReport(name, "equal", source_rows=1_000_000, target_rows=1_000_000)
    render(report(table), Console(file=out, width=80))
    assert name in out.getvalue()
    assert "missing" not in out.getvalue()


def test_what_to_do_where_a_repair_did_not_help() -> None:
    """Not the same command again."""
    (step,) = replace(report(DIFFERENT), repaired=True).next_steps
    assert "--repair" not in step and "triggers" in step
