"""Random work on a database: everything that moves pages, rows or definitions about.

An operation is a function of a connection and a random source; a workload is a list of names and
seeds, so that a failing one can be shrunk and named.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import apsw

from mirror.core.values import Value

SCHEMA = """
CREATE TABLE a(id INTEGER PRIMARY KEY, x TEXT, y REAL, z BLOB);
CREATE TABLE b(k TEXT PRIMARY KEY, v);
CREATE INDEX b_v ON b(v);
CREATE TABLE n(x, y);
CREATE TABLE g(id INTEGER PRIMARY KEY, a INT, twice INT AS (a * 2), kept TEXT AS (a || 'x') STORED, b ANY) STRICT;
CREATE TABLE w(p TEXT, q INT, d TEXT, PRIMARY KEY(p, q)) WITHOUT ROWID;
CREATE TABLE c(a TEXT COLLATE NOCASE PRIMARY KEY, b REAL) WITHOUT ROWID;
CREATE TABLE l(v BLOB, k TEXT, r REAL, PRIMARY KEY(k DESC, r)) WITHOUT ROWID;
"""


class Work:
    """The operations; ``size`` is the page size, so that overflow chains are as common on all."""

    def __init__(self, connection: apsw.Connection, size: int) -> None:
        self.connection = connection
        self._size = size
        self._long = size * 5 // 2

    def run(self, sql: str, values: Sequence[Value] = ()) -> list[tuple[Value, ...]]:
        """Execute statements to their end."""
        return self.connection.execute(sql, values).fetchall()

    def prepare(self) -> None:
        """Create the tables."""
        self.run(SCHEMA)

    def do(self, name: str, seed: int) -> None:
        """Do one operation."""
        OPERATIONS[name](self, random.Random(seed))

    def commit(self, operations: Sequence[tuple[str, int]]) -> None:
        """Do some operations in one transaction; VACUUM, which cannot be in one, outside of it."""
        self.run("BEGIN")
        for name, seed in operations:
            if name == "vacuum":
                self.run("COMMIT")
                self.run("VACUUM")
                self.run("BEGIN")
            else:
                self.do(name, seed)
        self.run("COMMIT")

    # -- values --------------------------------------------------------------------------------------

    def _value(self, r: random.Random) -> Value:
        match r.randrange(12):
            case 0:
                return None
            case 1 | 2:
                return r.randrange(-(2**63), 2**63)
            case 3:
                return r.randrange(-3, 300)
            case 4:
                return r.choice((0.0, -0.0, 1.0, 1e300, -2.5, float(2**60), 1e-5))
            case 5 | 6 | 7 | 8:
                return "x" * r.randrange(60)
            case 9:
                return r.randbytes(r.randrange(self._size))
            case 10:
                return r.randbytes(r.randrange(self._long))
            case _:
                return "y" * r.randrange(self._long)

    def _many(self, r: random.Random, sql: str, row: Callable[[], Sequence[Value]]) -> None:
        self.connection.executemany(sql, [row() for _ in range(r.choice((1, 1, 1, 2, 5, 40)))])

    # -- rows ----------------------------------------------------------------------------------------

    def write_a(self, r: random.Random) -> None:
        self._many(
            r,
            "INSERT OR REPLACE INTO a VALUES (?,?,?,?)",
            lambda: (r.randrange(300), self._value(r), self._value(r), self._value(r)),
        )

    def append_a(self, r: random.Random) -> None:
        self._many(r, "INSERT INTO a(x, z) VALUES (?,?)", lambda: ("a" * r.randrange(40), self._value(r)))

    def write_b(self, r: random.Random) -> None:
        self._many(r, "INSERT OR REPLACE INTO b VALUES (?,?)", lambda: (str(r.randrange(200)), self._value(r)))

    def write_n(self, r: random.Random) -> None:
        self._many(r, "INSERT OR IGNORE INTO n VALUES (?,?)", lambda: (self._value(r), self._value(r)))

    def write_g(self, r: random.Random) -> None:
        self._many(
            r,
            "INSERT OR REPLACE INTO g(id, a, b) VALUES (?,?,?)",
            lambda: (r.randrange(-50, 50), r.randrange(2**40), self._value(r)),
        )

    def write_w(self, r: random.Random) -> None:
        self._many(
            r,
            "INSERT OR REPLACE INTO w VALUES (?,?,?)",
            lambda: (str(r.randrange(100)) * r.choice((1, 1, 20, 60)), r.randrange(5), self._value(r)),
        )

    def write_c(self, r: random.Random) -> None:
        self._many(
            r,
            "INSERT OR REPLACE INTO c VALUES (?,?)",
            lambda: (r.choice("abcdXYZ") * r.randrange(1, 40), r.choice((1, 2.5, None, -0.0))),
        )

    def write_l(self, r: random.Random) -> None:
        self._many(
            r,
            "INSERT OR REPLACE INTO l VALUES (?,?,?)",
            lambda: (
                self._value(r),
                str(r.randrange(300)).zfill(r.choice((30, 100, 100, self._long))),
                float(r.randrange(2)),
            ),
        )

    def scatter(self, r: random.Random) -> None:
        """Rowids of every length, negative ones too."""
        rowids = (r.randrange(-(2**63), 2**63) >> r.randrange(64) for _ in range(r.choice((1, 30))))
        self.connection.executemany(
            "INSERT OR IGNORE INTO n(rowid, x) VALUES (?,?)", ((rowid, "n" * r.randrange(30)) for rowid in rowids)
        )

    def resize(self, r: random.Random) -> None:
        """Many short rows become shorter or longer, so that SQLite moves cells about within their pages."""
        table, column, key = r.choice((("a", "x", "id"), ("n", "y", "rowid"), ("w", "d", "q")))
        self.run(
            f"UPDATE OR IGNORE {table} SET {column} = ? WHERE {key} % ? = 0", ("r" * r.randrange(50), r.choice((2, 5)))
        )

    def update_a(self, r: random.Random) -> None:
        self.run("UPDATE a SET x = ? WHERE id % 17 = ?", (self._value(r), r.randrange(17)))

    def update_small(self, r: random.Random) -> None:
        self.run("UPDATE a SET y = y + 1 WHERE id = (SELECT id FROM a LIMIT 1 OFFSET ?)", (r.randrange(50),))

    def update_n(self, r: random.Random) -> None:
        where = "rowid = (SELECT rowid FROM n LIMIT 1 OFFSET ?)"
        self.run(f"UPDATE OR IGNORE n SET y = ? WHERE {where}", (self._value(r), r.randrange(50)))

    def move_key(self, r: random.Random) -> None:
        """Rows change their keys, some of them into keys that just became free."""
        self.run("UPDATE OR IGNORE a SET id = id + ? WHERE id % 5 = 0", (r.choice((1, 5, 1000)),))

    def move_w(self, r: random.Random) -> None:
        self.run("UPDATE OR IGNORE w SET p = p || 'z' WHERE q = ?", (r.randrange(5),))

    def change_case(self, r: random.Random) -> None:
        self.run(f"UPDATE c SET a = {r.choice(('upper', 'lower'))}(a) WHERE length(a) % 3 = ?", (r.randrange(3),))

    def delete_range(self, r: random.Random) -> None:
        first = r.randrange(300)
        self.run("DELETE FROM a WHERE id BETWEEN ? AND ?", (first, first + r.choice((0, 3, 60))))

    def delete_some(self, r: random.Random) -> None:
        table = r.choice("bngwcl")
        key = "rowid" if table in "bng" else {"w": "q", "c": "length(a)", "l": "k + 0"}[table]
        self.run(f"DELETE FROM {table} WHERE {key} % ? = 0", (r.randrange(1, 9),))

    def truncate(self, r: random.Random) -> None:
        """SQLite frees the pages without reading or logging them."""
        self.run(f"DELETE FROM {r.choice('abngwcl')}")

    def write_blob(self, r: random.Random) -> None:
        """Incremental blob I/O writes a page in the middle of an overflow chain, and no other."""
        found = list(self.run("SELECT rowid, length(z) FROM a WHERE typeof(z) = 'blob' AND length(z) > 5"))
        if found:
            rowid, length = r.choice(found)
            with self.connection.blob_open("main", "a", "z", rowid, True) as blob:
                blob.seek(r.choice((0, (length - 5) // 2, length - 5)))
                blob.write(r.randbytes(5))

    def savepoint(self, r: random.Random) -> None:
        """What is rolled back leaves its traces in the pages' unused parts, and pages in the log."""
        self.run("SAVEPOINT s")
        for _ in range(r.randrange(1, 4)):
            self.do(r.choice(_ROWS), r.randrange(2**32))
        self.run("ROLLBACK TO s; RELEASE s")

    # -- definitions ---------------------------------------------------------------------------------

    def _extra(self, r: random.Random) -> str | None:
        found = self.run("SELECT name FROM sqlite_schema WHERE name LIKE 'extra_' ORDER BY name")
        return str(r.choice(found)[0]) if found else None

    def create(self, r: random.Random) -> None:
        name = f"extra{r.randrange(3)}"
        shape = r.choice(("(id INTEGER PRIMARY KEY, t)", "(k TEXT PRIMARY KEY, t) WITHOUT ROWID", "(id INT, t)"))
        self.run(f"CREATE TABLE IF NOT EXISTS {name} {shape}")
        columns = [str(row[0]) for row in self.run("SELECT name FROM pragma_table_info(?)", (name,))][:2]
        source = ("id", "x")[: len(columns)]
        self.run(
            f"INSERT OR IGNORE INTO {name}({', '.join(columns)}) SELECT {', '.join(source)} FROM a LIMIT ?",
            (r.choice((0, 3, 100)),),
        )

    def create_as(self, r: random.Random) -> None:
        self.run(f"CREATE TABLE IF NOT EXISTS extra{r.randrange(3)} AS SELECT x AS id, y AS t FROM a LIMIT 50")

    def drop(self, r: random.Random) -> None:
        if name := self._extra(r):
            self.run(f"DROP TABLE {name}")

    def rename(self, r: random.Random) -> None:
        new = f"extra{r.randrange(3)}"
        if (name := self._extra(r)) and not self.run("SELECT 1 FROM sqlite_schema WHERE name=?", (new,)):
            self.run(f"ALTER TABLE {name} RENAME TO {new}")

    def swap(self, r: random.Random) -> None:
        """Two tables take each other's names."""
        one, other = self._extra(r), self._extra(r)
        if one and other and one != other:
            for old, new in ((one, "s"), (other, one), ("s", other)):
                self.run(f"ALTER TABLE {old} RENAME TO {new}")

    def add_column(self, r: random.Random) -> None:
        if name := self._extra(r):
            [(number,)] = self.run("SELECT count(*) FROM pragma_table_info(?)", (name,))
            kind = r.choice(("", "INT DEFAULT 5", "TEXT DEFAULT 7", "REAL NOT NULL DEFAULT 1", "BLOB DEFAULT x'00ff'"))
            self.run(f"ALTER TABLE {name} ADD COLUMN c{number} {kind}")

    def drop_column(self, r: random.Random) -> None:
        if name := self._extra(r):
            columns = [row[0] for row in self.run("SELECT name FROM pragma_table_info(?) WHERE pk=0", (name,))]
            if len(columns) > 1:
                self.run(f"ALTER TABLE {name} DROP COLUMN {columns[-1]}")

    def rename_column(self, r: random.Random) -> None:
        if name := self._extra(r):
            columns = [row[0] for row in self.run("SELECT name FROM pragma_table_info(?)", (name,))]
            if "renamed" not in columns:
                self.run(f"ALTER TABLE {name} RENAME COLUMN {columns[-1]} TO renamed")

    def rebuild(self, r: random.Random) -> None:
        """The documented way of changing a table: make a new one, copy, drop, rename."""
        unique = r.choice(("", "NOT NULL"))
        self.run(
            f"CREATE TABLE n2(x {r.choice(('', 'TEXT'))}, y {unique} DEFAULT 3);"
            "INSERT OR IGNORE INTO n2 SELECT x, y FROM n; DROP TABLE n; ALTER TABLE n2 RENAME TO n"
        )

    def index(self, r: random.Random) -> None:
        name, on = r.choice((("a_x", "a(x)"), ("n_y", "n(y)"), ("w_d", "w(d, q)")))
        self.run(r.choice((f"CREATE INDEX IF NOT EXISTS {name} ON {on}", f"DROP INDEX IF EXISTS {name}")))

    def incremental_vacuum(self, r: random.Random) -> None:
        """Moves pages from the file's end into free ones, if the database is in that mode."""
        self.run(f"PRAGMA incremental_vacuum({r.choice((1, 5, 1000))})")

    def analyze(self, r: random.Random) -> None:
        self.run("ANALYZE")

    def header(self, r: random.Random) -> None:
        """Page 1 changes, no row does."""
        self.run(f"PRAGMA user_version = {r.randrange(100)}")


_ROWS = (
    "write_a",
    "append_a",
    "write_b",
    "write_n",
    "write_g",
    "write_w",
    "write_c",
    "write_l",
    "scatter",
    "resize",
    "update_a",
    "update_small",
    "update_n",
    "move_key",
    "move_w",
    "change_case",
    "delete_range",
    "delete_some",
    "write_blob",
)
_RARE = ("truncate", "savepoint", "incremental_vacuum", "header")
_SCHEMA = (
    "create",
    "create_as",
    "drop",
    "rename",
    "swap",
    "add_column",
    "drop_column",
    "rename_column",
    "rebuild",
    "index",
    "analyze",
)
OPERATIONS: dict[str, Callable[[Work, random.Random], None]] = {
    name: getattr(Work, name) for name in (*_ROWS, *_RARE, *_SCHEMA)
}
#: Names to draw from, the usual ones more often.
NAMES = (*_ROWS, *_ROWS, *_ROWS, *_RARE, *_RARE, *_SCHEMA, "vacuum")


def random_commits(seed: int, commits: int) -> list[list[tuple[str, int]]]:
    """A workload: for each commit its operations."""
    r = random.Random(seed)
    return [
        [(r.choice(NAMES), r.randrange(2**32)) for _ in range(r.choice((1, 1, 1, 2, 3, 6)))] for _ in range(commits)
    ]
