"""What a mirror of before has left goes on; what a newer one has made is refused by each command, and not changed."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import psycopg
import pytest

import mirror
from mirror.capture.spool import RECORD_HEADER_SIZE, segment_path, segments
from mirror.core.errors import NewerSchemaError
from mirror.core.folders import source_folder
from mirror.postgres.migrate import migrate, migrate_profile, schema_version, sql_directory
from mirror.postgres.profiles import PROFILES
from mirror.postgres.sink import Sink
from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.tenants import make_tables

NEWER = "INSERT INTO mirror.migrations (version, name, checksum, mirror_version) VALUES (99, '0099_x', 'x', '0.9.0')"


def as_before(folder: Path) -> None:
    """Take out of the files of a stopped mirror what a mirror of before did not write there."""
    changed = 0
    for path in folder.glob("*.json"):
        values = json.loads(path.read_bytes())
        assert values.pop("format") == 1 and values.pop("mirror") == mirror.__version__, path
        if "crc" in values:
            del values["crc"]
            values["crc"] = zlib.crc32(json.dumps(values).encode())
        path.write_bytes(json.dumps(values).encode())
        changed += 1
    assert changed >= 3
    for number in segments(folder / "spool"):
        path, at = segment_path(folder / "spool", number), 0
        data = bytearray(path.read_bytes())
        while at < len(data):
            head = data[at : at + RECORD_HEADER_SIZE]
            assert head[6:8] == b"\0\1"
            head[6:8] = b"\0\0"
            head[-4:] = struct.pack(">I", zlib.crc32(head[:-4]))
            data[at : at + RECORD_HEADER_SIZE] = head
            at += RECORD_HEADER_SIZE + int.from_bytes(head[44:48], "big")
        path.write_bytes(data)


def test_the_state_of_a_mirror_of_before(mirror: MirrorProcess, writer: Writer, dsn: str) -> None:
    """Nothing is copied again; the first migration that is missing names who has applied it from then on."""
    writer.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    mirror.start()
    writer.run("UPDATE t SET v = 'c' WHERE id = 2")
    mirror.wait_applied()
    assert mirror.stop() == 0
    folder = source_folder(mirror.state_dir, mirror.sources[0])
    lineage = json.loads((folder / "shadow.json").read_bytes())["lineage"]
    as_before(folder)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE mirror.migrations DROP COLUMN mirror_version")
    writer.run("INSERT INTO t VALUES (3, 'd')")
    mirror.start()
    mirror.check()
    assert mirror.stop() == 0
    saved = json.loads((folder / "shadow.json").read_bytes())
    assert saved["lineage"] == lineage, "the copy is the one of before"
    mirror.start()
    mirror.check()


def test_who_has_applied_a_migration(dsn: str) -> None:
    """Also where a mirror of before has made the table, and its own stay without a name."""
    last = schema_version()
    make_tables(dsn, up_to=(last - 1, 99))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("ALTER TABLE mirror.migrations DROP COLUMN mirror_version")
    Sink.open(dsn, "/source.db", "public", PROFILES).close()
    with psycopg.connect(dsn) as connection:
        made = connection.execute("SELECT mirror_version, count(*) FROM mirror.migrations GROUP BY 1 ORDER BY 2")
        assert made.fetchall() == [(mirror.__version__, 1), (None, last - 1)]


@pytest.fixture
def newer(folder: Path, dsn: str) -> CommandLine:
    """A source that is mirrored, into a schema that a newer mirror has migrated since."""
    with Writer(folder / "x.db") as writer:
        writer.run("PRAGMA journal_mode=WAL", "CREATE TABLE t(id INTEGER PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    cli = CommandLine(folder, dsn)
    assert cli.run("up", "x.db", "--once").code == 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(NEWER)
    return cli


def test_a_newer_schema(newer: CommandLine) -> None:
    told = (
        f"the schema mirror was made by mirror 0.9.0 (schema 99); this is mirror {mirror.__version__}"
        f" (schema {schema_version()}) -- upgrade this one: `pip install --upgrade 'mirror[embedded]'`"
    )
    for command in (("up", "x.db", "--once"), ("parity", "x.db"), ("rejects", "list", "x.db")):
        done = newer.run(*command)
        assert done.code == 2 and told in done.err.splitlines()[-1], done
    doctor = newer.run("doctor", "x.db")
    assert doctor.code == 1 and "✗ Postgres: the schema mirror was made by mirror 0.9.0 (schema 99)" in doctor.out
    plan = newer.run("cutover", "plan", "x.db")
    assert plan.code == 1 and "made by mirror 0.9.0 (schema 99)" in plan.out
    assert newer.dsn is not None
    with psycopg.connect(newer.dsn) as connection:
        found = connection.execute("SELECT count(*) FROM mirror.migrations").fetchone()
    assert found == (schema_version() + 1,), "nothing is changed there"


def test_newer_state_files(newer: CommandLine, dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DELETE FROM mirror.migrations WHERE version = 99")
    folder = newer.source_folder(newer.folder / "x.db")
    for name in ("settings.json", "shadow.json"):
        path = folder / name
        before = path.read_bytes()
        values = json.loads(before) | {"format": 2, "mirror": "0.9.0"}
        if values.pop("crc", None) is not None:
            values["crc"] = zlib.crc32(json.dumps(values).encode())
        path.write_bytes(json.dumps(values).encode())
        done = newer.run("up", "x.db", "--once")
        assert done.code == 2, done
        told = f"{path}): it was made by mirror 0.9.0 (state format 2); this is mirror {mirror.__version__}"
        assert told in done.err.splitlines()[-1] and "pip install --upgrade" in done.err.splitlines()[-1]
        if name == "settings.json":
            doctor = newer.run("doctor", "x.db")
            assert doctor.code == 1 and "made by mirror 0.9.0" in doctor.out
            status = newer.run("status", "x.db")
            assert "made by mirror 0.9.0" in status.out + status.err
        path.write_bytes(before)
    assert newer.run("up", "x.db", "--once").code == 0


def test_newer_tables_of_a_profile(dsn: str) -> None:
    make_tables(dsn)
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.RawCursor) as connection:
        connection.execute(
            "INSERT INTO mirror.profile_migrations (schema_name, profile, version, name, checksum)"
            " VALUES ('public', 'memustore', 99, '0099_x', 'x')"
        )
        with pytest.raises(NewerSchemaError, match=r"tables of memustore in public \(version 99\); this is mirror"):
            migrate_profile(connection, "memustore", "public")
        assert migrate(connection) == []


def test_the_version_says_what_it_knows(folder: Path) -> None:
    numbers = [int(path.name[:4]) for path in (sql_directory() / "migrations").glob("0*.sql")]
    out = CommandLine(folder).run("--version").out
    assert out == f"mirror {mirror.__version__} (schema {max(numbers)}, state format 1)\n"
