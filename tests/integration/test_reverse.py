"""The way back: what programs write in Postgres is carried into the SQLite file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from msgspec import structs

from mirror.core.agreement import Agreement
from mirror.core.errors import SourceError, WayBackLostError
from mirror.postgres.sessions import connect
from mirror.postgres.target import load_targets
from mirror.reverse import capture
from mirror.reverse.follower import ReverseFollower, start
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import LIMIT, until

SCHEMA = (
    "CREATE TABLE notes(id INTEGER PRIMARY KEY, title TEXT UNIQUE, body TEXT, score REAL, raw BLOB, extra JSON,"
    " changed TEXT, mixed)",
    "CREATE VIRTUAL TABLE words USING fts5(title, body, content='notes', content_rowid='id')",
    "CREATE TRIGGER notes_ai AFTER INSERT ON notes BEGIN"
    " INSERT INTO words(rowid, title, body) VALUES (new.id, new.title, new.body); END",
    "CREATE TRIGGER notes_ad AFTER DELETE ON notes BEGIN"
    " INSERT INTO words(words, rowid, title, body) VALUES ('delete', old.id, old.title, old.body); END",
    "CREATE TRIGGER notes_au AFTER UPDATE ON notes BEGIN"
    " INSERT INTO words(words, rowid, title, body) VALUES ('delete', old.id, old.title, old.body);"
    " INSERT INTO words(rowid, title, body) VALUES (new.id, new.title, new.body); END",
    "CREATE TABLE counts(name TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID",
    "CREATE TABLE pairs(a TEXT, b INTEGER, note TEXT CHECK (length(note) < 9), PRIMARY KEY (a, b))",
    "CREATE TABLE loose(v, w TEXT)",
)


class Way:
    """A source whose mirror has ended, with the way back on."""

    def __init__(self, dsn: str, database: Path, writer: Writer) -> None:
        self.dsn, self.database, self.writer = dsn, database, writer
        self.postgres = psycopg.connect(dsn, autocommit=True)
        row = self.postgres.execute("SELECT source_id FROM mirror.sources").fetchone()
        assert row is not None
        self.source_id = int(row[0])
        with connect(dsn, raw=True) as session, session.transaction():
            targets = load_targets(session, self.source_id, None).values()
            capture.install(session, self.source_id, targets)
            capture.switch(session, self.source_id, targets, on=True)
            start(session, self.source_id)
            session.execute(
                f"INSERT INTO mirror.phase (source_id, phase, sealed_at) VALUES ({self.source_id}, 3, now())"
            )

    @contextmanager
    def follower(self) -> Iterator[ReverseFollower]:
        follower = ReverseFollower.open(self.dsn, self.database, "public")
        try:
            yield follower
        finally:
            follower.close()

    def carry(self) -> None:
        with self.follower() as follower:
            follower.drain()

    def rows(self, query: str) -> list[list[Any]]:
        """What SQLite has."""
        return self.writer.run(query)

    def rejects(self) -> list[tuple[Any, ...]]:
        return self.postgres.execute("SELECT source_table, key, reason FROM mirror.reverse_rejects").fetchall()


@pytest.fixture
def way(dsn: str, database: Path, writer: Writer, mirror: MirrorProcess) -> Iterator[Way]:
    writer.run(*SCHEMA)
    writer.run(
        "INSERT INTO notes VALUES (1, 'one', 'the first note', 1.5, x'00ff', '{ \"a\": 1 }', '2026-01-01', 7),"
        " (2, 'two', 'the second', NULL, NULL, '{\"a\":2}', NULL, 'text'), (3, 'three', NULL, 2.0, x'', '3', '', 2.5)",
        "INSERT INTO counts VALUES ('a', 1), ('b', 2)",
        "INSERT INTO pairs VALUES ('x', 1, 'n'), ('x', 2, NULL)",
        "INSERT INTO loose VALUES (1, 'a'), ('t', 'b'), (NULL, NULL)",
    )
    mirror.start()
    mirror.wait_applied()
    mirror.check()
    mirror.stop()
    made = Way(dsn, database, writer)
    yield made
    # The mirror forward, which knows nothing of this, finds nothing to change, and its parity is equal.
    lost = made.postgres.execute("SELECT lost FROM mirror.reverse").fetchone() != (None,)
    with connect(dsn, raw=True) as session, session.transaction():
        capture.remove(session, made.source_id)
    made.postgres.execute("DELETE FROM mirror.phase")
    if not lost and not made.rejects():
        before = _all(made.postgres)
        mirror.start()
        mirror.wait_applied()
        mirror.check()
        assert _all(made.postgres) == before
    made.postgres.close()


def _all(postgres: psycopg.Connection[Any]) -> dict[str, list[Any]]:
    return {
        table: postgres.execute(f"SELECT to_jsonb(t) - '_original' FROM {table} t ORDER BY t::text").fetchall()
        for table in ("notes", "counts", "pairs", "loose")
    }


def test_every_kind_of_write(way: Way) -> None:
    way.postgres.execute("UPDATE notes SET body = 'changed', extra = '{\"b\": [1, 2]}' WHERE id = 1")
    way.postgres.execute("DELETE FROM notes WHERE id = 2")
    way.postgres.execute("INSERT INTO notes (id, title, score, raw) VALUES (9, 'nine', 9.25, '\\x0102')")
    way.postgres.execute("UPDATE counts SET n = n + 10")
    way.postgres.execute("UPDATE pairs SET b = b + 5")
    way.postgres.execute("DELETE FROM loose WHERE w = 'a'")
    way.carry()
    assert way.rows("SELECT id, title, body, score, hex(raw), extra, changed, mixed FROM notes") == [
        [1, "one", "changed", 1.5, "00FF", '{"b":[1,2]}', "2026-01-01", 7],
        [3, "three", None, 2.0, "", 3, "", 2.5],
        [9, "nine", None, 9.25, "0102", None, None, None],
    ]
    assert way.rows("SELECT * FROM counts") == [["a", 11], ["b", 12]]
    assert way.rows("SELECT * FROM pairs ORDER BY b") == [["x", 6, "n"], ["x", 7, None]]
    assert way.rows("SELECT v, w FROM loose ORDER BY rowid") == [["t", "b"], [None, None]]
    assert way.rows("SELECT rowid FROM words WHERE words MATCH 'changed'") == [[1]]
    assert way.rows("SELECT rowid FROM words WHERE words MATCH 'first OR second'") == []
    way.writer.run("INSERT INTO words(words) VALUES ('integrity-check')")


def test_an_original_that_is_of_an_earlier_value(way: Way) -> None:
    """It is given back as long as the column shows it; a program in Postgres leaves it there."""
    way.postgres.execute("UPDATE notes SET title = 'uno' WHERE id = 1")
    way.carry()
    assert way.rows("SELECT title, extra FROM notes WHERE id = 1") == [["uno", '{ "a": 1 }']]
    way.postgres.execute("UPDATE notes SET extra = '{\"a\": 5}' WHERE id = 1")
    way.carry()
    assert way.rows("SELECT extra FROM notes WHERE id = 1") == [['{"a":5}']]


def test_truncate(way: Way) -> None:
    way.postgres.execute("TRUNCATE notes")
    way.carry()
    assert way.rows("SELECT count(*) FROM notes") == [[0]]
    with way.postgres.transaction():
        way.postgres.execute("INSERT INTO counts VALUES ('c', 3)")
        way.postgres.execute("TRUNCATE counts")
        way.postgres.execute("INSERT INTO counts VALUES ('b', 9), ('d', 4)")
    way.carry()
    assert way.rows("SELECT * FROM counts") == [["b", 9], ["d", 4]]
    way.writer.run("INSERT INTO words(words) VALUES ('integrity-check')")


@pytest.mark.parametrize("seam", ["reverse:read", "reverse:before commit"])
def test_a_table_that_is_truncated_while_a_batch_is_read(way: Way, seam: str) -> None:
    """An earlier snapshot shows the table empty, which Postgres has never shown to anyone: nor may the file."""
    states = []
    query = "SELECT name, n FROM counts ORDER BY name"
    with psycopg.connect(way.dsn) as other, ThreadPoolExecutor(1) as pool:

        def empty_and_fill() -> None:
            with other.transaction():
                other.execute("TRUNCATE counts")
                other.execute("INSERT INTO counts VALUES ('a', 8), ('b', 2)")

        truncations = []

        def faults(name: str) -> None:
            if name == seam and not truncations:
                truncations.append(pool.submit(empty_and_fill))
                if seam == "reverse:read":
                    truncations[0].result()
            if name == "reverse:written":
                states.append(way.rows(query))

        way.postgres.execute("UPDATE counts SET n = 7 WHERE name = 'a'")
        follower = ReverseFollower.open(way.dsn, way.database, "public", faults)
        try:
            until(lambda: follower.drain() is None and truncations and truncations[0].done())
            follower.drain()
        finally:
            follower.close()
        truncations[0].result()
    assert all(state in ([["a", 7], ["b", 2]], [["a", 8], ["b", 2]]) for state in states), states
    assert way.rows(query) == [["a", 8], ["b", 2]]


def test_values_that_change_places(way: Way) -> None:
    """Unique values are exchanged: no order of single rows would do."""
    way.postgres.execute(
        "UPDATE notes SET title = CASE id WHEN 1 THEN 'two' WHEN 2 THEN 'three' ELSE 'one' END WHERE id < 4"
    )
    way.carry()
    assert way.rows("SELECT id, title FROM notes ORDER BY id") == [[1, "two"], [2, "three"], [3, "one"]]
    way.writer.run("INSERT INTO words(words) VALUES ('integrity-check')")


def test_what_the_file_refuses(way: Way) -> None:
    """It is kept, with the reason, and tried again."""
    way.postgres.execute("INSERT INTO pairs VALUES ('y', 1, 'much too long'), ('y', 2, 'fits')")
    way.carry()
    assert way.rows("SELECT * FROM pairs WHERE a = 'y'") == [["y", 2, "fits"]]
    ((table, key, reason),) = way.rejects()
    assert (table, key) == ("pairs", ["y", "1"]) and "CHECK" in reason
    way.postgres.execute("UPDATE pairs SET note = 'short' WHERE a = 'y' AND b = 1")
    way.carry()
    assert way.rows("SELECT * FROM pairs WHERE a = 'y' ORDER BY b") == [["y", 1, "short"], ["y", 2, "fits"]]
    assert way.rejects() == []
    # Refused for another row's sake, and taken when that one goes.
    way.postgres.execute("INSERT INTO notes (id, title) VALUES (10, 'one')")
    way.carry()
    assert [reject[1] for reject in way.rejects()] == [["10"]]
    way.postgres.execute("DELETE FROM notes WHERE id = 1")
    way.carry()
    assert way.rows("SELECT id FROM notes WHERE title = 'one'") == [[10]]
    assert way.rejects() == []


def test_what_the_file_takes_later(way: Way) -> None:
    """What was in its way has gone, and nothing else is written in Postgres."""
    way.postgres.execute("INSERT INTO notes (id, title) VALUES (10, 'one')")
    with way.follower() as follower:
        follower.drain()
        assert follower.rejects == 1 and follower.step() is None, "it is not tried all the time"
    way.writer.run("UPDATE notes SET title = 'uno' WHERE id = 1")
    with way.follower() as follower:
        assert follower.step() is not None
        assert follower.rejects == 0 and follower.step() is None
    assert way.rows("SELECT id FROM notes WHERE title = 'one'") == [[10]]
    way.postgres.execute("UPDATE notes SET title = 'uno' WHERE id = 1")
    way.carry()


def test_triggers_that_write_to_mirrored_tables(way: Way) -> None:
    """What they do is undone: the file shows what Postgres shows."""
    way.writer.run(
        "CREATE TRIGGER touch AFTER UPDATE OF body ON notes BEGIN"
        " UPDATE notes SET changed = 'by trigger' WHERE id = new.id; END",
        "CREATE TRIGGER more AFTER INSERT ON notes BEGIN"
        " INSERT INTO counts VALUES ('notes', 1) ON CONFLICT(name) DO UPDATE SET n = n + 1; END",
        "CREATE TRIGGER less AFTER DELETE ON notes BEGIN DELETE FROM counts WHERE name = 'b'; END",
    )
    way.postgres.execute("UPDATE notes SET body = 'again' WHERE id = 1")
    way.postgres.execute("INSERT INTO notes (id, title) VALUES (11, 'eleven')")
    way.postgres.execute("DELETE FROM notes WHERE id = 2")
    way.carry()
    assert way.rows("SELECT id, changed FROM notes") == [[1, "2026-01-01"], [3, ""], [11, None]]
    assert way.rows("SELECT * FROM counts") == [["a", 1], ["b", 2]]
    assert way.rows("SELECT rowid FROM words WHERE words MATCH 'again'") == [[1]]


def test_long_transactions(way: Way) -> None:
    """Batches are cut by snapshots: what commits later comes later, and whole."""
    with psycopg.connect(way.dsn) as long, psycopg.connect(way.dsn) as later, way.follower() as follower:
        long.execute("INSERT INTO notes (id, title) VALUES (20, 'twenty')")
        later.execute("INSERT INTO notes (id, title) VALUES (21, 'twenty-one')")
        later.commit()
        follower.drain()
        assert way.rows("SELECT id FROM notes WHERE id >= 20") == [[21]]
        later.execute("UPDATE notes SET body = 'x' WHERE id = 21")
        long.execute("UPDATE notes SET body = 'y' WHERE id = 3")
        follower.drain()
        assert way.rows("SELECT id, body FROM notes WHERE id IN (3, 20, 21)") == [[3, None], [21, None]]
        long.commit()
        follower.drain()
        assert way.rows("SELECT id, body FROM notes WHERE id IN (3, 20, 21)") == [[3, "y"], [20, None], [21, None]]
        later.rollback()
        follower.drain()
        assert way.rows("SELECT body FROM notes WHERE id = 21") == [[None]]
        left = "SELECT count(*) FROM mirror.outbox"
        follower._checked_at = 0.0
        follower.step()
        assert way.postgres.execute(left).fetchone() == (0,)


ALTERED = r"table public\.counts was altered"
OFF = r"triggers of public\.counts"


@pytest.mark.few(2)
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("ALTER TABLE counts DROP COLUMN n", ALTERED),
        ("ALTER TABLE counts ALTER n TYPE double precision", ALTERED),
        ("ALTER TABLE counts RENAME COLUMN n TO m", ALTERED),
        ("ALTER TABLE counts DROP CONSTRAINT counts_pkey", ALTERED),
        ("ALTER TABLE counts RENAME TO others", OFF),
        ("DROP TABLE counts", OFF),
        ("DROP TRIGGER {insert} ON counts", OFF),
        ("ALTER TABLE counts DISABLE TRIGGER {insert}", OFF),
        ("ALTER TABLE counts DISABLE TRIGGER ALL; ALTER TABLE counts ENABLE TRIGGER ALL", OFF),
        # Nothing of what is there in the end shows that a write was not captured.
        (
            "ALTER TABLE counts DISABLE TRIGGER {insert}; INSERT INTO counts VALUES ('z', 0);"
            " ALTER TABLE counts ENABLE ALWAYS TRIGGER {insert}",
            "switched off for a time",
        ),
    ],
)
@pytest.mark.parametrize("open_before", [True, False])
def test_what_loses_the_way_back(way: Way, change: str, why: str, open_before: bool) -> None:
    """It is known at the next look, also if a batch meets the table before, and for whoever comes later."""
    text = change.format(insert=f"mirror_capture_{way.source_id}_insert")
    if open_before:
        with way.follower() as follower:
            follower.drain()
            follower._checked_at = time.monotonic() + LIMIT  # a batch that reads the table comes first
            way.postgres.execute("UPDATE counts SET n = 7 WHERE name = 'a'")
            way.postgres.execute(text)
            with pytest.raises(WayBackLostError, match=why):
                look_again(follower)
    else:
        way.postgres.execute(text)
    with pytest.raises(WayBackLostError, match=why):
        way.carry()
    assert way.postgres.execute("SELECT lost IS NOT NULL FROM mirror.reverse").fetchone() == (True,)


def look_again(follower: ReverseFollower) -> None:
    follower.step()
    follower._checked_at = 0.0
    follower.step()


def test_a_column_that_is_added_in_postgres(way: Way) -> None:
    """The file does not get it, and the others of the row go on."""
    way.postgres.execute("ALTER TABLE counts ADD COLUMN more text DEFAULT 'x'")
    way.postgres.execute("UPDATE counts SET n = 7, more = 'y' WHERE name = 'a'")
    way.carry()
    assert way.rows("SELECT * FROM counts") == [["a", 7], ["b", 2]]
    way.postgres.execute("ALTER TABLE counts DROP COLUMN more")


def agreed(follower: ReverseFollower, since: str, **more: Any) -> Agreement:
    found = follower.agree(since, **more)
    assert found is not None
    return structs.replace(found, snapshot="")


def test_whether_the_file_agrees_in_what_was_written_since(way: Way) -> None:
    with watching(way) as follower:
        follower.drain()
        follower.step()
        first = follower.agree("infinity")
        assert first is not None and first.snapshot
        way.postgres.execute("UPDATE counts SET n = 7 WHERE name = 'a'")
        way.postgres.execute("DELETE FROM counts WHERE name = 'b'")
        follower.drain()
        second = follower.agree("infinity", after=first.snapshot)
        assert second is not None and second == Agreement(rows=2, snapshot=second.snapshot)
        assert agreed(follower, "infinity", after=second.snapshot) == Agreement(rows=0)
        assert follower.agree("infinity", touched=True) == Agreement(rows=0)
        follower._writer._db.execute("UPDATE counts SET n = 8 WHERE name = 'a'")  # by the way back itself
        found = agreed(follower, "infinity", after=first.snapshot)
        assert found == Agreement(rows=2, not_carried=1, named=["counts: row a differs in n"])
        follower._writer._db.execute("UPDATE counts SET n = 7 WHERE name = 'a'")
        way.writer.run("UPDATE counts SET n = 9 WHERE name = 'a'")
        found = agreed(follower, "infinity", after=first.snapshot)
        assert found.unknown == 1 and agreed(follower, "infinity").strays == 1
        way.writer.run("UPDATE counts SET n = 7 WHERE name = 'a'")
        assert agreed(follower, "infinity", touched=True) == Agreement(rows=9)


def test_whether_the_file_agrees(way: Way) -> None:
    """What programs wrote to it is apart from what the way back did not carry."""
    now = "SELECT clock_timestamp()::text"
    with watching(way) as follower:
        assert follower.agree("infinity") is None  # there is nothing that it could be compared with
        follower.drain()
        follower.step()
        assert agreed(follower, "infinity") == Agreement(rows=10)
        # Not captured, as if a trigger had not fired.
        with way.postgres.transaction():
            way.postgres.execute("UPDATE counts SET n = 7 WHERE name = 'a'; DELETE FROM mirror.outbox")
        way.postgres.execute("UPDATE counts SET n = 8 WHERE name = 'b'")
        follower.drain()
        found = agreed(follower, "infinity")
        assert found == Agreement(rows=10, not_carried=1, named=['counts ["a"]'])
        assert strays(way) == []
        way.postgres.execute("UPDATE counts SET n = 9 WHERE name = 'a'")
        follower.drain()
        ((since,),) = way.postgres.execute(now).fetchall()
        way.writer.run("DELETE FROM pairs WHERE b = 1", "UPDATE loose SET w = 'astray' WHERE w = 'b'")
        follower._watch._due = time.monotonic() + LIMIT  # no look of its own comes before
        follower.drain()
        way.postgres.execute("INSERT INTO pairs VALUES ('z', 1, 'much too long')")
        follower.drain()
        found = agreed(follower, since)
        assert found == Agreement(rows=9, rejects=1, unknown=2, named=["loose [2]", 'pairs ["x",1]'])
        ((since,),) = way.postgres.execute(now).fetchall()
        assert agreed(follower, since) == Agreement(rows=9, rejects=1, strays=2)
        assert len(strays(way)) == 2
        follower.step()  # lets go of the tables that were compared
        way.postgres.execute("TRUNCATE counts")
        assert follower.agree(since) is None  # its snapshot shows nothing of it any more
        follower.drain()
        follower.step()
        assert agreed(follower, since) == Agreement(rows=7, rejects=1, strays=2)
        way.postgres.execute("DELETE FROM pairs WHERE a = 'z'")
        throw_away(way, follower)


@pytest.mark.parametrize("after", ["", "a snapshot"])
def test_whether_the_file_agrees_beside_a_program_that_truncates_tables(way: Way, after: str) -> None:
    """It waits until all is compared: else a table would be found truncated whenever its turn comes."""
    tried: list[str] = []

    def truncate() -> None:
        if not tried:
            tried.append("")
            try:
                way.postgres.execute("SET lock_timeout = '50ms'; TRUNCATE pairs")
            except psycopg.errors.LockNotAvailable as error:
                tried.append(str(error.sqlstate))

    follower = ReverseFollower.open(way.dsn, way.database, "public", meanwhile=truncate)
    try:
        follower.drain()
        follower.step()
        if after:
            assert follower.agree("") is not None
            ((after,),) = way.postgres.execute("SELECT pg_current_snapshot()::text").fetchall()
            way.postgres.execute("INSERT INTO pairs VALUES ('after', 1, 'later')")
            follower.drain()
            follower.step()
        tried.clear()
        found = follower.agree("", after=after)
        assert tried == ["", "55P03"] and found is not None and found.not_carried == 0
    finally:
        follower.close()


def test_a_table_that_is_not_captured_any_more(way: Way) -> None:
    way.postgres.execute("DROP TABLE pairs; CREATE TABLE pairs(a text, b bigint, note text, PRIMARY KEY (a, b))")
    with pytest.raises(WayBackLostError, match=r"triggers of public\.pairs"):
        way.carry()


# -- what programs write to the file meanwhile -------------------------------------------------------


@contextmanager
def watching(way: Way) -> Iterator[ReverseFollower]:
    """A follower that does not keep the lock."""
    way.postgres.execute("UPDATE mirror.phase SET fence = 'watch'")
    with way.follower() as follower:
        yield follower


def strays(way: Way) -> list[tuple[Any, ...]]:
    return way.postgres.execute(
        "SELECT source_table, key, before::text, after::text, state FROM mirror.strays ORDER BY source_table, key"
    ).fetchall()


def throw_away(way: Way, follower: ReverseFollower) -> None:
    way.postgres.execute("DELETE FROM mirror.strays WHERE state = 'overwritten'")
    way.postgres.execute("UPDATE mirror.strays SET state = 'discarded'")
    follower.drain()
    follower.step()
    assert not strays(way)


def test_a_stray_that_writes_what_postgres_writes_at_the_same_time(way: Way) -> None:
    with watching(way) as follower:
        follower.drain()
        way.writer.run("UPDATE counts SET n = 100", "INSERT INTO counts VALUES ('c', 1), ('d', 5)")
        way.postgres.execute("UPDATE counts SET n = 7 WHERE name = 'a'")
        way.postgres.execute("INSERT INTO counts VALUES ('c', 2), ('d', 5)")
        way.postgres.execute("DELETE FROM counts WHERE name = 'b'")
        follower.drain()
        assert way.rows("SELECT * FROM counts") == [["a", 7], ["c", 2], ["d", 5]]
        assert strays(way) == [
            ("counts", '["a"]', '{"name":"a","n":1}', '{"name":"a","n":100}', "overwritten"),
            ("counts", '["b"]', '{"name":"b","n":2}', '{"name":"b","n":100}', "overwritten"),
            ("counts", '["c"]', None, '{"name":"c","n":1}', "overwritten"),
        ]
        throw_away(way, follower)


def test_strays_before_all_rows_of_a_table_are_replaced(way: Way) -> None:
    with watching(way) as follower:
        follower.drain()
        way.writer.run("UPDATE loose SET w = 'astray' WHERE w = 'a'", "INSERT INTO loose VALUES (5, 'new')")
        way.postgres.execute("TRUNCATE loose")
        follower.drain()
        assert way.rows("SELECT * FROM loose") == []
        # Nobody knows any more what the table had: all that the file had is kept.
        assert [(key, after, state) for _, key, _, after, state in strays(way)] == [
            ("[1]", '{"v":1,"w":"astray"}', "overwritten"),
            ("[2]", '{"v":"t","w":"b"}', "overwritten"),
            ("[3]", '{"v":null,"w":null}', "overwritten"),
            ("[4]", '{"v":5,"w":"new"}', "overwritten"),
        ]
        throw_away(way, follower)


def test_strays_that_the_files_own_triggers_would_write_over(way: Way) -> None:
    way.writer.run("CREATE TRIGGER count AFTER INSERT ON loose BEGIN UPDATE counts SET n = n + 1; END")
    with watching(way) as follower:
        follower.drain()
        way.writer.run("UPDATE counts SET n = 50 WHERE name = 'b'")
        way.postgres.execute("INSERT INTO loose (_rowid, v, w) VALUES (50, '1', 'x')")
        follower.drain()
        assert way.rows("SELECT * FROM counts") == [["a", 1], ["b", 2]]
        assert strays(way) == [("counts", '["b"]', '{"name":"b","n":2}', '{"name":"b","n":50}', "overwritten")]
        throw_away(way, follower)
    way.writer.run("DROP TRIGGER count")


def test_strays_of_before_it_was_opened(way: Way) -> None:
    """What Postgres wrote since the file was last equal to it cannot be judged: kept where others have written."""
    way.carry()
    way.postgres.execute("UPDATE counts SET n = 7 WHERE name = 'a'")
    way.carry()
    assert strays(way) == []
    way.writer.run("UPDATE counts SET n = 50", "UPDATE pairs SET note = 'astray' WHERE b = 1")
    way.postgres.execute("UPDATE counts SET n = 8 WHERE name = 'a'")
    with watching(way) as follower:
        follower.drain()
        assert strays(way) == [
            ("counts", '["a"]', None, '{"name":"a","n":50}', "overwritten"),
            ("counts", '["b"]', '{"name":"b","n":2}', '{"name":"b","n":50}', "in file"),
            ("pairs", '["x",1]', '{"a":"x","b":1,"note":"n"}', '{"a":"x","b":1,"note":"astray"}', "in file"),
        ]
        throw_away(way, follower)
        assert way.rows("SELECT * FROM counts") == [["a", 8], ["b", 2]]


def test_rows_that_the_file_does_not_take_are_no_strays(way: Way) -> None:
    with watching(way) as follower:
        follower.drain()
        way.postgres.execute("UPDATE pairs SET note = 'much too long' WHERE b = 1")
        way.postgres.execute("INSERT INTO pairs VALUES ('z', 1, 'too long as well')")
        follower.drain()
        way.writer.run("UPDATE counts SET n = 50 WHERE name = 'b'")
        until(lambda: follower.drain() is None and strays(way))
        assert [(table, key) for table, key, *_ in strays(way)] == [("counts", '["b"]')]
        assert len(way.rejects()) == 2
        throw_away(way, follower)
        way.postgres.execute("UPDATE pairs SET note = 'short' WHERE length(note) > 8")
        follower.drain()
    assert way.rejects() == []


def test_a_stray_of_a_program_that_has_the_lock(way: Way) -> None:
    """It commits only after the batch was tried: what the file had before is still known then."""
    with watching(way) as follower:
        follower.drain()
        way.writer.run("BEGIN IMMEDIATE", "UPDATE counts SET n = 50 WHERE name = 'a'")
        way.postgres.execute("UPDATE counts SET n = 8 WHERE name = 'a'")
        with pytest.raises(SourceError, match="holds its lock"):
            follower.step()
        assert follower.can_wait
        way.writer.run("COMMIT")
        follower.drain()
        assert strays(way) == [("counts", '["a"]', '{"name":"a","n":1}', '{"name":"a","n":50}', "overwritten")]
        throw_away(way, follower)


def test_a_table_is_altered_while_the_mirror_reads_it(way: Way) -> None:
    """Neither of the two connections makes the other wait for a program."""
    with watching(way) as follower:
        way.postgres.execute("UPDATE counts SET n = 8 WHERE name = 'a'")
        follower.drain()
        with psycopg.connect(way.dsn, autocommit=True) as other, ThreadPoolExecutor(1) as pool:
            way.postgres.execute("UPDATE counts SET n = 9 WHERE name = 'a'")
            done = pool.submit(other.execute, "ALTER TABLE counts SET (fillfactor = 90)")
            until(lambda: follower.drain() is None and done.done())
        assert way.rows("SELECT n FROM counts WHERE name = 'a'") == [[9]]


@pytest.mark.slow
def test_known_strays_of_a_table_that_is_truncated(way: Way) -> None:
    with watching(way) as follower:
        way.writer.run("UPDATE loose SET w = 'astray' WHERE w = 'a'")
        until(lambda: follower.drain() is None and strays(way))
        way.postgres.execute("TRUNCATE loose")
        follower.drain()
        assert way.rows("SELECT * FROM loose") == []
        assert [(before, after, state) for *_, before, after, state in strays(way)] == [
            ('{"v":1,"w":"a"}', '{"v":1,"w":"astray"}', "overwritten")
        ]
        throw_away(way, follower)


@pytest.mark.slow
def test_a_table_that_is_truncated_just_before_it_is_compared(way: Way) -> None:
    """An earlier snapshot shows it empty, which says nothing of the file."""
    with watching(way) as follower:
        follower.drain()
        until(lambda: time.monotonic() > follower._watch._due)
        way.writer.run("UPDATE counts SET n = 50 WHERE name = 'b'")
        way.postgres.execute("TRUNCATE pairs")
        assert follower._before.is_open
        follower.drain()
        assert ("counts", "in file") in [(table, state) for table, *_, state in strays(way)]
        assert all(table == "counts" or state == "overwritten" for table, *_, state in strays(way))
        throw_away(way, follower)


def test_other_tables_than_the_truncated_one_are_compared(way: Way) -> None:
    """A table that is truncated whenever it is to be compared leaves only itself in doubt."""
    with watching(way) as follower:
        follower.drain()
        way.writer.run("UPDATE counts SET n = 50 WHERE name = 'b'")
        follower._watch._due = 0.0
        way.postgres.execute("TRUNCATE pairs")
        follower.drain()
        assert {table for table, *_ in strays(way)} == {"counts", "pairs"}
        follower._watch._due = 0.0
        way.postgres.execute("TRUNCATE loose")
        follower.drain()
        assert way.rows("SELECT * FROM loose") == []
        assert {table for table, *_ in strays(way)} == {"counts", "pairs"}
        throw_away(way, follower)


def test_a_table_that_is_truncated_all_the_time_is_not_in_doubt_for_ever(way: Way) -> None:
    """What a batch writes anew is no stray: a way back would be refused for as long as a program does that."""
    with watching(way) as follower:
        follower.drain()
        way.writer.run("UPDATE loose SET w = 'astray' WHERE w = 'a'")
        for number in range(1, 5):
            follower._watch._due = 0.0 if number == 4 else time.monotonic() + LIMIT
            way.postgres.execute(f"TRUNCATE counts; INSERT INTO counts VALUES ('x', {number}), ('y', {number})")
            follower.drain()
        assert {key for table, key, *_ in strays(way) if table == "counts"} <= {'["a"]', '["b"]'}
        assert [key for table, key, *_ in strays(way) if table == "loose"] == ["[1]"]
        assert not follower._writer.foreign
        throw_away(way, follower)
