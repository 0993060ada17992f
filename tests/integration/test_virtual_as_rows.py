"""Virtual tables of FTS5 and vec0, of which a rule in mirror.json has the data mirrored as rows."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import psycopg
import pytest
import sqlite_vec

from tests.support.commands import CommandLine, stop
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


@pytest.fixture
def vectors(database: Path) -> Iterator[apsw.Connection]:
    """A program that has loaded sqlite-vec."""
    connection = apsw.Connection(str(database))
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    connection.pragma("journal_mode", "wal")
    yield connection
    connection.close()


def rules(folder: Path, *tables: str, **more: Any) -> Path:
    path = folder / "mirror.json"
    path.write_text(json.dumps({"tables": dict.fromkeys(tables, "rows"), **more}))
    return path


def ask(dsn: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(query.encode()).fetchall()


class Following:
    """A mirror that follows, and is compared whenever it is asked."""

    def __init__(self, cli: CommandLine, database: Path, config: Path) -> None:
        self.cli, self.database = cli, database
        self.options = ("--config", config, "--state-dir", cli.state_dir)
        self._up = cli.start("up", database, *self.options)

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *_: object) -> None:
        stop(self._up)

    def applied(self) -> None:
        done = self.cli.run("wait", self.database, "--timeout", LIMIT, *self.options)
        assert done.code == 0, done

    def equal(self) -> str:
        self.applied()
        done = self.cli.run("parity", self.database, *self.options)
        assert done.code == 0, done
        return done.out

    def status(self) -> dict[str, Any]:
        done = self.cli.run("status", self.database, "--json", *self.options)
        report: dict[str, Any] = json.loads(done.out)["sources"][0]
        return report

    def left_out(self) -> bool:
        """Whether the guard rail of the plan is passed."""
        done = self.cli.run("cutover", "plan", self.database, "--json", *self.options)
        (verdict,) = json.loads(done.out)["sources"]
        (rail,) = [each for each in verdict["rails"] if each["name"] == "left out"]
        return bool(rail["passed"])


@pytest.mark.few(1)
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le"])
def test_texts_of_fts5(cli: CommandLine, folder: Path, database: Path, dsn: str, encoding: str) -> None:
    with Writer(database) as writer:
        writer.run(
            f"PRAGMA encoding='{encoding}'",
            "PRAGMA journal_mode=WAL",
            "CREATE TABLE plain(id INTEGER PRIMARY KEY, body TEXT)",
            "CREATE VIRTUAL TABLE docs USING fts5(title, \"the body\", n UNINDEXED, tokenize='porter unicode61')",
            "CREATE VIRTUAL TABLE words USING fts5(body, content='')",
            "CREATE VIRTUAL TABLE other USING fts5(body)",
            "INSERT INTO docs VALUES ('first', 'é \U0001f600', 5), (NULL, 'b', 'c')",
            "INSERT INTO words VALUES ('no text is kept')",
            "INSERT INTO other VALUES ('left out')",
        )
        config = rules(folder, "docs", "words", "none")
        found = cli.run("doctor", database, "--config", config).out
        assert "mirrored as rows, by a rule in mirror.json: docs (fts5)" in found
        assert "left out: other (fts5)" in found and "it has no data of its own" in found, found
        with Following(cli, database, config) as mirror:
            assert "docs" in mirror.equal()
            rows = "SELECT _rowid, title, \"the body\", n #>> '{}' FROM docs ORDER BY 1"
            assert ask(dsn, rows) == [(1, "first", "é \U0001f600", "5"), (2, None, "b", "c")]
            assert mirror.status()["virtual"] == ["other (fts5)"]
            writer.run(
                "INSERT INTO docs(rowid, title) VALUES (-7, 'low'), (1000000, 'high')",
                "UPDATE docs SET title = 'changed', n = NULL WHERE rowid = 1",
                "DELETE FROM docs WHERE rowid = 2",
                ("INSERT INTO docs(title) VALUES (?)", ("long " * 20000,)),
                "INSERT INTO docs(docs) VALUES ('optimize')",
                "INSERT INTO plain VALUES (1, 'x')",
            )
            mirror.equal()
            assert ask(dsn, "SELECT _rowid, left(title, 7) FROM docs ORDER BY 1") == [
                *((-7, "low"), (1, "changed"), (1000000, "high"), (1000001, "long lo")),
            ]
            writer.run("ALTER TABLE docs RENAME TO texts", "INSERT INTO texts(title) VALUES ('under another name')")
            mirror.equal()
            # The rule is by name, so that this one is not mirrored any more, and told so.
            assert mirror.status()["virtual"] == ["other (fts5)", "texts (fts5)"]
            writer.run("ALTER TABLE texts RENAME TO docs", "DROP TABLE other")
            mirror.equal()
            assert ask(dsn, "SELECT title FROM docs WHERE _rowid = 1000002") == [("under another name",)]
            assert mirror.left_out()
            writer.run(
                "DROP TABLE docs", "CREATE TABLE docs(id INTEGER PRIMARY KEY, a)", "INSERT INTO docs VALUES (1, 2)"
            )
            mirror.equal()
            assert ask(dsn, "SELECT id, a FROM docs") == [(1, 2)]


@pytest.mark.slow
def test_the_rule_comes_and_goes(cli: CommandLine, folder: Path, database: Path, dsn: str) -> None:
    """It takes effect at the next start; what was written while it was not there arrives; a parity without it works."""
    with Writer(database) as writer:
        writer.run(
            "PRAGMA journal_mode=WAL",
            "CREATE TABLE plain(id INTEGER PRIMARY KEY, body TEXT)",
            "CREATE VIRTUAL TABLE docs USING fts5(title)",
            "INSERT INTO docs VALUES ('first')",
        )
        for number, config in enumerate((rules, rules)):
            writer.run(f"INSERT INTO docs VALUES ('round {number}')", ("INSERT INTO docs VALUES (?)", ("x" * 9000,)))
            for tables in ((), ("docs",)):
                with Following(cli, database, config(folder, *tables)) as mirror:
                    mirror.equal()
                    assert mirror.status()["virtual"] == ([] if tables else ["docs (fts5)"])
                    writer.run("INSERT INTO docs VALUES ('live')", "UPDATE docs SET title = title || '!'")
                    mirror.equal()
        compared = cli.run("parity", database, "--state-dir", cli.state_dir)
        assert compared.code == 0 and "left out" not in compared.out, compared
        assert ask(dsn, "SELECT count(*) FROM docs") == [(9,)]
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("UPDATE docs SET title = 'other' WHERE _rowid = 2")
            connection.execute("DELETE FROM docs WHERE _rowid = 3")
        assert cli.run("parity", database, "--state-dir", cli.state_dir).code == 1
        assert cli.run("parity", database, "--repair", "--replace-rows", "--state-dir", cli.state_dir).code == 0


def test_a_file_without_a_wal(cli: CommandLine, folder: Path, database: Path, dsn: str) -> None:
    with Writer(database) as writer:
        writer.run("CREATE VIRTUAL TABLE docs USING fts5(body, title)", "INSERT INTO docs VALUES ('b', 'first')")
        with Following(cli, database, rules(folder, "docs", columns={"docs.body": "omit"})) as mirror:
            mirror.equal()
            writer.run("INSERT INTO docs VALUES ('secret', 'second')", "DELETE FROM docs WHERE rowid = 1")
            mirror.equal()
            assert ask(dsn, "SELECT * FROM docs") == [(2, "second")]


def packed(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


TEAM = "(team #>> '{}')::int"
COLUMNS = "embedding, small, bits, note, colour, size, weight, old"


def shown(*leading: str) -> str:
    """The query on Postgres that gives what SQLite gives for all columns."""
    return ", ".join((*leading, COLUMNS.replace("note", "note #>> '{}'")))


def test_vectors_with_a_number_as_key(
    cli: CommandLine, folder: Path, database: Path, dsn: str, vectors: apsw.Connection
) -> None:
    """As most tables have it: the number is the rowid."""
    vectors.execute("CREATE VIRTUAL TABLE numbered USING vec0(number integer primary key, e float[2])")
    vectors.execute("INSERT INTO numbered VALUES (7, ?), (9, ?)", (packed(1, 2), packed(3, 4)))
    with Following(cli, database, rules(folder, "numbered")) as mirror:
        mirror.equal()
        assert ask(dsn, "SELECT rowid, number, e FROM numbered WHERE number = 9") == [(9, 9, packed(3, 4))]


def test_vectors(cli: CommandLine, folder: Path, database: Path, dsn: str, vectors: apsw.Connection) -> None:
    """Each vector, its rowid and what lies beside it, as the virtual table itself gives them."""
    columns = "embedding float[3], small int8[4], bits bit[16], +note text, colour text, size integer, weight float"
    columns += ", old boolean, chunk_size=8"
    vectors.execute(f"CREATE VIRTUAL TABLE v USING vec0({columns})")
    vectors.execute(f"CREATE VIRTUAL TABLE parts USING vec0(team integer partition key, {columns})")
    vectors.execute("CREATE VIRTUAL TABLE named USING vec0(name text primary key, e float[2])")
    vectors.execute("INSERT INTO named VALUES ('a', ?), ('b', ?)", (packed(1, 2), packed(3, 4)))
    vectors.execute("CREATE VIRTUAL TABLE edited USING vec0(e float[2], text text, size integer, +note text)")
    weights = (0.1, -0.0, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, float("inf"), -1e-300, 3.0)

    def add(first: int, last: int) -> None:
        for n in range(first, last):
            values = (
                *(n, packed(n, n / 3, -n), bytes([n % 100, 0, 1, 2]), bytes([n % 256, 7]), f"note {n}"),
                *("é" * (n % 15), (-1) ** n * (n << (n % 57)), weights[n % len(weights)], n % 3 == 0),
            )
            marks = "?,vec_int8(?),vec_bit(?),?,?,?,?,?"
            vectors.execute(f"INSERT INTO v(rowid, {COLUMNS}) VALUES (?,{marks})", values)
            edited = (n, packed(n, 1), "long " * (n % 7), n, f"note {n}")
            vectors.execute("INSERT INTO edited(rowid, e, text, size, note) VALUES (?,?,?,?,?)", edited)
            vectors.execute(f"INSERT INTO parts(team, rowid, {COLUMNS}) VALUES (?,?,{marks})", (n % 3, *values))

    def same(mirror: Following) -> None:
        mirror.equal()
        for mine, query in (
            (f"SELECT rowid, {COLUMNS} FROM v", f"SELECT {shown('rowid')} FROM v"),
            (f"SELECT rowid, team, {COLUMNS} FROM parts", f"SELECT {shown('rowid', TEAM)} FROM parts"),
            (
                "SELECT rowid, e, text, size, note FROM edited",
                "SELECT rowid, e, text, size, note #>> '{}' FROM edited",
            ),
        ):
            rows = vectors.execute(f"{mine} ORDER BY rowid").fetchall()
            assert len(rows) > 20 and repr(ask(dsn, f"{query} ORDER BY rowid")) == repr(rows)

    add(1, 30)
    with Following(cli, database, rules(folder, "v", "parts", "named", "edited")) as mirror:
        same(mirror)
        assert ask(dsn, "SELECT name, e FROM named ORDER BY 1") == [("a", packed(1, 2)), ("b", packed(3, 4))]
        assert mirror.status()["virtual"] == [] and mirror.left_out()
        add(100, 140)
        for n in (3, 17, 120):  # vec0 does not update all kinds of vectors
            vectors.execute("UPDATE edited SET e = ?, size = size + 1 WHERE rowid = ?", (packed(9, n), n))
            vectors.execute("UPDATE edited SET note = 'other', text = text || 'longer' WHERE rowid = ?", (n,))
        vectors.execute("UPDATE edited SET text = 'short' WHERE rowid IN (14, 17)")
        for table in ("v", "parts", "edited"):
            vectors.execute(f"DELETE FROM {table} WHERE rowid IN (1, 2, 5, 139)")
        same(mirror)
        with vectors:
            add(5, 6)
            vectors.execute("DELETE FROM v WHERE rowid > 120")
        same(mirror)
        vectors.execute("DROP TABLE v")
        mirror.equal()
        assert ask(dsn, "SELECT to_regclass('v')") == [(None,)]
        vectors.execute("CREATE VIRTUAL TABLE v USING vec0(embedding float[3])")
        vectors.execute("INSERT INTO v VALUES (4, ?)", (packed(1, 1, 1),))
        mirror.equal()
        assert ask(dsn, "SELECT rowid, embedding FROM v") == [(4, packed(1, 1, 1))]
        vectors.execute("DROP TABLE v; CREATE TABLE v(id INTEGER PRIMARY KEY, a); INSERT INTO v VALUES (1, 2)")
        mirror.equal()
        assert ask(dsn, "SELECT id, a FROM v") == [(1, 2)]
    with Following(cli, database, rules(folder)) as mirror:
        mirror.equal()
        assert ask(dsn, "SELECT to_regclass('named')") == [(None,)]
        assert mirror.status()["virtual"] == ["edited (vec0)", "named (vec0)", "parts (vec0)"]


def test_names_that_are_taken(cli: CommandLine, folder: Path, database: Path, dsn: str) -> None:
    """A table that Postgres refuses does not disturb the others, nor a mirror without the rule."""
    with Writer(database) as writer:
        writer.run("CREATE VIRTUAL TABLE docs USING fts5(a)", "CREATE TABLE t(id INTEGER PRIMARY KEY)")
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE docs(id int)")
        with Following(cli, database, rules(folder, "docs")) as mirror:
            until(lambda: [each["table"] for each in mirror.status()["refusals"]] == ["docs"])
        done = cli.run("rejects", "retry", database, "--state-dir", cli.state_dir)
        assert "Traceback" not in done.err, done
        with Following(cli, database, rules(folder)) as mirror:
            mirror.equal()
            assert mirror.status()["refusals"] == [] and mirror.status()["virtual"] == ["docs (fts5)"]
        assert ask(dsn, "SELECT column_name FROM information_schema.columns WHERE table_name = 'docs'") == [("id",)]
