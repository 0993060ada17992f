"""What is news of a source, from what Postgres held before and after: the lines, and what they count."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from loguru import logger
from msgspec.structs import replace

from mirror.core.errors import SinkError, SourceError
from mirror.core.rows import SchemaChange
from mirror.core.status import EventsReport, OutageReport, StatusReport, WideningReport, without_rows
from mirror.core.tables import ANY_TEXT, Column, Table
from mirror.postgres.history import continued, of_made
from mirror.postgres.ledger import Gap
from mirror.postgres.refusals import Moved, Refusal
from mirror.postgres.signals import Seen
from mirror.postgres.target import Target, TargetColumn, Widening
from mirror.sidecar.news import (
    Held,
    News,
    Steps,
    added,
    compared,
    gap_report,
    news,
    stands,
    widenings,
)
from mirror.sidecar.source_folder import SourceTask
from mirror.sidecar.status import SourceStatus
from mirror.sidecar.told import Told

STEPS = Steps("mirror rejects list a.db", "mirror rejects retry a.db", "mirror status a.db")


def target(name: str, *columns: str | TargetColumn) -> Target:
    held = [TargetColumn(each, each, "bigint") if isinstance(each, str) else each for each in columns]
    return Target(name, "public", name, tuple(held), ("id",))


def held(*targets: Target, rejects: dict[str, int] | None = None, refused: tuple[str, ...] = ()) -> Held:
    refusals = {name: Refusal(name, "why", "do") for name in refused}
    return Held({each.source: each for each in targets}, refusals, rejects or {})


def table(name: str, *columns: str) -> Table:
    return Table(name, 2, tuple(Column(each, "", "BLOB") for each in columns), (), None, False, ())


def texts(before: Held, after: Held, *changes: SchemaChange, moved: tuple[Moved, ...] = ()) -> list[str]:
    return [f"{each.level} {each.text}" for each in news(before, after, changes, moved, steps=STEPS)]


def wide(name: str, key: str = "[7]") -> TargetColumn:
    return TargetColumn(name, name, "jsonb", widened=Widening(0.0, "bigint", "a text", "'secret'", key))


def test_what_stays_is_no_news() -> None:
    same = held(target("t", "id", wide("v")), rejects={"t": 3}, refused=("u",))
    assert texts(same, same) == []


def test_names_that_two_tables_exchange() -> None:
    """They are renamed, and neither is dropped or new; nor are columns."""
    before = held(target("a", "id", "x"), target("b", "id", "y"))
    after = held(target("b", "id", "x"), target("a", "id", "y"))
    one = SchemaChange("rename", table("a", "id", "x"), table("b", "id", "x"))
    other = SchemaChange("rename", table("b", "id", "y"), table("a", "id", "y"))
    assert texts(before, after, one, other) == ["INFO 2 tables renamed: a is b now, b is a now"]


def test_all_that_one_change_of_columns_does() -> None:
    change = SchemaChange("columns", table("a", "id", "x", "y"), table("b", "id", "z", "new"), (0, 1, None))
    assert texts(held(target("a", "id", "x", "y")), held(target("b", "id", "z", "new")), change) == [
        "INFO table renamed: a is b now",
        "INFO column renamed: b.x is z now",
        "INFO new column: b.new",
        "INFO column dropped in SQLite: b.y",
    ]


def test_a_renamed_table_keeps_what_it_was_told_of() -> None:
    """Its rejects, its refusal and its widened columns are no news."""
    before = held(target("a", "id", wide("v")), rejects={"a": 2}, refused=("r",))
    after = held(target("b", "id", wide("v")), rejects={"b": 2}, refused=("s",))
    changes = (
        SchemaChange("rename", table("a", "id", "v"), table("b", "id", "v")),
        SchemaChange("rename", table("r"), table("s")),
    )
    assert texts(before, after, *changes) == ["INFO 2 tables renamed: a is b now, r is s now"]


def test_a_dropped_table_takes_its_rejects_with_it() -> None:
    (line,) = texts(held(target("a", "id"), rejects={"a": 2}), held())
    assert line.startswith("INFO table dropped in SQLite")


@pytest.mark.parametrize(
    ("key", "said"), [("[7]", ", key 7"), ("[7,8]", ", key 7, 8"), ('["secret"]', ""), ('{"rowid":1}', ""), ("", "")]
)
def test_the_log_shows_nothing_of_rows_but_numbers_of_keys(key: str, said: str) -> None:
    (line,) = texts(held(target("t", "id", "v")), held(target("t", "id", wide("v", key))))
    assert line.startswith(f"WARNING 1 column widened to jsonb: t.v (was bigint, a text does not fit{said}); ")
    assert "secret" not in line


def test_a_column_that_is_widened_is_not_of_another_type_besides() -> None:
    """Nor is one that is narrow again, or escaped."""
    escaped = TargetColumn("s", "s", *ANY_TEXT)
    before = held(target("t", "id", "v", wide("w"), TargetColumn("s", "s", "text")))
    after = held(target("t", "id", wide("v"), "w", escaped))
    found = texts(before, after)
    assert [line.partition(":")[0] for line in found] == [
        "WARNING 1 column widened to jsonb",
        "INFO 1 column narrow again, as all values fit",
        "INFO text that Postgres cannot hold as it is (with NUL, or not valid) is shown without that, and kept whole in"
        " _original",
    ]
    assert texts(held(target("t", "v")), held(target("t", TargetColumn("v", "v", "text")))) == [
        "INFO 1 column of another type: t.v is text now, and was bigint"
    ]


def test_rejects_by_their_numbers_alone() -> None:
    """Where a transaction did not say what it did to them: a whole copy, or one of which no answer came."""
    t = target("t", "id")
    list_them = "`mirror rejects list a.db`"
    assert texts(held(t), held(t, rejects={"t": 2})) == [
        f"WARNING 2 rows rejected, as Postgres cannot hold them: t; {list_them}"
    ]
    assert texts(held(t, rejects={"t": 2}), held(t, rejects={"t": 1})) == [
        "INFO 1 row rejected no more: t: in Postgres now, or deleted in SQLite"
    ]
    long = json.dumps(["x" * 50, {"blob": "AP8="}, 7])
    known = (Moved("t", 1, 0, 0, "v: NUL", long),)
    assert texts(held(t), held(t, rejects={"t": 1}), moved=known) == [
        f"WARNING 1 row rejected, as Postgres cannot hold it: t, key '{'x' * 40}'..., x'00ff', 7: v: NUL; {list_them}"
    ]
    moved = (Moved("t", 5, 0, 0, "v: NUL"),)  # of a transaction that is not the only one since
    assert texts(held(t), held(t, rejects={"t": 2}), moved=moved) == [
        f"WARNING 2 rows rejected, as Postgres cannot hold them: t: the first one: v: NUL; {list_them}"
    ]


def test_what_stands_at_a_start() -> None:
    """As no news where the mirror before has told of it, or nothing is known of one; else as news."""
    there = held(target("t", "id", wide("v")), rejects={"t": 2}, refused=("u",))
    since = datetime.fromtimestamp(0, UTC).strftime("%Y-%m-%d %H:%M UTC")
    both = News(
        "INFO",
        "as before: 2 rows that Postgres cannot hold (t), 1 column widened to jsonb"
        f" (t.v since {since}); `mirror status a.db` shows more",
    )
    assert stands(there, STEPS, rejects=2, widened=["t.v"]) == [both]
    assert stands(there, STEPS, rejects=None, widened=[]) == [both]
    said = stands(there, STEPS, rejects=0, widened=[])
    assert [each.text.partition(",")[0] for each in said] == [
        "2 rows rejected",
        "1 column widened to jsonb: t.v (was bigint",
    ]
    assert stands(Held(), STEPS, rejects=None, widened=[]) == []


def test_counts_add_up() -> None:
    said = [News("INFO", "", {"tables_added": 2}), News("INFO", ""), News("INFO", "", {"tables_added": 1})]
    assert added(EventsReport(tables_added=1, rows_back=5), said) == EventsReport(tables_added=4, rows_back=5)


def test_what_is_known_of_widened_columns_goes_to_those_who_may_read_the_database() -> None:
    found = widenings(["t.v", "t.old"], {"t": target("t", wide("v"), TargetColumn("old", "old", "jsonb"))})
    known = WideningReport(column="t.v", since=0.0, was="bigint", kind="a text", value="'secret'", key="[7]")
    assert found == [known, WideningReport(column="t.old")]
    report = without_rows(StatusReport(source="/a.db", schema="public", widenings=found))
    assert report.widenings[0] == replace(known, value="", key="")


def test_how_a_column_came_to_be_jsonb_is_kept() -> None:
    """As long as it is jsonb, whatever else becomes of its table."""
    plain, any_value = target("t", "id", "v"), target("t", "id", TargetColumn("v", "v", "jsonb"))
    misfits = {("t", "v"): Seen("a text", "'x'", "[1]")}
    first = continued(any_value, plain, misfits)
    (_, column) = first.columns
    assert column.widened is not None
    assert (column.widened.was, column.widened.value, column.widened.key) == ("bigint", "'x'", "[1]")
    assert continued(any_value, first, {}).columns[1].widened == column.widened
    assert continued(plain.with_types({}), first, {}).columns[1].widened is None
    declared = {each.source: each.type for each in plain.columns}
    assert of_made(any_value, declared, first, {}).columns[1].widened == column.widened
    made = of_made(any_value, declared, None, {}).columns[1].widened
    assert made is not None and (made.was, made.kind) == ("bigint", "")
    assert of_made(any_value, {each.source: each.type for each in any_value.columns}, None, {}) == any_value
    # Of one that is declared so, nothing is kept.
    assert continued(any_value, any_value, {}).columns[1].widened is None


def test_a_gap_for_the_status() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert gap_report(Gap(1, "why", at, None)).healed is False
    healed = gap_report(Gap(1, "why", at, at, 214, 0.1))
    assert (healed.healed, healed.rows, healed.seconds, healed.at) == (True, 214, 0.1, "2026-01-02T03:04:05+00:00")


def test_the_line_of_a_comparison() -> None:
    assert compared(10_000_000, 0.1, 214, away=8.0, reason="it was away", changed=True) == (
        "caught up after 8.0 s away: compared the file (10.0 MB, 100 ms), 214 rows sent. Nothing was lost"
    )
    assert compared(4096, 0.01, 1, away=None, reason="the WAL was reset", changed=True) == (
        "caught up: compared the file (4.1 kB, 10 ms), as the WAL was reset; 1 row sent. Nothing was lost"
    )
    assert compared(4096, 1.0, 0, away=7200.0, reason="why", changed=False) == (
        "caught up after 2 h away: compared the file (4.1 kB, 1.0 s), and nothing had changed"
    )


class Teller:
    """A source's teller, and what it says."""

    def __init__(self, folder: Path) -> None:
        task = SourceTask(folder / "a.db", folder / "state", "", "public")
        self.status = SourceStatus(str(task.database), "public")
        self.told = Told(task, self.status)
        self.said: list[str] = []
        self.sources: set[object] = set()

    def __call__(self, message: object) -> None:
        record = message.record  # type: ignore[attr-defined]
        self.said.append(f"{record['level'].name} {record['message']}")
        self.sources.add(record["extra"].get("source"))

    def fails(self, error: SinkError | SourceError) -> None:
        self.told.is_interrupted(error)
        self.status.is_interrupted(error)

    def follows(self, why: str | None = None) -> None:
        self.status.has_caught_up(why)
        self.told.follows()


def test_an_interruption_is_two_lines(tmp_path: Path) -> None:
    """However often it is tried; another reason is said once. A wait that capture has told of ends with a line."""
    teller = Teller(tmp_path)
    number = logger.add(teller, format="{message}")
    try:
        away = SinkError("connect to Postgres", "host", "refused", retryable=True)
        for detail in ("refused", "starting up", "refused", "starting up"):
            teller.fails(SinkError("connect to Postgres", "host", detail, retryable=True))
        teller.follows()
        teller.follows()
        teller.fails(SourceError("follow the source", "a.db", "gone", retryable=True))
        teller.follows()
        teller.follows("the index cannot be read")
        teller.follows()
        teller.fails(SinkError("load", "host", "for good", retryable=False))  # told where it ends
    finally:
        logger.remove(number)
    assert teller.said[:2] == [
        f"WARNING a.db: waits for Postgres: {away}",
        "INFO a.db: still not: connect to Postgres (host): starting up",
    ]
    assert teller.said[2].startswith("INFO a.db: connected again after ")
    assert teller.said[2].endswith(" (tried 4 times), caught up")
    assert teller.said[3] == "WARNING a.db: follow the source (a.db): gone"
    assert [line.partition(" after ")[0] for line in teller.said[4:]] == ["INFO a.db: goes on"] * 2
    assert teller.sources == {str(tmp_path / "a.db")}
    outage = teller.status.outage
    assert isinstance(outage, OutageReport) and outage.ended_at is not None and not outage.postgres
    assert teller.status.events == EventsReport(reconnections=1)


def test_another_kind_of_error_is_another_warning(tmp_path: Path) -> None:
    teller = Teller(tmp_path)
    number = logger.add(teller, format="{message}")
    try:
        teller.fails(SourceError("follow the source", "a.db", "gone", retryable=True))
        teller.fails(SinkError("connect to Postgres", "host", "refused", retryable=True))
        teller.follows()
    finally:
        logger.remove(number)
    assert [line.partition(":")[0].split()[0] for line in teller.said] == ["WARNING", "WARNING", "INFO"]
    assert "waits for Postgres: " in teller.said[1] and "connected again" in teller.said[2]
