"""What `mirror up` says at its end: what Postgres has of a source, and what is due."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from mirror.cli.up_end import Due, Given, is_refused, left, psql_command
from mirror.core.errors import SinkError, SourceError, recover
from mirror.core.status import Phase, RefusalReport
from mirror.core.words import RENAME, amount, one_line
from mirror.sidecar.refused import causes, renamings
from mirror.sidecar.status import SourceStatus


def status(**values: Any) -> SourceStatus:
    made = SourceStatus("/data/shop.db", "public")
    made.phase = Phase.STOPPED
    for name, value in values.items():
        setattr(made, name, value)
    return made


ALL = {"applied": "2:5", "captured": "2:5", "caught_up_at": 1.0, "tables": 3, "committed_at": 1_700_000_000.0}


def test_nothing_has_arrived() -> None:
    words, due = left(status(), 2, 5)
    assert due is Due.UP
    assert words.startswith("Postgres has nothing of it yet: the first copy was cut short; it had loaded 2 of 5 tables")
    assert left(status(), 0, 0) == ("Postgres has nothing of it yet", Due.UP)


def test_postgres_never_answered() -> None:
    never = status()
    never.is_interrupted(SinkError("connect to Postgres", "h", "refused", retryable=True))
    assert left(never, 0, 0) == ("Postgres has nothing of it: it could not be reached", Due.POSTGRES)
    missing = status()
    missing.is_interrupted(SourceError("open the source", "/data/shop.db", "no such file", retryable=True))
    assert left(missing, 0, 0)[1] is Due.UP


def test_part_has_arrived() -> None:
    for values in ({"captured": "2:9"}, {"captured": "3:0"}, {"caught_up_at": None}):
        words, due = left(status(**{**ALL, **values}), 0, 0)
        assert due is Due.UP
        assert words.startswith("Postgres has part of it, up to 2023-11-1") and words.endswith("; `mirror up` goes on")
    away = status(**{**ALL, "captured": "2:9"})
    away.is_interrupted(SinkError("apply", "h", "it has ended", retryable=True))
    assert left(away, 0, 0)[1] is Due.POSTGRES


def test_all_has_arrived() -> None:
    words, due = left(status(**ALL, behind_since=5.0), 3, 3)
    assert due is Due.PARITY and words.startswith("Postgres has all of it, up to 2023-11-1")
    assert left(status(**ALL, rejects=1), 3, 3)[0].endswith(", but for 1 row that it cannot hold")
    damaged = [
        RefusalReport(table="a", reason="the file is damaged there (page 3)", next_step=recover(Path("/a b.db")))
    ]
    assert left(status(**ALL, refusals=damaged), 3, 3)[0].endswith(", but for 1 table that is not as in the file")
    (cause,) = causes(damaged, "public")
    assert cause.said == "a: the file is damaged there (page 3)", "it is not Postgres"
    assert "`sqlite3 '/a b.db' .recover | sqlite3 '/a b.db.new'`" in cause.advice("", "")


def test_nothing_is_due() -> None:
    refused = status(**ALL, refusals=[RefusalReport(table=name, reason="taken") for name in "abc"])
    assert is_refused(refused) and left(refused, 0, 3) == ("Postgres has none of it", Due.NOTHING)
    assert not is_refused(status(**ALL, refusals=[RefusalReport(table="a", reason="taken")]))
    assert not is_refused(status()), "it has no table yet"
    words, due = left(status(**{**ALL, "phase": Phase.PAUSED, "caught_up_at": None}), 0, 0)
    assert words.startswith("it is paused") and due is Due.NOTHING


def test_what_was_given_is_given_again() -> None:
    params = {"sources": ("a b.db",), "once": True, "until_eof": False, "agent": "maya", "profile": "auto"}
    given = Given.of(params, [Path("/data/a b.db")])
    assert given.once
    assert given.again(" --state-dir '/my state'") == (
        "mirror up '/data/a b.db' --state-dir '/my state' --once --agent maya"
    )
    listed = Given.of({**params, "sources": (), "once": False, "agent": None}, [Path("/data/a.db")])
    assert listed.again("") == "mirror up" and listed.again("", [Path("/x.db")]) == "mirror up /x.db"


@pytest.mark.parametrize(
    ("dsn", "uri"),
    [
        ("host='/s p/postgres' port=5432 user=postgres dbname=postgres", "postgresql:///postgres?host=/s%20p/postgres&user=postgres"),
        ("host=db.example port=6432 user=u password=s3cret dbname=app", "postgresql:///app?host=db.example&port=6432&user=u"),
        ("postgresql://u:s3cret@db.example/app?sslmode=require", "postgresql://u@db.example/app?sslmode=require"),
    ],
)  # fmt: skip
def test_a_command_for_psql(dsn: str, uri: str) -> None:
    assert shlex.split(psql_command(dsn)) == ["psql", uri]


@pytest.mark.parametrize("dsn", ["this is no DSN", "no_such_keyword=1"])
def test_no_command_for_what_is_no_connection_string(dsn: str) -> None:
    assert psql_command(dsn) == ""


def test_the_tables_of_a_file_that_was_moved_are_one_cause() -> None:
    step = f"{RENAME}/old.db /new.db"
    refusals = [
        RefusalReport(table="a", reason="public.a mirrors another source, /old.db", next_step=step, own_schema=True),
        RefusalReport(table="B", reason="public.b mirrors another source, /old.db", next_step=step, own_schema=True),
    ]
    (cause,) = causes(refusals, "public")
    assert cause.named == "2 tables: a, B" and cause.reason == "each mirrors another source, /old.db"
    assert cause.advice(" --state-dir /s", "mirror up /new.db --schema new") == (
        f"if the file was moved: `{step} --state-dir /s`; if it is another one: `mirror up /new.db --schema new`"
    )
    assert renamings(refusals, " --state-dir /s") == [f"{step} --state-dir /s  # if the file was moved"]


def test_several_lines_are_one() -> None:
    text = "port 1 failed: Connection refused\n\tIs the server running\non that host?\n"
    assert one_line(text) == "port 1 failed: Connection refused; Is the server running; on that host?"
    assert one_line("all failures were:\n- a, \n  b. \nc") == "all failures were: - a, b. c"
    assert one_line("") == "" and one_line("as  it\tis") == "as it is"
    assert str(SinkError("connect", "", text, next_step="start it")) == f"connect: {one_line(text)} -- start it"


def test_amounts() -> None:
    assert [amount(number) for number in (1, 999, 10_297_344, 1_500, 3_200_000_000)] == [
        "1 byte", "999 bytes", "10.3 MB", "1.5 kB", "3.2 GB",
    ]  # fmt: skip
