"""A source that is mirrored live into the tables that its application's own migrations made in Postgres."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from mirror.postgres.large import LARGE_BYTES
from tests.support.commands import CommandLine
from tests.support.mirrors import MirrorProcess
from tests.support.source import Writer
from tests.support.waiting import until

#: What the application's migrations make on each side.
IN_SQLITE = (
    "CREATE TABLE category(id INTEGER PRIMARY KEY AUTOINCREMENT, name VARCHAR(40) NOT NULL UNIQUE,"
    " parent_id INTEGER REFERENCES category(id))",
    "CREATE TABLE product(id CHAR(32) PRIMARY KEY, name VARCHAR(10) NOT NULL, price DECIMAL NOT NULL,"
    " made DATETIME NOT NULL, tags TEXT NOT NULL, kind VARCHAR(10) NOT NULL, category_id INTEGER NOT NULL"
    " REFERENCES category(id), sold BOOL NOT NULL, worth DECIMAL)",
    "CREATE TABLE visit(at DATETIME NOT NULL, page TEXT)",
    "CREATE TABLE cache_entry(k TEXT PRIMARY KEY, v BLOB)",
)
IN_POSTGRES = """
    CREATE TYPE kind AS ENUM ('book', 'Tool', 'it''s');
    CREATE TABLE category(
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name varchar(40) NOT NULL UNIQUE,
        parent_id bigint REFERENCES category ON DELETE CASCADE);
    CREATE TABLE product(
        id uuid PRIMARY KEY, name varchar(10) NOT NULL, price numeric(8,2) NOT NULL CHECK (price >= 0),
        made timestamptz NOT NULL, tags jsonb NOT NULL, kind kind NOT NULL,
        category_id bigint NOT NULL REFERENCES category DEFERRABLE INITIALLY DEFERRED, sold boolean NOT NULL,
        worth numeric(12,2) GENERATED ALWAYS AS (price * 2) STORED);
    CREATE TABLE visit(at timestamp NOT NULL, page text);
    CREATE FUNCTION counts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO visit VALUES ('2000-01-01', 'a trigger was here'); RETURN NULL; END $$;
    CREATE TRIGGER counts AFTER INSERT OR UPDATE ON product FOR EACH ROW EXECUTE FUNCTION counts();
    INSERT INTO category OVERRIDING SYSTEM VALUE VALUES (1, 'seeded');
"""
ROWS = (
    "INSERT INTO category VALUES (1, 'things', NULL), (2, 'small things', 1), (3, 'orphan', 99)",
    "INSERT INTO product VALUES ('0123456789abcdef0123456789abcdef', 'a', 1.5, '2026-01-02 03:04:05.678901',"
    " '{\"a\": [1, 2.50]}', 'book', 2, 1, NULL), ('1123456789abcdef0123456789abcdef', 'b', 12, '2026-01-02 03:04:05',"
    " '[]', 'it''s', 77, 0, NULL)",
    "INSERT INTO visit VALUES ('2026-01-02 00:00:00', 'x'), ('2026-01-02 00:00:00', 'x'),"
    " ('2026-01-03 00:00:00', NULL)",
)


#: The same, with a key of which the declared type does not say how it is written.
UNDECIDED = tuple(each.replace("CHAR(32)", "TEXT") for each in IN_SQLITE)


@pytest.fixture
def app(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(IN_POSTGRES)
        yield connection


@pytest.fixture
def cli(folder: Path, dsn: str) -> CommandLine:
    return CommandLine(folder, dsn)


def adopt(cli: CommandLine, database: Path, *more: str) -> None:
    done = cli.run("adopt", database, "--exclude", "cache_*", *more)
    assert done.code == 0, done.out + done.err


@pytest.fixture
def adopted(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer, mirror: MirrorProcess
) -> MirrorProcess:
    """A mirror that follows into the application's tables, which have all rows."""
    writer.run(*IN_SQLITE, *ROWS)
    adopt(cli, database)
    mirror.start()
    mirror.check()
    return mirror


def test_into_the_applications_tables(app: psycopg.Connection[Any], writer: Writer, adopted: MirrorProcess) -> None:
    assert adopted.status()["refusals"] == []
    found = app.execute(
        "SELECT id::text, name, price, made::text, tags, kind::text, sold, worth FROM product ORDER BY 1"
    ).fetchall()
    assert [str(value) for value in found[0]] == [
        "01234567-89ab-cdef-0123-456789abcdef", "a", "1.50", "2026-01-02 03:04:05.678901+00", "{'a': [1, 2.5]}", "book",
        "True", "3.00",
    ]  # fmt: skip
    assert app.execute("SELECT name FROM category ORDER BY id").fetchall() == [
        ("things",),
        ("small things",),
        ("orphan",),
    ]
    assert app.execute("SELECT count(*) FROM visit").fetchone() == (3,), "no trigger has fired"
    # Two rows exchange a unique value, one is deleted to which another refers, and one changes its key.
    writer.run(
        "UPDATE category SET name = 'swap' WHERE id = 1",
        "UPDATE category SET name = 'things' WHERE id = 2",
        "UPDATE category SET name = 'small things' WHERE id = 1",
    )
    writer.transaction(
        "UPDATE category SET name = 'x' WHERE id = 1",
        "UPDATE category SET name = 'small things' WHERE id = 2",
        "UPDATE category SET name = 'things' WHERE id = 1",
    )
    writer.run(
        "DELETE FROM category WHERE id = 1",
        "UPDATE product SET id = '2123456789abcdef0123456789abcdef' WHERE name = 'b'",
        "DELETE FROM visit WHERE page IS NULL",
    )
    adopted.check()
    assert app.execute("SELECT id, name FROM category ORDER BY 1").fetchall() == [(2, "small things"), (3, "orphan")]
    assert app.execute("SELECT count(*) FROM visit").fetchone() == (2,)


def constraints(app: psycopg.Connection[Any]) -> list[str]:
    found = app.execute(
        "SELECT conrelid::regclass || ': ' || pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'f' AND connamespace = 'public'::regnamespace ORDER BY 1"
    )
    return [name for (name,) in found]


def owned(app: psycopg.Connection[Any]) -> str:
    """Make the tables anew, as a role that is no superuser, and take that role; its name."""
    owner = f"{app.info.dbname}_owner"
    for table in ("category", "product", "visit"):
        app.execute(f"DROP TABLE IF EXISTS {table} CASCADE".encode())
    app.execute("DROP FUNCTION counts; DROP TYPE kind")
    app.execute(f"CREATE ROLE {owner} LOGIN; GRANT CREATE ON DATABASE {app.info.dbname} TO {owner}".encode())
    app.execute(f"ALTER SCHEMA public OWNER TO {owner}; SET ROLE {owner}".encode())
    app.execute(IN_POSTGRES)
    return owner


def test_as_the_owner_of_the_tables_who_is_no_superuser(
    folder: Path,
    app: psycopg.Connection[Any],
    database: Path,
    writer: Writer,
    make_mirror: Callable[..., MirrorProcess],
) -> None:
    """Foreign keys and triggers are set aside, and are there again when the source is removed."""
    owner = owned(app)
    before = constraints(app)
    cli = CommandLine(folder, make_conninfo(app.info.dsn, user=owner))
    writer.run(*IN_SQLITE, *ROWS)
    adopt(cli, database)
    mirror = make_mirror(database)
    mirror.its_dsn = str(cli.dsn)
    mirror.start()
    mirror.check()
    assert constraints(app) == []
    writer.run("DELETE FROM category WHERE id = 1", "UPDATE product SET price = 9")
    mirror.check()
    assert app.execute("SELECT id FROM category ORDER BY 1").fetchall() == [(2,), (3,)], "nothing cascades"
    # A migration of the application makes one again, which is set aside again with the next start.
    app.execute(
        "ALTER TABLE category ADD CONSTRAINT category_parent_id_fkey FOREIGN KEY (parent_id)"
        " REFERENCES category ON DELETE CASCADE NOT VALID; ALTER TABLE product ENABLE TRIGGER counts"
    )
    mirror.stop()
    mirror.start()
    mirror.check()
    assert constraints(app) == []
    assert app.execute("SELECT count(*) FROM visit").fetchone() == (3,)
    mirror.stop()
    done = cli.run("remove", database, "--drop-tables", "--yes", "--state-dir", mirror.state_dir)
    assert done.code == 0, done.err
    assert [each.removesuffix(" NOT VALID") for each in constraints(app)] == before
    assert app.execute("SELECT count(*) FROM product").fetchone() == (2,), "the tables are not the mirror's to drop"
    app.execute("UPDATE product SET price = 8")
    assert app.execute("SELECT count(*) FROM visit").fetchone() == (5,), "the trigger is on again"
    assert app.execute(
        "SELECT count(*) FROM pg_attribute WHERE attname = '_rowid' AND NOT attisdropped"
    ).fetchone() == (0,)


def test_policies_that_are_forced_while_it_is_mirrored(
    folder: Path,
    app: psycopg.Connection[Any],
    database: Path,
    writer: Writer,
    make_mirror: Callable[..., MirrorProcess],
) -> None:
    """What waits says which table it is, and what helps; then it goes on."""
    owner = owned(app)
    cli = CommandLine(folder, make_conninfo(app.info.dsn, user=owner))
    writer.run(*IN_SQLITE, *ROWS)
    adopt(cli, database)
    mirror = make_mirror(database)
    mirror.its_dsn = str(cli.dsn)
    mirror.start()
    mirror.check()
    app.execute("ALTER TABLE product ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    writer.run("UPDATE product SET price = 9")
    error = mirror.status_when(lambda status: "FORCE ROW LEVEL SECURITY" in (status["last_error"] or ""))["last_error"]
    assert 'ALTER TABLE "public"."product" NO FORCE ROW LEVEL SECURITY' in error, error
    app.execute("ALTER TABLE product NO FORCE ROW LEVEL SECURITY")
    mirror.check()


def test_rows_that_break_a_constraint_are_rejects(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer, mirror: MirrorProcess
) -> None:
    """In a first copy, into tables with and without rows, in a batch and in a large one; they heal by themselves."""
    writer.run(*IN_SQLITE, *ROWS)
    writer.run(
        "INSERT INTO product SELECT 'f' || substr(id, 1, 31), 'neg', -1, made, tags, kind, category_id, sold, worth"
        " FROM product"
    )
    adopt(cli, database)
    mirror.start()
    mirror.check()
    assert mirror.status()["rejects"] == 2
    writer.run("UPDATE product SET price = -5 WHERE name = 'a'", "UPDATE product SET made = 'now' WHERE name = 'b'")
    mirror.check()
    assert mirror.status()["rejects"] == 4 and app.execute("SELECT count(*) FROM product").fetchone() == (0,)
    writer.run("UPDATE product SET price = 5, made = '2026-01-02 03:04:05'")
    mirror.check()
    assert mirror.status()["rejects"] == 0 and app.execute("SELECT count(*) FROM product").fetchone() == (4,)
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
    writer.run(
        f"INSERT INTO product {many} SELECT printf('%032x', i), 'n', i % 100 - 1, '2026-01-02 03:04:05', '{{}}',"
        " 'book', 1, 0, NULL FROM n"
    )
    mirror.check()
    assert mirror.status()["rejects"] == 30


@pytest.mark.parametrize("seam", ["load:table", "load:before-commit", "load:after-commit", "apply:before-commit"])
def test_killed_and_started_again(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer, mirror: MirrorProcess, seam: str
) -> None:
    writer.run(*IN_SQLITE, *ROWS)
    adopt(cli, database)
    mirror.start(kill_at=seam, wait=False)
    if seam.startswith("apply"):
        mirror.settle()
        writer.run("UPDATE category SET name = name || '!'")
    mirror.wait_killed()
    writer.run("UPDATE product SET price = price + 1", "INSERT INTO visit VALUES ('2026-02-02 00:00:00', 'late')")
    mirror.start()
    mirror.check()
    assert app.execute("SELECT count(*) FROM visit").fetchone() == (4,)


def test_a_migration_on_both_sides(app: psycopg.Connection[Any], writer: Writer, adopted: MirrorProcess) -> None:
    """What SQLite has first is refused until Postgres has it; the rows of others go on."""
    writer.run("ALTER TABLE product ADD COLUMN weight INTEGER", "UPDATE product SET weight = 3")
    refused = adopted.status_when(lambda status: bool(status["refusals"]))["refusals"]
    assert [each["table"] for each in refused] == ["product"] and "no column weight" in refused[0]["reason"]
    writer.run("UPDATE category SET name = 'goes on' WHERE id = 3")
    app.execute("ALTER TABLE product ADD COLUMN weight integer")
    adopted.status_when(lambda status: not status["refusals"])
    adopted.check()
    assert app.execute("SELECT sum(weight) FROM product").fetchone() == (6,)
    # As Django changes a table: made anew under another name, filled, and renamed.
    writer.transaction(
        "CREATE TABLE new__visit(at DATETIME NOT NULL, page TEXT, n INTEGER)",
        "INSERT INTO new__visit SELECT at, page, 7 FROM visit",
        "DROP TABLE visit",
        "ALTER TABLE new__visit RENAME TO visit",
    )
    app.execute("ALTER TABLE visit ADD COLUMN n integer")
    adopted.status_when(lambda status: not status["refusals"])
    adopted.check()
    assert app.execute("SELECT sum(n) FROM visit").fetchone() == (21,)


def test_what_others_wrote_is_found_and_repaired(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, adopted: MirrorProcess
) -> None:
    app.execute("ALTER TABLE product DISABLE TRIGGER counts")
    app.execute("UPDATE category SET name = CASE id WHEN 1 THEN 'small' ELSE 'big' END WHERE id < 3")
    app.execute("DELETE FROM product WHERE name = 'a'; UPDATE product SET made = made + interval '1 microsecond'")
    app.execute("INSERT INTO visit (at, page) VALUES ('2026-05-05', 'theirs')")
    report = adopted.parity()
    assert report.verdict == "different"
    wrong = {each.table: (each.missing, each.extra, each.different) for each in report.tables}
    assert wrong == {"category": (0, 0, 2), "product": (1, 0, 1), "visit": (0, 1, 0)}
    repaired = cli.run(
        "parity", database, "--repair", "--replace-rows", "--state-dir", adopted.state_dir, "--schema", "public"
    )
    assert repaired.code == 0, repaired.out + repaired.err
    adopted.check()
    assert app.execute("SELECT count(*) FROM mirror.repairs").fetchone() == (5,)


def test_rows_that_the_source_never_had(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer, mirror: MirrorProcess
) -> None:
    """They block an adoption unless somebody has said that they may go; those that came after it are refused, too."""
    writer.run(*IN_SQLITE, *ROWS)
    app.execute("INSERT INTO category OVERRIDING SYSTEM VALUE VALUES (50, 'theirs')")
    done = cli.run("adopt", database, "--exclude", "cache_*")
    assert done.code == 1 and "--replace-rows" in done.out, done
    app.execute("DELETE FROM category WHERE id = 50")
    adopt(cli, database)
    app.execute("INSERT INTO category OVERRIDING SYSTEM VALUE VALUES (50, 'theirs')")
    mirror.start()
    (refused,) = mirror.status_when(lambda status: bool(status["refusals"]))["refusals"]
    assert refused["table"] == "category" and "1 row of public.category is not in the source" in refused["reason"]
    assert app.execute("SELECT name FROM category WHERE id = 50").fetchone() == ("theirs",)
    mirror.stop()
    adopt(cli, database, "--replace-rows")
    mirror.start()
    mirror.check()
    assert app.execute("SELECT max(id) FROM category").fetchone() == (3,)


def test_no_profile_and_no_agent(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer, mirror: MirrorProcess
) -> None:
    """Both say how the mirror's own tables are made."""
    writer.run(*IN_SQLITE, *ROWS)
    adopt(cli, database)
    for option in ("--profile", "generic"), ("--agent", "main"):
        done = cli.run("up", database, "--once", *option)
        assert done.code == 2 and ("it was adopted" in done.error or "without an agent" in done.error), done
    mirror.start()
    mirror.check()


def test_two_forms_of_one_key(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer, mirror: MirrorProcess
) -> None:
    """No row of SQLite is lost in another unseen, though no form of the key was decided: there was no row then."""
    writer.run(*UNDECIDED)
    adopt(cli, database, "--replace-rows")
    mirror.start()
    row = "'n', 1, '2026-01-02 03:04:05', '{}', 'book', 1, 0, NULL"
    dashed = "01234567-89ab-cdef-0123-456789abcdef"
    writer.run(f"INSERT INTO product VALUES ('{dashed}', {row})")
    mirror.check()
    writer.run(f"INSERT INTO product VALUES ('{dashed.upper()}', {row})")
    writer.run(f"INSERT INTO product VALUES ('{dashed.replace('-', '')}', {row})")
    mirror.check()
    assert mirror.status()["rejects"] == 2
    assert app.execute("SELECT count(*) FROM product").fetchone() == (1,)
    writer.run("DELETE FROM product WHERE id LIKE '%-%'")
    mirror.check()


def test_two_forms_of_one_key_in_a_first_copy(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer, mirror: MirrorProcess
) -> None:
    """Also into a table that has rows."""
    writer.run(*UNDECIDED)
    adopt(cli, database, "--replace-rows")
    row = "'n', 1, '2026-01-02 03:04:05', '{}', 'book', 1"
    dashed = "01234567-89ab-cdef-0123-456789abcdef"
    for key in (dashed, dashed.upper(), dashed.replace("-", "")):
        writer.run(f"INSERT INTO product VALUES ('{key}', {row}, 0, NULL)")
    app.execute(f"INSERT INTO product VALUES ('11111111-89ab-cdef-0123-456789abcdef', {row}, false)".encode())
    mirror.start()
    mirror.check()
    assert mirror.status()["rejects"] == 2
    assert app.execute("SELECT count(*) FROM product").fetchone() == (1,)


def test_long_names_and_a_column_that_is_called_so(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer, mirror: MirrorProcess
) -> None:
    """Tables without a key get the mirror's own column; one that has its own of that name keeps it."""
    first, second = "t" * 60 + "1", "t" * 60 + "2"
    for name in (first, second):
        writer.run(f"CREATE TABLE {name}(v TEXT)", f"INSERT INTO {name} VALUES ('x'), ('x')")
        app.execute(f"CREATE TABLE {name}(v text)".encode())
    writer.run("CREATE TABLE own(v TEXT)", "INSERT INTO own VALUES ('x')")
    app.execute("CREATE TABLE own(v text, _rowid bigint)")
    adopt(cli, database)
    mirror.start()
    (refused,) = mirror.status_when(lambda status: bool(status["refusals"]))["refusals"]
    assert refused["table"] == "own" and "has a column _rowid of its own" in refused["reason"]
    mirror.wait_applied()
    assert {each.table: each.status for each in mirror.parity().tables} == {
        first: "equal", second: "equal", "own": "not mirrored"
    }  # fmt: skip
    mirror.stop()
    assert cli.run("remove", database, "--drop-tables", "--yes", "--state-dir", mirror.state_dir).code == 0
    columns = "SELECT attrelid::regclass::text FROM pg_attribute WHERE attname = '_rowid' AND NOT attisdropped"
    assert app.execute(columns.encode()).fetchall() == [("own",)]


def test_orphans_are_not_called_valid(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer, mirror: MirrorProcess
) -> None:
    """A foreign key that did not act on what the mirror wrote is looked at when the tables are given back."""
    writer.run(*IN_SQLITE, *ROWS, "UPDATE product SET category_id = 1")
    adopt(cli, database)
    mirror.start()
    mirror.check()
    mirror.stop()
    done = cli.run("remove", database, "--drop-tables", "--yes", "--state-dir", mirror.state_dir)
    assert done.code == 0 and "NOT VALID: public.category: category_parent_id_fkey" in done.out, done
    assert [each.endswith("NOT VALID") for each in constraints(app)] == [True, False]


def test_a_large_row_that_changes_in_a_unique_key(
    cli: CommandLine, app: psycopg.Connection[Any], database: Path, writer: Writer, mirror: MirrorProcess
) -> None:
    """Among many others: it is sent by itself, and stays."""
    writer.run("CREATE TABLE doc(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, body TEXT)")
    app.execute("CREATE TABLE doc(id bigint PRIMARY KEY, name text NOT NULL UNIQUE, body text)")
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
    writer.run(f"INSERT INTO doc {many} SELECT i, 'n' || i, 'x' FROM n")
    adopt(cli, database)
    mirror.start()
    mirror.check()
    writer.run(f"UPDATE doc SET name = 'm' || id, body = CASE id WHEN 7 THEN hex(zeroblob({LARGE_BYTES})) ELSE 'y' END")
    mirror.check()
    assert app.execute("SELECT count(*), max(octet_length(body)) FROM doc").fetchone() == (3000, 2 * LARGE_BYTES)


def test_characters_of_a_fixed_number(
    cli: CommandLine, dsn: str, database: Path, writer: Writer, mirror: MirrorProcess
) -> None:
    """A type that SQL names otherwise where it has a limit, also in arrays and as the key."""
    with psycopg.connect(dsn, autocommit=True) as app:
        app.execute('CREATE TABLE fixed(lock char(1) PRIMARY KEY, code char(3), codes char(2)[], "any" bpchar)')
        writer.run(
            'CREATE TABLE fixed(lock CHAR(1) PRIMARY KEY, code CHAR(3), codes TEXT, "any" TEXT)',
            "INSERT INTO fixed VALUES ('X', 'ab', '[\"a\", null]', 'any'), ('Y', NULL, NULL, NULL)",
        )
        adopt(cli, database)
        mirror.start()
        mirror.check()
        writer.run("UPDATE fixed SET code = 'c', codes = '[]' WHERE lock = 'Y'", "DELETE FROM fixed WHERE lock = 'X'")
        mirror.check()
        assert app.execute("SELECT * FROM fixed").fetchall() == [("Y", "c  ", [], None)]


@pytest.mark.parametrize("many", [False, True], ids=["few", "many"])
@pytest.mark.parametrize(
    ("theirs", "steps"),
    [
        ("CREATE UNIQUE INDEX one ON thing (owner) WHERE main", ("main = 0 WHERE id = 3", "main = 1 WHERE id = 1")),
        ("CREATE UNIQUE INDEX one ON thing (lower(name))", ("name = 'gone' WHERE id = 3", "name = 'C' WHERE id = 1")),
        ("ALTER TABLE thing ADD EXCLUDE USING btree (n WITH =)", ("n = 9 WHERE id = 3", "n = 3 WHERE id = 1")),
        ("CREATE UNIQUE INDEX one ON thing (n) INCLUDE (name)", ("n = 9 WHERE id = 3", "n = 3 WHERE id = 1")),
    ],
    ids=["partial", "expression", "exclude", "include"],
)
def test_what_is_unique_goes_from_one_row_to_another(
    cli: CommandLine, dsn: str, database: Path, writer: Writer, mirror: MirrorProcess, theirs: str,
    steps: tuple[str, str], many: bool,
) -> None:  # fmt: skip
    """In one transaction of SQLite, whatever kind of constraint Postgres has."""
    with psycopg.connect(dsn, autocommit=True) as app:
        app.execute("CREATE TABLE thing(id int PRIMARY KEY, owner int, main boolean, name text, n int)")
        app.execute(theirs.encode())
        writer.run(
            "CREATE TABLE thing(id INTEGER PRIMARY KEY, owner INTEGER, main INTEGER, name TEXT, n INTEGER)",
            "INSERT INTO thing VALUES (1, 1, 0, 'a', 1), (2, 1, 0, 'b', 2), (3, 1, 1, 'c', 3)",
        )
        adopt(cli, database)
        mirror.start()
        mirror.check()
        rows = "WITH RECURSIVE r(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM r WHERE i < 1000)"
        insert = f"INSERT INTO thing {rows} SELECT i, i, 0, 'r' || i, 1000 + i FROM r"
        writer.run("BEGIN", *(f"UPDATE thing SET {step}" for step in steps), *([insert] * many), "COMMIT")
        mirror.check()
        assert not mirror.status()["rejects"]


def test_adopted_again_beside_a_mirror(
    cli: CommandLine, dsn: str, database: Path, writer: Writer, mirror: MirrorProcess
) -> None:
    """What was decided then is not replaced by what was decided before; the mirror goes by it from its next start."""
    with psycopg.connect(dsn, autocommit=True) as app:
        app.execute("CREATE TABLE pay(id int PRIMARY KEY, took interval); CREATE TABLE later(id uuid PRIMARY KEY)")
        writer.run("CREATE TABLE pay(id INTEGER PRIMARY KEY, took INTEGER)", "INSERT INTO pay VALUES (1, 1000)")
        adopt(cli, database, "--unit", "pay.took=s", "--replace-rows")
        mirror.start()
        mirror.check()
        assert app.execute("SELECT extract(epoch FROM took)::int FROM pay").fetchall() == [(1000,)]
        adopt(cli, database, "--unit", "pay.took=ms")
        writer.run("CREATE TABLE later(id TEXT PRIMARY KEY)", f"INSERT INTO later VALUES ('{32 * 'a'}')")
        only = "SELECT decisions #>> '{only,later,id}' FROM mirror.adoptions"
        until(lambda: app.execute(only).fetchone() == ("hex",))
        ((kept,),) = app.execute("SELECT decisions FROM mirror.adoptions").fetchall()
        assert kept["units"] == {"pay": {"took": "ms"}} and not kept.get("replace_rows")
        mirror.stop()
        mirror.start()
        mirror.check()
        assert app.execute("SELECT extract(epoch FROM took)::int FROM pay").fetchall() == [(1,)]
        assert app.execute("SELECT count(*) FROM later").fetchone() == (1,)


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        ("CREATE TABLE thing(id int PRIMARY KEY) PARTITION BY RANGE (id)", "it is partitioned in Postgres"),
        (
            "CREATE TABLE thing(id int PRIMARY KEY); CREATE TABLE more(w text) INHERITS (thing)",
            "other tables inherit from it",
        ),
    ],
    ids=["partitioned", "inherited"],
)
def test_a_table_of_several_parts_is_refused(
    cli: CommandLine, dsn: str, database: Path, writer: Writer, theirs: str, why: str
) -> None:
    with psycopg.connect(dsn, autocommit=True) as app:
        app.execute(theirs.encode())
    writer.run("CREATE TABLE thing(id INTEGER PRIMARY KEY)")
    done = cli.run("adopt", database)
    assert done.code == 1 and why in " ".join(done.out.split()) and "--exclude thing" in done.out, done.out
