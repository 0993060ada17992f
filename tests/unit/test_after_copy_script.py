"""The SQL of ``mirror adopt --after-copy``: what is read of a file, and which is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mirror.core.errors import ConfigError
from mirror.postgres.adopted.script import LARGEST, read_script


def read(folder: Path, data: bytes | str) -> str:
    path = folder / "after.sql"
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return read_script(path)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "-- COMMIT\n/* BEGIN; /* COMMIT; */ ROLLBACK; */ SELECT 1 AS \"COMMIT\", '; COMMIT', $$; COMMIT$$;",
        "SELECT E'\\'; COMMIT; \\\\', U&'\\0041', $a$ $$ ; COMMIT; \\ $a$",
        "PREPARE one AS SELECT 1; EXECUTE one",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END; SELECT 3",
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "SELECT a$b FROM t; (SELECT 1)",
    ],
)
def test_what_is_taken(folder: Path, text: str) -> None:
    assert read(folder, text) == text
    assert read(folder, b"\xef\xbb\xbf" + text.encode()) == text, "without a mark of its encoding"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("SELECT 1;\n\n commit ;", "line 3 begins or ends a transaction: COMMIT"),
        ("/* a\n*/ begin; SELECT 1", "line 2 begins or ends a transaction: BEGIN"),
        ("START TRANSACTION", "START TRANSACTION"),
        ("SELECT CASE WHEN true THEN 1 END; END", "line 1 begins or ends a transaction: END"),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END; ROLLBACK", "ROLLBACK"),
        ("SAVEPOINT a", "SAVEPOINT"),
        ("PREPARE TRANSACTION 'a'", "PREPARE TRANSACTION"),
        ("SELECT 1 \\gexec", "line 1 has a backslash"),
        ("COPY t FROM stdin;\n1\n\\.\n", "line 3 has a backslash"),
        ("", "there is no statement in it"),
        (" ; -- nothing\n ;", "there is no statement in it"),
        (b"SELECT '\xff'", "it is not UTF-8: byte 8 is 0xff"),
        ("SELECT '\0'", "it has a NUL"),
        (b" " * (LARGEST + 1), "it is larger than 1 MiB"),
    ],
)
def test_what_is_refused(folder: Path, data: bytes | str, why: str) -> None:
    with pytest.raises(ConfigError, match="read the SQL") as error:
        read(folder, data)
    assert why in error.value.detail


def test_a_file_that_is_not_there(folder: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_script(folder / "nowhere.sql")
    with pytest.raises(ConfigError, match="directory"):
        read_script(folder)
