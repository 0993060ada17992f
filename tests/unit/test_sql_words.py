"""What is read from the text of a schema: judged by what SQLite itself does with it."""

from __future__ import annotations

import apsw
import pytest

from mirror.core.sql_words import condition_of, deferred_keys, hides_conflicts, tokens, written

#: One foreign key for each column of ``c``, in this order, by which the child rows below tell them apart.
TABLES = [
    "CREATE TABLE c(a REFERENCES p)",
    "CREATE TABLE c(a REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE c(a REFERENCES p deferrable/**/initially--\nDeferred, b REFERENCES p DEFERRABLE)",
    "CREATE TABLE c(a REFERENCES p NOT DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE c(a REFERENCES p ON DELETE CASCADE UNIQUE DEFAULT 'x' DEFERRABLE INITIALLY DEFERRED, b REFERENCES p)",
    "CREATE TABLE c(a REFERENCES p NOT NULL DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE c(a REFERENCES p DEFERRABLE INITIALLY IMMEDIATE DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE c(a REFERENCES p DEFERRABLE INITIALLY DEFERRED NOT DEFERRABLE)",
    "CREATE TABLE c(a REFERENCES p DEFERRABLE INITIALLY DEFERRED CHECK (a IS NOT 'REFERENCES p'), b REFERENCES \"p\")",
    "CREATE TABLE c(a 'DEFERRABLE' REFERENCES [p] -- DEFERRABLE INITIALLY DEFERRED\n, b /* ' */ REFERENCES `p`)",
    'CREATE TABLE c(a, b, FOREIGN KEY (a) REFERENCES p DEFERRABLE INITIALLY DEFERRED, CONSTRAINT "x"""'
    " FOREIGN KEY (b) REFERENCES p(id) MATCH SIMPLE ON UPDATE SET NULL)",
    "CREATE TABLE c(a REFERENCES p, b, initially, FOREIGN KEY (b) REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE c(a é$ DEFAULT (x'00') REFERENCES p(id), b DEFAULT 1e5 REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
]


def is_deferred(database: apsw.Connection, column: str) -> bool:
    """Whether SQLite takes an orphan until the transaction ends."""
    database.execute("SAVEPOINT s")
    try:
        others = database.execute("SELECT count(*) FROM pragma_table_info('c') WHERE name = 'b'").get
        other = ", b" if others and column == "a" else ", a" if column == "b" else ""
        database.execute(f"INSERT INTO c({column}{other}) VALUES (99{', 1' if other else ''})")
    except apsw.ConstraintError:
        return False
    finally:
        database.execute("ROLLBACK TO s; RELEASE s")
    return True


@pytest.mark.parametrize("statement", TABLES)
def test_deferred_as_sqlite_defers(statement: str) -> None:
    database = apsw.Connection(":memory:")
    database.execute("PRAGMA foreign_keys=ON; CREATE TABLE p(id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1); BEGIN")
    database.execute(statement)
    (stored,) = database.execute("SELECT sql FROM sqlite_schema WHERE name = 'c'").fetchall()[0]
    # SQLite lists the last one first.
    keys = [
        column for (column,) in database.execute("SELECT \"from\" FROM pragma_foreign_key_list('c') ORDER BY id DESC")
    ]
    assert deferred_keys(stored) == [is_deferred(database, str(column)) for column in keys]


@pytest.mark.parametrize(
    ("statement", "condition"),
    [
        ("CREATE INDEX i ON t(a)", ""),
        ("CREATE INDEX i ON t(a) WHERE a = 'WHERE'", "a = 'WHERE'"),
        ('CREATE INDEX "WHERE" ON [WHERE] (a, ("WHERE" || 1)) where -- x\n(a IS /* y */ NULL)', "(a IS NULL)"),
    ],
)
def test_the_condition_of_an_index(statement: str, condition: str) -> None:
    assert written(condition_of(statement)) == condition


def test_names_without_quotes() -> None:
    text = "\"a\"\"b\" `c``d` [e]f 'g''h' é=="
    assert [token.value for token in tokens(text)] == ['a"b', "c`d", "e", "f", "g'h", "é", "=="]


def test_conflicts_that_are_hidden() -> None:
    assert hides_conflicts("CREATE TABLE t(a UNIQUE ON CONFLICT /**/ replace)")
    assert not hides_conflicts("CREATE TABLE t(a UNIQUE ON CONFLICT FAIL, b DEFAULT 'ON CONFLICT IGNORE')")
