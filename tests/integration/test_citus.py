"""What the tables of agents need to be spread over a Citus cluster, as far as it can be seen without one.

``scripts/citus-check.sh`` proves the rest on a cluster. Here a plain Postgres says of its tables that Citus has them,
so that the mirror sends what it would send there; each statement is read as it goes by.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pglast import ast, parse_sql
from pglast.visitors import Visitor

from mirror.postgres.migrate import sql_directory
from tests.support.commands import CommandLine
from tests.support.memustore import create_store, item, vector
from tests.support.mirrors import MirrorProcess
from tests.support.postgres import PostgresServer
from tests.support.source import Writer
from tests.support.statements import Listener, Used, uses_of

ROOT = Path(__file__).parents[2]
DISTRIBUTE = (sql_directory() / "citus" / "distribute.sql").read_text()
#: More than go as single statements.
MANY = 800
#: Statements that change rows in place.
CHANGES = {"UpdateStmt", "DeleteStmt", "MergeStmt"}
#: Triggers that look at their row alone.
OF_THE_ROW = {"visibility_of_new", "visibility_of_changed"}


@pytest.fixture
def listener(dsn: str) -> Iterator[Listener]:
    with Listener(dsn) as proxy:
        yield proxy


@pytest.fixture
def cli(folder: Path, listener: Listener) -> CommandLine:
    return CommandLine(folder, listener.dsn)


def run(dsn: str, *commands: str) -> list[tuple[Any, ...]]:
    """Run statements; the rows of the last one."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        for command in commands:
            cursor = connection.execute(command.encode())
        return cursor.fetchall() if cursor.description else []


def say_that_citus_has_all(dsn: str) -> None:
    """From now on each table in ``public`` is in Citus' catalogue."""
    run(
        dsn,
        "SET allow_system_table_mods = on; CREATE VIEW pg_catalog.pg_dist_partition AS"
        " SELECT c.oid::regclass AS logicalrelid FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace"
        " AND c.relkind = 'r'",
    )


def refused_by_citus(listener: Listener) -> list[Used]:
    """Statements in which a mirrored table and a temporary one meet; and changes of rows with any other that is not on
    the nodes; and an operator that compares images, which Citus writes for the nodes as something else."""
    found = []
    for text in listener.texts:
        for used in uses_of(text):
            mirrored = {name for schema, name in used.reads if schema == "public"}
            temporary = {name for schema, name in used.reads if schema == "pg_temp"}
            of_the_coordinator = {name for schema, name in used.reads if schema in ("pg_temp", "mirror")}
            joined = mirrored and (temporary or (used.kind in CHANGES and of_the_coordinator))
            into = used.target is not None and used.target[0] == "public"
            if joined or ((mirrored or into) and used.operators & {"*<>", "*="}):
                found.append(used)
    return found


class Store:
    """A memory store, and the mirror of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = create_store(path)

    #: ``{0}``: after which number.
    fill = (
        f"WITH RECURSIVE n(i) AS (SELECT {{0}} UNION ALL SELECT i + 1 FROM n WHERE i < {{0}} + {MANY})"
        " INSERT INTO memory_items(id, memory_type, summary, extra)"
        " SELECT i, 'fact', 'tea ' || i, json_object('n', i) FROM n",
        "INSERT INTO category_items SELECT id, 'work' FROM memory_items WHERE id NOT IN"
        " (SELECT item_id FROM category_items)",
    )
    begin = "INSERT INTO memory_categories(id, name) VALUES ('work', 'work'), ('home', 'home')"
    change = (
        "UPDATE memory_items SET summary = summary || '!' WHERE id % 2 = 0",
        "DELETE FROM category_items WHERE item_id % 3 = 0",
        "UPDATE category_items SET category_id = 'home'",  # its key
        "DELETE FROM memory_items WHERE id % 5 = 0",
    )
    odd = "INSERT INTO memory_items(id, memory_type, summary) SELECT 'odd', 'fact', 'no'"
    large = "UPDATE memory_items SET summary = hex(zeroblob(3000000)) WHERE id = '7'"
    rejected = ("UPDATE memory_items SET reflection = x'00' WHERE id % 7 = 0", "UPDATE memory_items SET lesson = id")
    check = "ALTER TABLE memory_items ADD CHECK (summary <> 'no')"
    uncheck = "ALTER TABLE memory_items DROP CONSTRAINT memory_items_summary_check"
    damage = (
        "UPDATE memory_items SET summary = 'by hand' WHERE id LIKE '1%'",
        "DELETE FROM category_items WHERE item_id LIKE '2%'",
    )
    tables = "memory_items", "category_items"


class AnyFile(Store):
    """A file of any program: tables that are its own, with a number for a key, with three columns, with none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = Writer(path)
        self.writer.run(
            "PRAGMA journal_mode=WAL",
            "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)",
            'CREATE TABLE k(a REAL, "given k" TEXT, c, v JSON, PRIMARY KEY(a, "given k", c)) WITHOUT ROWID',
            "CREATE TABLE w(v TEXT)",
        )

    fill = (
        f"WITH RECURSIVE n(i) AS (SELECT {{0}} UNION ALL SELECT i + 1 FROM n WHERE i < {{0}} + {MANY})"
        " INSERT INTO t SELECT i, 'tea ' || i FROM n",
        "INSERT INTO k SELECT id * 0.5, v, id, json_object('n', id) FROM t WHERE id >= {0}",
        "INSERT INTO w SELECT v FROM t WHERE id >= {0}",
    )
    begin = "INSERT INTO w VALUES ('first')"
    change = (
        "UPDATE t SET v = v || '!' WHERE id % 2 = 0",
        "UPDATE k SET c = -c WHERE c % 3 = 0",
        "UPDATE k SET v = json_object('m', 1.0) WHERE c % 3 = 1",
        "DELETE FROM t WHERE id % 5 = 0",
        "DELETE FROM w WHERE rowid % 2 = 0",
    )
    odd = "INSERT INTO t VALUES (-1, 'no')"
    large = "UPDATE t SET v = hex(zeroblob(3000000)) WHERE id = 7"
    rejected = (
        "INSERT INTO k SELECT id, hex(randomblob(3000)), 1, 1 FROM t WHERE id % 7 = 0",
        "UPDATE t SET v = v || '?'",
    )
    check = "ALTER TABLE t ADD CHECK (v <> 'no')"
    uncheck = "ALTER TABLE t DROP CONSTRAINT t_v_check"
    damage = "UPDATE t SET v = 'by hand' WHERE id < 30", "DELETE FROM k WHERE a < 20", "DELETE FROM w WHERE _rowid < 9"
    tables = "t", "k", "w"


@pytest.mark.parametrize("kind", [Store, AnyFile])
def test_no_statement_joins_a_temporary_table_with_a_mirrored_one(
    kind: type[Store], folder: Path, dsn: str, listener: Listener, cli: CommandLine
) -> None:
    """Not in a large batch, one with refused and large rows, a whole load, a repair, or a table that is sent again.

    The same with tables that are not in Citus is found, so the test can see it; and what is written is right.
    """
    store = kind(folder / "source.db")
    mirror = MirrorProcess([store.path], dsn, cli.state_dir)
    mirror.its_dsn = listener.dsn
    if kind is Store:
        mirror.agents[store.path] = "ada"
    try:
        store.writer.run(store.begin)
        mirror.start()
        mirror.check()
        _large_batches(store, mirror, 10)
        assert {used.kind for used in refused_by_citus(listener)} == {"DeleteStmt"}
        say_that_citus_has_all(dsn)
        listener.texts.clear()
        _large_batches(store, mirror, 2000)
        assert any("unnest(" in text for text in listener.texts)
        run(dsn, store.check)
        store.writer.transaction(store.odd, store.large, *(each.format(4000) for each in store.fill))
        mirror.status_when(lambda status: [each["table"] for each in status["refusals"]] == [store.tables[0]])
        run(dsn, store.uncheck)
        assert cli.run("rejects", "retry", store.path).code == 0
        mirror.check()
        store.writer.transaction(*store.rejected)  # of a table with rejects, to which more come and go
        store.writer.transaction(*store.change)
        mirror.check()

        run(dsn, *store.damage)
        done = cli.run("parity", store.path, "--repair", "--replace-rows", "--json")
        assert done.code in (0, 4) and json.loads(done.out)["reports"][0]["verdict"].startswith("equal"), done
        assert {table for (table,) in run(dsn, "SELECT target_table FROM mirror.repairs")} == set(store.tables)

        mirror.stop()
        shutil.rmtree(cli.state_dir)
        store.writer.transaction(*store.change)
        mirror.last_position.clear()
        mirror.start()
        mirror.check()
        assert any("record_image_ne" in text for text in listener.texts)
        assert refused_by_citus(listener) == []
    finally:
        mirror.end()
        store.writer.close()


def _large_batches(store: Store, mirror: MirrorProcess, first: int) -> None:
    store.writer.transaction(*(each.format(first) for each in store.fill))
    mirror.check()
    store.writer.transaction(*store.change)
    mirror.check()


def test_what_others_wrote_before_is_kept(folder: Path, dsn: str, listener: Listener, cli: CommandLine) -> None:
    """Their rows are known from before the tables were distributed; nothing is noted afterwards, and that is said."""
    path = folder / "ada.db"
    with create_store(path) as store:
        store.run(item("1"), item("2"), item("3", embedding=vector(1, 2)))
        assert cli.run("up", path, "--once", "--agent", "ada").code == 0
        run(dsn, "UPDATE memory_items SET summary = 'theirs' WHERE id <> '2'")
        say_that_citus_has_all(dsn)
        run(dsn, "DROP TRIGGER mirror_watch ON memory_items", "DROP TRIGGER mirror_watch_all ON memory_items")
        listener.texts.clear()
        shutil.rmtree(cli.state_dir)
        refused = cli.run("up", path, "--once")
        assert refused.code == 2 and "others than the mirror have written 2 rows of memory_items" in refused.err
        done = cli.run("up", path, "--once", "--replace-rows")
        assert done.code == 0 and "which rows others write there is not known: public." in done.err, done
        kept = run(dsn, "SELECT key, row_data ->> 'summary' FROM mirror.overwritten ORDER BY 1")
        assert kept == [(["1"], "theirs"), (["3"], "theirs")]
        assert run(dsn, "SELECT count(*) FROM memory_items WHERE summary = 'theirs'") == [(0,)]
        assert run(dsn, "SELECT FROM pg_trigger WHERE tgrelid = 'memory_items'::regclass AND tgname ~ 'watch'") == []
        assert refused_by_citus(listener) == []


@pytest.fixture(scope="module")
def profile(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A database with the tables of agents."""
    folder = tmp_path_factory.mktemp("store")
    dsn = postgres_server.create_database()
    mirror = MirrorProcess([folder / "ada.db"], dsn, folder / "state")
    mirror.agents[folder / "ada.db"] = "ada"
    with create_store(folder / "ada.db"):
        try:
            mirror.start()
            mirror.check()
        finally:
            mirror.end()
    yield dsn
    postgres_server.drop_database(dsn)


def distributed() -> set[str]:
    """The tables that distribute.sql spreads."""
    (names,) = re.findall(r"FROM unnest\(ARRAY\[([^]]+)\]\)", DISTRIBUTE)
    return set(re.findall(r"'(\w+)'", names))


class _Subqueries(Visitor):  # type: ignore[misc]
    def __init__(self) -> None:
        self.found = 0
        self.functions: set[str] = set()

    def visit_SubLink(self, _: Any, node: ast.SubLink) -> None:  # noqa: N802 - the parser's names
        self.found += 1

    def visit_FuncCall(self, _: Any, node: ast.FuncCall) -> None:  # noqa: N802
        self.functions.add(str(node.funcname[-1].sval))


def test_no_policy_has_a_subquery(profile: str) -> None:
    """Citus does not take one; and one function looks into a table, for which distribute.sql provides."""
    policies = run(
        profile,
        "SELECT polname, polrelid::regclass::text, coalesce(pg_get_expr(polqual, polrelid), 'true'),"
        " coalesce(pg_get_expr(polwithcheck, polrelid), 'true') FROM pg_policy",
    )
    seen = _Subqueries()
    for name, table, *conditions in policies:
        for condition in conditions:
            seen(parse_sql(f"SELECT {condition}"))
            assert seen.found == 0, (table, name, condition)
    assert {table for _, table, *_ in policies} >= distributed()
    assert seen.functions == {"current_setting", "asking_agent"}
    assert "ALTER FUNCTION asking_agent() SET citus.allow_nested_distributed_execution = on" in DISTRIBUTE


def test_every_table_of_agents_is_distributed_or_stays_for_a_reason(profile: str) -> None:
    """A table stays whose triggers look into others, or which belongs to such a one; it is named in the file."""
    tables = {
        name
        for (name,) in run(
            profile,
            "SELECT attrelid::regclass::text FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
            " WHERE attname = 'agent_id' AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace",
        )
    }
    triggers = run(
        profile,
        "SELECT tgrelid::regclass::text, tgname FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid"
        " WHERE NOT tgisinternal AND c.relnamespace = 'public'::regnamespace"
        " AND tgname NOT IN ('mirror_watch', 'mirror_watch_all')",
    )
    looking = {table for table, name in triggers if name not in OF_THE_ROW}
    assert len(distributed()) == 24 and distributed() < tables
    assert not distributed() & looking
    staying = tables - distributed() - {"agents", "memu_meta"}
    assert looking < staying
    for table in staying:
        assert re.search(rf"\b{table}\b", DISTRIBUTE), table
    assert f"{len(distributed())} tables" in (ROOT / "scripts" / "citus-check.sh").read_text()


def test_every_unique_index_of_a_distributed_table_has_the_agent(profile: str) -> None:
    found = run(
        profile,
        "SELECT indrelid::regclass::text FROM pg_index WHERE indisunique AND NOT EXISTS (SELECT FROM pg_attribute"
        " WHERE attrelid = indrelid AND attname = 'agent_id' AND attnum = ANY (indkey))",
    )
    assert not {table for (table,) in found} & distributed()


def test_the_search_is_the_one_of_the_profile_but_for_its_last_join(profile: str) -> None:
    """distribute.sql has a copy, with the same arguments and columns: where the profile's changes, it has to."""
    (made,) = re.findall(r"CREATE OR REPLACE FUNCTION search_memories.*?\$\$.*?\$\$;", DISTRIBUTE, re.DOTALL)
    before = run(profile, "SELECT pg_get_functiondef('search_memories'::regproc)")[0][0]
    with psycopg.connect(profile) as connection:
        connection.execute("SET search_path = public, pg_temp")
        connection.execute(made.encode())
        (after,) = connection.execute("SELECT pg_get_functiondef('search_memories'::regproc)").fetchone() or ("",)
        connection.execute("SELECT * FROM search_memories('tea', '[1,2]', 3)")
        connection.rollback()
    path = re.compile(r"^ SET search_path.*$", re.MULTILINE)
    assert path.split(before)[0] == path.split(after)[0]
    called = r"memory_candidates\([^;]*?\)\)"
    assert _squeezed(re.findall(called, before)) == _squeezed(re.findall(called, after)) != []


def _squeezed(texts: list[str]) -> list[str]:
    return [" ".join(text.split()) for text in texts]


def test_all_of_the_file_is_sql_that_psql_can_run_twice() -> None:
    """Each statement parses; what is made is made only where it is not there, or replaced."""
    kinds = {type(raw.stmt).__name__ for raw in parse_sql(DISTRIBUTE.replace("\n\\gexec\n", ";\n"))}
    assert kinds == {
        "VariableSetStmt",
        "CreateExtensionStmt",
        "SelectStmt",
        "AlterFunctionStmt",
        "CreateFunctionStmt",
        "DoStmt",
    }
    asked = [part.rpartition(";")[2] for part in DISTRIBUTE.split("\\gexec")[:-1]]
    assert len(asked) == 4
    for each in asked:
        assert "WHERE" in each and "pg_dist_" in each


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(["--help"], 0, "usage: "), ([], 1, "the DSN of the coordinator is missing"), (["--rows", "x", "d"], 1, "--rows")],
)
def test_the_script_says_what_it_needs(arguments: list[str], code: int, said: str) -> None:
    done = subprocess.run([ROOT / "scripts" / "citus-check.sh", *arguments], capture_output=True, text=True)
    assert done.returncode == code and said in done.stdout + done.stderr
