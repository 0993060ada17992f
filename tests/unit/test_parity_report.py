"""The report: verdicts, exit codes, the JSON contract, the terminal table."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import mirror
from mirror.cli.parity_view import broken, render
from mirror.core.positions import Lsn
from mirror.parity.proof import FRESH_SECONDS, LastRun
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

AB, CD = "ab" * 16, "cd" * 16
EQUAL = TableReport(
    "a", "equal", source_rows=2, target_rows=2, first_lsn=Lsn(1, 2), last_lsn=Lsn(1, 9),
    source_digest=AB, target_digest=AB,
)  # fmt: skip
REJECTING = TableReport(
    "[b]", "equal except rejects", source_rows=3, target_rows=2, rejected=1, source_digest=AB, target_digest=CD
)
DIFFERENT = TableReport(
    "c", "different", missing=1, different=1, source_digest=AB, target_digest=CD,
    examples=(
        Difference("missing", [None, "k"]),
        Difference("different", [1], (ColumnDifference("x", 1, {"real": "1.0"}), ColumnDifference("y", "a", None))),
    ),
)  # fmt: skip
UNKNOWN = TableReport("d", "not checked", reason="because")
REFUSED = TableReport("e", "not mirrored", reason="Postgres refuses it: taken", refused=True, next_step="rename it")
SERVER = Server("db.example.org", 5432, "app", "public", "17.2")


def report(*tables: TableReport, reason: str = "") -> ParityReport:
    """A report of these tables."""
    verdict: Status = "not checked" if reason else verdict_of(tables)
    return ParityReport(
        "s.db", tables, verdict, reason, seconds=0.5, rows=10, longest_read=0.01, server=SERVER, finished_at=86400.0
    )


def shown(made: ParityReport, width: int = 160, *, terminal: bool = False) -> str:
    """What is printed; on a terminal without its colours."""
    out = io.StringIO()
    render(made, Console(file=out, width=width, force_terminal=terminal))
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())


@pytest.mark.parametrize(
    ("tables", "verdict", "code", "said"),
    [
        ((), "equal", 0, "equal"),
        ((EQUAL,), "equal", 0, "equal"),
        ((EQUAL, REJECTING), "equal except rejects", 4, "equal except 1 rejected row"),
        ((REJECTING, replace(REJECTING, rejected=2)), "equal except rejects", 4, "equal except 3 rejected rows"),
        ((EQUAL, DIFFERENT), "different", 1, "different: 2 rows in 1 table"),
        ((replace(DIFFERENT, missing=0, different=0),), "different", 1, "different: 1 table"),
        ((EQUAL, UNKNOWN), "not checked", 2, "not checked"),
        ((DIFFERENT, UNKNOWN), "different", 1, "different: 2 rows in 1 table"),
        ((REJECTING, UNKNOWN), "not checked", 2, "not checked"),
        ((REFUSED, REFUSED), "not mirrored", 1, "not mirrored: 2 tables"),
        ((REFUSED, DIFFERENT), "different", 1, "different: 2 rows in 1 table"),
        ((REFUSED, UNKNOWN), "not checked", 2, "not checked"),
        ((REFUSED, REJECTING), "not mirrored", 1, "not mirrored: 1 table"),
    ],
)
def test_verdicts(tables: tuple[TableReport, ...], verdict: str, code: int, said: str) -> None:
    """A proved difference outweighs an unknown; an unknown what Postgres does not hold; that outweighs equality."""
    made = report(*tables)
    assert (made.verdict, made.exit_code, made.said) == (verdict, code, said)
    assert made.headline.startswith(said)


def test_a_run_that_broke_off_is_not_checked() -> None:
    """Whatever it had found."""
    made = report(DIFFERENT, reason="gone")
    assert (made.verdict, made.exit_code) == ("not checked", 2)
    assert "gone" in made.headline
    assert any("gone" in step for step in made.next_steps)


@pytest.mark.parametrize(
    ("verdict", "proof"),
    [
        ("equal", "verified"),
        ("equal except rejects", "verified except rejects"),
        ("not mirrored", "not mirrored"),
        ("different", "different"),
        ("not checked", "not checked"),
    ],
)
def test_the_proof_is_no_better_than_the_verdict(verdict: Status, proof: str) -> None:
    """And what is equal gets old."""
    last = LastRun(verdict, 1000.0, 1, "")
    assert last.proof(1000.0) == proof
    assert last.proof(1000.0 + FRESH_SECONDS) == (proof if proof in ("different", "not checked") else "stale")


def test_json() -> None:
    """The fields and their order are a contract."""
    data = json.loads(report(EQUAL, REJECTING, DIFFERENT, UNKNOWN).to_json())
    assert list(data) == [
        "version", "source", "verdict", "reason", "moved", "exit_code", "seconds", "rows", "sample", "rows_per_second",
        "rejected", "longest_read_seconds", "tables", "left_out", "next_steps", "finished_at", "mirror_version",
        "postgres", "would_write", "lost",
    ]  # fmt: skip
    assert (data["version"], data["verdict"], data["would_write"]) == (2, "different", None)
    assert (data["rows_per_second"], data["finished_at"], data["mirror_version"]) == (20.0, 86400.0, mirror.__version__)
    assert data["postgres"] == {
        "host": "db.example.org", "port": 5432, "database": "app", "schema": "public", "version": "17.2"
    }  # fmt: skip
    assert data["tables"][0] == {
        "table": "a", "status": "equal", "reason": "", "source_rows": 2, "target_rows": 2, "missing": 0,
        "extra": 0, "different": 0, "rejected": 0, "seconds": 0.0, "first_lsn": "1:2", "last_lsn": "1:9",
        "source_digest": AB, "target_digest": AB, "examples": [], "columns": [],
    }  # fmt: skip
    assert [table["status"] for table in data["tables"]] == [
        "equal",
        "equal_except_rejects",
        "different",
        "not_checked",
    ]
    assert data["tables"][2]["examples"] == [
        {"kind": "missing", "key": [None, "k"], "column": None, "source_value": None, "target_value": None},
        {"kind": "different", "key": [1], "column": "x", "source_value": 1, "target_value": {"real": "1.0"}},
        {"kind": "different", "key": [1], "column": "y", "source_value": "a", "target_value": None},
    ]
    assert [step.split("  ")[0] for step in data["next_steps"]] == [
        "mirror parity s.db --repair --dry-run",
        "mirror parity s.db",
        "mirror rejects list s.db",
    ]


def test_declared_losses() -> None:
    """They are no difference, and said: per column, in the verdict, and as JSON."""
    columns = (
        ColumnReport("id"),
        ColumnReport("rate", (("rounded to 2 places", 65),)),
        ColumnReport("seen", (("without their offset", 1),), different=2),
    )
    equal = report(replace(EQUAL, columns=columns[:2]))
    assert (equal.exit_code, equal.said, equal.lost) == (0, "equal but for 65 declared losses", 65)
    text = shown(equal)
    assert "  a: rate: equal but for 65 values rounded to 2 places\n" in text and "a: id" not in text
    assert equal.to_dict()["tables"][0]["columns"] == [
        {"column": "id", "verdict": "equal", "lost": 0, "losses": [], "different": 0},
        {
            "column": "rate", "verdict": "equal_but_for_loss", "lost": 65,
            "losses": [{"how": "rounded to 2 places", "values": 65}], "different": 0,
        },
    ]  # fmt: skip
    different = report(replace(DIFFERENT, columns=columns))
    assert ", 66 declared losses in 0.50 s" in different.headline and different.exit_code == 1
    assert "  c: seen: different in 2 rows; declared losses: 1 value without their offset\n" in shown(different)


def test_where_others_have_written_the_step_is_the_one_that_works() -> None:
    made = replace(report(DIFFERENT), others_wrote=True)
    assert made.next_steps[0].startswith("mirror parity s.db --repair --replace-rows --dry-run  # ")


def test_what_a_repair_would_write() -> None:
    plan = (
        Planned("c", 1, 2, 0, "", others=True),
        Planned("d", 0, 0, 0, "its key was altered", others=False),
        Planned("e", 0, 0, 0, "", others=False, narrow=("n",)),
    )
    made = replace(report(DIFFERENT), planned=plan)
    assert [each["insert"] for each in made.to_dict()["would_write"]] == [1, 0, 0]
    text = shown(made)
    assert "  e: would write nothing, and give n a narrower type if all values fit it\n" in text
    assert "  c: would insert 1 row, change 2 rows; others have written there: only with --replace-rows\n" in text
    assert "  d: would send the whole table again (its key was altered)\n" in text and "nothing was written" in text


def test_render() -> None:
    """Names are printed as they are, also with brackets; rejects are in the verdict line."""
    text = shown(report(EQUAL, REJECTING, DIFFERENT, UNKNOWN))
    assert "[b]" in text
    assert "  d: because\n" in text
    assert '  missing in Postgres: c [null, "k"]\n' in text
    assert '  different: c [1]\n    x: source 1, Postgres 1.0\n    y: source "a", Postgres null\n' in text
    assert "1 row rejected" in text.splitlines()[-5]
    assert text.splitlines()[-4] == (
        "Postgres 17.2 at db.example.org:5432, database app, schema public; mirror "
        f"{mirror.__version__}; 1970-01-02 00:00:00 UTC"
    )


def test_one_digest_beside_what_is_equal() -> None:
    """Two only where rows differ."""
    lines = {line.split()[0]: line for line in shown(report(EQUAL, REJECTING, DIFFERENT)).splitlines() if line.strip()}
    assert lines["a"].endswith(" abababab ") and "≠" not in lines["[b]"] and lines["[b]"].endswith(" cdcdcdcd ")
    assert lines["c"].endswith(" abababab ≠ cdcdcdcd ")


def test_how_many_more() -> None:
    table = replace(DIFFERENT, different=2991, missing=1)
    assert "  … and 2,990 more rows of c\n" in shown(report(table))
    assert "more row" not in shown(report(DIFFERENT))


def test_a_moved_source_and_one_that_was_not_reached() -> None:
    moved = replace(report(), moved="it was moved", tables=())
    assert "equal: it was moved" in shown(moved) and "table" not in shown(moved)
    assert "Postgres was not reached" in shown(replace(report(reason="gone"), server=None))


def test_eighty_columns() -> None:
    """No line is wider, no word is broken but a name after an underscore, and what is left out is said."""
    long = "memory_item_categories_by_agent_and_team"
    tables = (
        replace(EQUAL, table=long, source_rows=1_000_000, target_rows=1_000_000),
        replace(REJECTING, table="order_items", rejected=12_000),
        replace(DIFFERENT, extra=700, reason="a sentence that goes on and on " * 4),
    )
    text = shown(report(*tables), 80, terminal=True)
    lines = [line for line in text.splitlines() if not line.startswith("next:")]
    assert max(map(len, lines)) <= 80, text
    words = set(re.findall(r"\S+", text))
    assert {"order_items", "1,000,000", "missing", "rejected", "Postgres", "verdict"} <= words, text
    assert "  order_items: 12,000 rows rejected\n" in text
    assert "  c: 1 row missing in Postgres, 700 rows only in Postgres, 1 row different\n" in text
    assert "not shown for want of room: digests and positions; --json has them" in text
    assert "memory_item_categories_ " in text and " by_agent_and_team " in text
    wide = shown(report(*tables), 200, terminal=True)
    assert long in wide and "want of room" not in wide and "missing in" in wide


def test_render_leaves_out_what_is_zero() -> None:
    """An equal source fits into 80 characters, with its whole names."""
    name = "memory_item_categories_by_agent"
    table = replace(EQUAL, table=name, source_rows=1_000_000, target_rows=1_000_000)
    text = shown(report(table), 80, terminal=True)
    assert f" {name} " in text and "missing" not in text and "different" not in text


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("order_items", ["order_items"]),
        ("memory_item_categories", ["memory_item_", "categories"]),
        ("a" * 30, ["a" * 30]),
        ("_a.b-c d", ["_a.b-c d"]),
    ],
)
def test_a_name_is_broken_after_its_parts(name: str, lines: list[str]) -> None:
    assert broken(name, 14) == lines and "".join(lines) == name


def test_what_to_do_where_a_repair_did_not_help() -> None:
    """Not the same command again."""
    (step,) = replace(report(DIFFERENT), repaired=True).next_steps
    assert "--repair" not in step and "triggers" in step


def test_a_table_that_is_refused_is_not_repaired() -> None:
    assert report(REFUSED).next_steps == ("e: rename it",)


def test_the_command_tells_its_exit_codes() -> None:
    """Four is told in its help."""
    source = (Path(mirror.__file__).parent / "cli" / "parity.py").read_text()
    assert re.search(r"^    4: .*mirror\.rejects", source, re.MULTILINE)
