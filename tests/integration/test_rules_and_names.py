"""Rules by name, while columns and tables get other names: a value that a rule leaves out comes in under none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
import pytest

from mirror.core.control import wait_for_mirror
from tests.support.commands import CommandLine, stop
from tests.support.quick import quick
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

SECRET = "hunter-two"
USERS = "CREATE TABLE users(id INTEGER PRIMARY KEY, name TEXT, password TEXT)"
ROWS = f"INSERT INTO users VALUES (1, 'ann', '{SECRET}1'), (2, 'bob', char(0) || '{SECRET}2')"


@pytest.fixture
def source(folder: Path) -> Iterator[Writer]:
    with Writer(folder / "app.db") as writer:
        writer.run("PRAGMA journal_mode=WAL", USERS, ROWS)
        yield writer


class Mirror:
    """The commands for one source with one mirror.json."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self.database, self.dsn, self.cli = folder / "app.db", dsn, CommandLine(folder, dsn)
        self._config = folder / "mirror.json"
        self.says({"users.password": "omit"})

    def says(self, columns: dict[str, str], **more: Any) -> None:
        self._config.write_text(json.dumps({"columns": columns, **more}))

    def run(self, *command: object, code: int = 0) -> str:
        done = self.cli.run(*command, "--config", self._config, "--state-dir", self.cli.state_dir)
        assert done.code == code, done
        return done.out + done.err

    def once(self) -> str:
        """Copy or catch up, and compare every value."""
        told = self.run("up", self.database, "--once")
        self.run("parity", self.database)
        return told

    @contextmanager
    def following(self) -> Iterator[None]:
        up = self.cli.start("up", self.database, "--config", self._config, "--state-dir", self.cli.state_dir)
        try:
            self.wait()
            yield
        finally:
            stop(up)

    def wait(self) -> None:
        with wait_for_mirror(self.cli.source_folder(self.database), LIMIT) as client:
            assert client.wait(LIMIT)

    def status(self) -> dict[str, Any]:
        [report] = json.loads(self.run("status", self.database, "--json"))["sources"]
        return dict(report)

    def noted(self) -> dict[str, str]:
        return {note["rule"]: note["detail"] for note in self.status()["rules"]}

    def rails(self) -> dict[str, dict[str, Any]]:
        done = self.cli.run(
            "cutover", "plan", self.database, "--json", "--config", self._config, "--state-dir", self.cli.state_dir
        )
        return {rail["name"]: rail for rail in json.loads(done.out)["sources"][0]["rails"]}

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    def tables(self) -> dict[str, list[str]]:
        """The tables of the schema, and their columns."""
        rows = self.ask(
            "SELECT table_name, array_agg(column_name::text ORDER BY ordinal_position)"
            " FROM information_schema.columns WHERE table_schema = 'public' GROUP BY 1"
        )
        return dict(rows)

    def secrets(self) -> list[str]:
        """The tables, kept ones too, and records of the mirror, that have a value that may not be in Postgres."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            names = connection.execute(
                "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
                " WHERE schemaname IN ('public', 'mirror') ORDER BY 1"
            ).fetchall()
            found = []
            for (name,) in names:
                query = f"SELECT count(*) FROM {name} AS t WHERE to_jsonb(t)::text LIKE '%{SECRET}%'"
                try:
                    [(count,)] = connection.execute(query.encode()).fetchall()
                except psycopg.errors.UndefinedTable:
                    return [f"{name} has just been renamed"]
                found += [name] if count else []
            return found


@pytest.fixture
def mirror(folder: Path, dsn: str) -> Mirror:
    return Mirror(folder, dsn)


#: By a word for it: how a table t(id, name, password) gets others, and where the values of ``password`` are then.
RENAMES: dict[str, tuple[Sequence[str], str, str]] = {
    "of_column": (["ALTER TABLE {t} RENAME COLUMN password TO secret"], "{t}", "secret"),
    "renamed": (["ALTER TABLE {t} RENAME TO {t}_b"], "{t}_b", "password"),
    "both": (
        [
            "ALTER TABLE {t} RENAME TO {t}_b",
            "ALTER TABLE {t}_b RENAME COLUMN password TO secret",
            "ALTER TABLE {t}_b RENAME COLUMN secret TO hidden",
        ],
        "{t}_b",
        "hidden",
    ),
    "added": (
        [
            "BEGIN", "ALTER TABLE {t} RENAME COLUMN password TO secret", "ALTER TABLE {t} ADD COLUMN more TEXT",
            "COMMIT",
        ],
        "{t}",
        "secret",
    ),
    "columns_swapped": (
        [
            "BEGIN", "ALTER TABLE {t} RENAME COLUMN password TO x", "ALTER TABLE {t} RENAME COLUMN name TO password",
            "ALTER TABLE {t} RENAME COLUMN x TO name", "COMMIT",
        ],
        "{t}",
        "name",
    ),
    "tables_swapped": (
        [
            "CREATE TABLE {t}_new(id INTEGER PRIMARY KEY, name TEXT, password TEXT)", "BEGIN",
            "ALTER TABLE {t} RENAME TO {t}_old", "ALTER TABLE {t}_new RENAME TO {t}", "COMMIT",
        ],
        "{t}_old",
        "password",
    ),
    "rebuilt": (
        [
            "BEGIN", "CREATE TABLE new_{t}(id INTEGER PRIMARY KEY, name TEXT NOT NULL, password TEXT, more TEXT)",
            "INSERT INTO new_{t} SELECT id, name, password, 'm' FROM {t}", "DROP TABLE {t}",
            "ALTER TABLE new_{t} RENAME TO {t}", "COMMIT",
        ],
        "{t}",
        "password",
    ),
    "rebuilt_and_renamed": (
        [
            "BEGIN", "CREATE TABLE new_{t}(id INTEGER PRIMARY KEY, secret TEXT, name TEXT)",
            "INSERT INTO new_{t} SELECT id, password, name FROM {t}", "DROP TABLE {t}",
            "ALTER TABLE new_{t} RENAME TO {t}", "COMMIT",
        ],
        "{t}",
        "secret",
    ),
    "moved": (
        [
            "BEGIN", "CREATE TABLE {t}_b(id INTEGER PRIMARY KEY, called TEXT, name TEXT, pw TEXT)",
            "INSERT INTO {t}_b SELECT id, NULL, name, password FROM {t}", "DROP TABLE {t}", "COMMIT",
        ],
        "{t}_b",
        "pw",
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("when", "key"),
    [
        ("live", ""),
        *(
            pytest.param(when, key, marks=pytest.mark.slow)
            for when, key in (
                ("live", "WITHOUT ROWID"),
                ("stopped", ""),
                ("stopped", "WITHOUT ROWID"),
                ("copied whole", ""),
                ("copied whole", "WITHOUT ROWID"),
            )
        ),
    ],
)
def test_what_is_left_out_stays_so_under_another_name(mirror: Mirror, source: Writer, when: str, key: str) -> None:
    """However it gets the name, and over restarts; what is left out without a rule of its own is named."""
    # Where all state is lost, nothing shows that two columns have each other's name.
    kinds = [name for name in RENAMES if when != "copied whole" or name != "columns_swapped"]
    for t in kinds:
        source.run(f"CREATE TABLE {t}(id INTEGER PRIMARY KEY, name TEXT, password TEXT) {key}")
        source.run(f"INSERT INTO {t} VALUES (1, 'ann', '{SECRET}1'), (2, 'bob', char(0) || '{SECRET}2')")
    said = {f"{t}.password": "omit" for t in ("users", *kinds)}
    mirror.says(said)
    mirror.once()
    assert mirror.secrets() == []
    places = {t: tuple(word.format(t=t) for word in RENAMES[t][1:]) for t in kinds}

    def change() -> None:
        for t in kinds:
            source.run(*(sql.format(t=t) for sql in RENAMES[t][0]))
            source.run(f"UPDATE {places[t][0]} SET {places[t][1]} = '{SECRET}3' WHERE id = 1")
            if when == "live":
                mirror.wait()
                assert mirror.secrets() == [], t

    if when == "live":
        with mirror.following():
            change()
            seen = mirror.noted()
        assert mirror.noted() == seen
    else:
        change()
        if when == "copied whole":
            shutil.rmtree(mirror.cli.source_folder(mirror.database))
        mirror.once()
    for t in kinds:
        source.run(f"UPDATE {places[t][0]} SET {places[t][1]} = '{SECRET}4' WHERE id = 2")
    mirror.once()
    assert mirror.secrets() == []
    tables = mirror.tables()
    assert all("name" in tables[table] or t == "columns_swapped" for t, (table, _) in places.items()), tables
    heirs = {f"{table}.{column}" for table, column in places.values()} - said.keys()
    notes, rails, doctor = mirror.noted(), mirror.rails(), mirror.run("doctor", mirror.database)
    for name in heirs:
        assert "left out as" in notes[name] and f"rule {name}" in rails and f"rule {name}" in doctor, name
    # The operator decides.
    mirror.says(said | dict.fromkeys(heirs, "omit"))
    mirror.once()
    assert mirror.secrets() == [] and not heirs & mirror.noted().keys()
    mirror.says(said | dict.fromkeys(heirs, "text"))
    mirror.once()
    assert mirror.secrets() == sorted(f"public.{name.split('.')[0]}" for name in heirs)


REBUILDS: dict[str, Sequence[str]] = {
    "dropped, renamed": ["DROP TABLE users", "ALTER TABLE new_users RENAME TO users"],
    "dropped and renamed in one": ["BEGIN", "DROP TABLE users", "ALTER TABLE new_users RENAME TO users", "COMMIT"],
    "set aside": ["ALTER TABLE users RENAME TO old", "ALTER TABLE new_users RENAME TO users", "DROP TABLE old"],
    "copied back": ["DELETE FROM users", "INSERT INTO users SELECT * FROM new_users", "DROP TABLE new_users"],
}


@pytest.mark.few(1)
@pytest.mark.parametrize(
    ("key", "how"),
    quick(("", "dropped, renamed"), ("WITHOUT ROWID", "set aside"), among=product(["", "WITHOUT ROWID"], REBUILDS)),
)
def test_a_table_rebuilt_in_several_transactions(mirror: Mirror, source: Writer, how: str, key: str) -> None:
    """Its values are in Postgres until it has the name that a rule is for: then they are kept nowhere, and that is
    said."""
    with mirror.following():
        source.run(f"CREATE TABLE new_users(id INTEGER PRIMARY KEY, name TEXT, password TEXT) {key}")
        source.run("INSERT INTO new_users SELECT * FROM users")
        mirror.wait()
        with psycopg.connect(mirror.dsn, autocommit=True) as connection:
            connection.execute("CREATE VIEW shown AS SELECT * FROM new_users")
            if how == "dropped, renamed" and not key:
                connection.execute("DROP VIEW shown")
        for sql in REBUILDS[how]:
            source.run(sql)
        # A view that shows the column keeps the table from following, not the values from going.
        assert until(lambda: mirror.secrets() == [])
        with psycopg.connect(mirror.dsn, autocommit=True) as connection:
            connection.execute("DROP VIEW IF EXISTS shown")
        mirror.run("rejects", "retry", mirror.database)
        mirror.wait()
        assert mirror.secrets() == []
        assert mirror.tables()["users"] == ["id", "name"]
        if how != "copied back":
            assert "new_users.password" in mirror.noted()["users.password"]
            assert "new_users.password" in mirror.run("status", mirror.database)
        mirror.run("parity", mirror.database)


def test_a_column_that_gets_the_name_of_a_rule(mirror: Mirror, source: Writer) -> None:
    """It is not kept as a dropped one."""
    source.run("ALTER TABLE users RENAME COLUMN password TO secret")
    mirror.once()
    assert mirror.secrets() == ["public.users"]
    with mirror.following():
        source.run("ALTER TABLE users RENAME COLUMN secret TO password")
        mirror.wait()
        assert mirror.secrets() == [] and mirror.tables() == {"users": ["id", "name"]}
        assert "users.secret" in mirror.noted()["users.password"]


def test_a_column_that_is_new_has_no_rule(mirror: Mirror, source: Writer) -> None:
    """Where nothing that was left out is gone, what comes is mirrored."""
    with mirror.following():
        source.run(
            "ALTER TABLE users ADD COLUMN more TEXT DEFAULT 'x'", "CREATE TABLE other(id INTEGER, password TEXT)"
        )
        source.run("ALTER TABLE users RENAME COLUMN name TO called")
        mirror.wait()
        assert mirror.tables() == {"users": ["id", "called", "more"], "other": ["_rowid", "id", "password"]}
        assert mirror.noted() == {}
        source.run("ALTER TABLE users DROP COLUMN password")
        mirror.wait()
        assert "no column users.password" in mirror.noted()["users.password"]


def test_rules_that_mean_nothing(mirror: Mirror, source: Writer) -> None:
    """Doctor, status and the plan say so, of rules of any kind."""
    source.run("CREATE VIRTUAL TABLE docs USING fts5(body)")
    mirror.says(
        {"users.password": "omit", "users.id": "omit", "users.passwort": "omit", "user.name": "bytea"},
        tables={"docs": "rows", "doc": "rows", "users": "rows"},
    )
    names = {"users.id", "users.passwort", "user.name", "doc", "users"}
    found = json.loads(mirror.cli.run("doctor", mirror.database, "--json", "--config", mirror._config).out)
    assert {f["name"] for f in found["reports"][0]["findings"] if f["code"] == "configuration.rule"} == {
        f"rule {name}" for name in names
    }
    with mirror.following():
        assert mirror.noted().keys() == names and "primary key" in mirror.noted()["users.id"]
        text = mirror.run("status", mirror.database)
        assert all(f"mirror.json: {name}: " in text for name in names)
        rails = mirror.rails()
        assert all(rails[f"rule {name}"]["level"] == "note" for name in names)


@pytest.mark.slow
def test_all_columns_of_a_table_are_left_out(mirror: Mirror, source: Writer) -> None:
    """Its rows are there, without values."""
    source.run("CREATE TABLE t(a TEXT, rowid INT)", f"INSERT INTO t VALUES ('{SECRET}', 1), ('{SECRET}', 1)")
    mirror.says({"users.password": "omit", "t.a": "omit", "t.rowid": "omit"})
    told = mirror.run("doctor", mirror.database)
    assert "error" not in told and "could not be read" not in told
    mirror.once()
    assert mirror.ask("SELECT count(*) FROM t") == [(2,)] and mirror.tables()["t"] == ["_rowid"]
    with mirror.following():
        source.run(f"INSERT INTO t VALUES ('{SECRET}', 2)", "DELETE FROM t WHERE oid = 1")
        mirror.wait()
        assert mirror.ask("SELECT _rowid FROM t ORDER BY 1") == [(2,), (3,)]
    mirror.once()


@pytest.mark.slow
def test_what_others_made_for_a_table_that_is_only_kept(mirror: Mirror, source: Writer) -> None:
    """Views, foreign keys and grants that are still for it are named until they are moved."""
    mirror.says({})
    with mirror.following(), psycopg.connect(mirror.dsn, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS kept_reader")
        connection.execute("CREATE ROLE kept_reader")
        try:
            for made in (
                "CREATE VIEW names AS SELECT name FROM users", "GRANT SELECT ON users TO kept_reader",
                "CREATE TABLE notes(user_id bigint REFERENCES users)",
            ):  # fmt: skip
                connection.execute(made)
            assert mirror.rails()["kept tables"]["passed"]
            source.run(USERS.replace("users", "new_users"))
            source.run("INSERT INTO new_users SELECT * FROM users")
            source.run("DROP TABLE users")
            mirror.wait()
            source.run("ALTER TABLE new_users RENAME TO users")
            assert until(lambda: mirror.status()["kept"])
            [kept] = mirror.status()["kept"]
            assert kept["table"] == "users" and kept["kept"].startswith("users__dropped_")
            assert kept["objects"] == [
                "view public.names", "foreign key notes_user_id_fkey of public.notes", "grant of SELECT to kept_reader",
            ]  # fmt: skip
            assert "view public.names" in mirror.run("status", mirror.database)
            rail = mirror.rails()["kept tables"]
            assert not rail["passed"] and "view public.names" in rail["figure"] and kept["kept"] in rail["figure"]
            connection.execute("CREATE OR REPLACE VIEW names AS SELECT name FROM users")
            connection.execute("GRANT SELECT ON users TO kept_reader")
            connection.execute("DROP TABLE notes")
            assert until(lambda: not mirror.status()["kept"])
            assert mirror.rails()["kept tables"]["passed"]
        finally:
            connection.execute("DROP OWNED BY kept_reader")
            connection.execute("DROP ROLE kept_reader")
