"""A program that does anything SQLite allows: random tables, rows and changes of the schema.

What it does next depends on the schema that SQLite reports at that moment, so no state is kept here and a
statement that SQLite refuses does no harm. A step is a name and a seed; so a failing one can be shrunk and named.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tests.support.source import BLOB_WRITE, Writer, WriterError

Statement = str | tuple[str, tuple[Any, ...]]
Step = tuple[str, int]

TABLES = ("t", "Mixed Case", 'qu"ote', "group", "käse", "T-1")
COLUMNS = ("id", "x", "y", "CamelCase", 'qu"ote', "order", "naïve", "a-b", "rowid", "v")
TYPES = (
    *("", "INTEGER", "INT", "BIGINT", "TEXT", "VARCHAR(20)", "REAL", "DOUBLE PRECISION", "BLOB", "NUMERIC"),
    *("DECIMAL(10,2)", "BOOLEAN", "DATE", "DATETIME", "ANY", "JSON", "FLOATING POINT", '"odd [type]"', "UUID"),
)
STRICT_TYPES = ("INT", "INTEGER", "REAL", "TEXT", "BLOB", "ANY")
COLLATIONS = ("", "", " COLLATE NOCASE", " COLLATE RTRIM", " COLLATE BINARY")
DEFAULTS = ("5", "-1.5", "'text'", "x'00ff'", "NULL", "TRUE", "'7'", "1e3")
#: Of generated columns.
EXPRESSIONS = (
    *("coalesce({0}, 'none') || 'g'", "length({0})", "typeof({0})", "{0} IS NULL", "upper({0})", "{0} = 'a'", "-{0}"),
    *("{0} / 2.0", "CAST({0} AS INTEGER)", "CAST({0} AS BLOB)", "nullif({0}, 1)", "{0} COLLATE NOCASE < 'B'", "{0}"),
)
#: A tree of few tables is changed more often than one of many.
MOST_TABLES = 5


def quoted(name: str) -> str:
    """A name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


@dataclass(frozen=True)
class Shape:
    """A table as the program finds it."""

    name: str
    columns: tuple[str, ...]
    """Those that can be written."""
    keys: tuple[str, ...]
    without_rowid: bool

    @property
    def sql(self) -> str:
        return quoted(self.name)

    def key(self, r: random.Random) -> str:
        """A column to find rows by, mostly of the primary key."""
        return quoted(r.choice(self.keys or self.columns))


def value(r: random.Random) -> Any:
    """Any value that Postgres can hold in some column."""
    match r.randrange(16):
        case 0:
            return None
        case 1 | 2 | 3:
            return r.randrange(-3, 40)
        case 4:
            return r.randrange(-(2**63), 2**63) >> r.randrange(64)
        case 5:
            return r.choice((0.0, -0.0, 1.0, 2.0**53, 1e300, 5e-324, float("inf"), float("-inf"), -2.5, 0.1))
        case 6 | 7:
            return r.choice(
                ("", "a", "A", "b", "b  ", "ä", "\U0001f600", "12", "1.5", "-0", "1e5", "2024-02-30", " 7 ")
            )
        case 8 | 9 | 10:
            return r.choice("abcXYZé") * r.randrange(30)
        case 11:
            return r.randbytes(r.randrange(30))
        case 12:
            return r.randrange(2)
        case 13:
            return r.randbytes(1) * r.randrange(20_000)
        case 14:
            return r.choice("xyé") * r.randrange(9000)
        case _:
            return "2024-01-02 03:04:05"


def key_value(r: random.Random) -> Any:
    """A value of a small set, so that keys meet again."""
    return r.choice((r.randrange(40), r.choice(("a", "A", "b", "b  ", "key", "é", "É", None, 1.5, b"\1"))))


def random_table(r: random.Random, name: str, others: Sequence[Shape] = ()) -> str:
    """A CREATE TABLE with all that a definition can have."""
    strict = r.random() < 0.15
    kinds = STRICT_TYPES if strict else TYPES
    names = r.sample(COLUMNS, r.randrange(1, 7))
    generated = names.pop() if len(names) > 2 and r.random() < 0.2 else None
    key = r.choice(("none", "integer", "integer", "auto", "desc", "one", "one", "some", "some"))
    without_rowid = key in ("one", "some", "desc") and r.random() < 0.5
    parts = []
    for at, column in enumerate(names):
        kind = r.choice(kinds)
        text = quoted(column)
        if at == 0 and key in ("integer", "auto", "desc"):
            order = {"integer": "", "auto": " AUTOINCREMENT", "desc": " DESC"}[key]
            parts.append(f"{text} INTEGER PRIMARY KEY{order}")
            continue
        text += f" {kind}{r.choice(COLLATIONS)}"
        if at == 0 and key == "one":
            text += f" PRIMARY KEY{r.choice(('', ' DESC'))}{r.choice(('', ' ON CONFLICT REPLACE'))}"
        if r.random() < 0.15:
            text += f" NOT NULL DEFAULT {r.choice(DEFAULTS)}"
        elif r.random() < 0.15:
            text += f" DEFAULT {r.choice(DEFAULTS)}"
        if r.random() < 0.08:
            text += f" UNIQUE{r.choice(('', ' ON CONFLICT REPLACE', ' ON CONFLICT IGNORE'))}"
        if others and r.random() < 0.1:
            other = r.choice(others)
            action = r.choice(("CASCADE", "SET NULL", "SET DEFAULT"))
            text += f" REFERENCES {other.sql}({quoted((other.keys or other.columns)[0])}) ON DELETE {action}"
        parts.append(text)
    if generated:
        # In a STRICT table newer libraries do not read a row in which a virtual column computes another type.
        kind = "ANY" if strict else r.choice(kinds)
        expression = r.choice(EXPRESSIONS).format(quoted(r.choice(names)))
        made = f"{quoted(generated)} {kind} AS ({expression}) {r.choice(('STORED', 'VIRTUAL', 'VIRTUAL'))}"
        parts.insert(r.randrange(len(parts) + 1), made)
    if key == "some":
        chosen = r.sample(names, r.randrange(1, min(3, len(names)) + 1))
        columns = ", ".join(f"{quoted(column)}{r.choice(COLLATIONS)}{r.choice(('', '', ' DESC'))}" for column in chosen)
        parts.append(f"PRIMARY KEY ({columns})")
    options = [word for word, given in (("STRICT", strict), ("WITHOUT ROWID", without_rowid)) if given]
    return f"CREATE TABLE {quoted(name)}({', '.join(parts)}) {', '.join(options)}"


class Program:
    """Plans steps: each is a list of statements that any writer can run."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def shapes(self) -> list[Shape]:
        """The tables there are now."""
        found = self._writer.run(
            "SELECT m.name, l.wr, x.name, x.pk, x.hidden FROM sqlite_schema m JOIN pragma_table_list(m.name) l"
            " JOIN pragma_table_xinfo(m.name) x WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%'"
            " AND l.schema = 'main' ORDER BY m.name, x.cid"
        )
        return [
            Shape(
                name,
                tuple(column for _, _, column, _, hidden in rows if not hidden),
                tuple(column for _, _, column, key, _ in rows if key),
                bool(without_rowid),
            )
            for (name, without_rowid), group in groupby(found, key=lambda row: (row[0], row[1]))
            for rows in [list(group)]
        ]

    def plan(self, step: Step) -> list[Statement]:
        """The statements of a step."""
        name, seed = step
        r = random.Random(seed)
        shapes = self.shapes()
        if not shapes:
            return [random_table(r, r.choice(TABLES))]
        return _STEPS[name](self, r, shapes)

    # -- rows ----------------------------------------------------------------------------------------

    def insert(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        shape = r.choice(shapes)
        columns = [column for column in shape.columns if column in shape.keys or r.random() < 0.9] or shape.columns[:1]
        how = r.choice(("", "", " OR REPLACE", " OR REPLACE", " OR IGNORE"))
        sql = f"INSERT{how} INTO {shape.sql}({', '.join(map(quoted, columns))}) VALUES ({','.join('?' * len(columns))})"
        made: list[Statement] = []
        for _ in range(r.choice((1, 1, 3, 10))):
            row = [key_value(r) if column in shape.keys and r.random() < 0.8 else value(r) for column in columns]
            made.append((sql, tuple(row)))
        return made

    def many(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        """So many rows that pages split, and that a small cache spills."""
        shape = r.choice(shapes)
        word = r.choice(
            ("'k' || i", "i", "i * 1000", "printf('%.*c', i % 300, 'z') || i", "i * 0.5", "randomblob(i % 90)")
        )
        columns = [word if column in shape.keys else r.choice(("i", word, "i % 2")) for column in shape.columns]
        return [
            f"WITH RECURSIVE s(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM s WHERE i < {r.choice((5, 50, 400))})"
            f" INSERT OR REPLACE INTO {shape.sql}({', '.join(map(quoted, shape.columns))})"
            f" SELECT {', '.join(columns)} FROM s"
        ]

    def update(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        shape = r.choice(shapes)
        column = quoted(r.choice(shape.columns))
        how = r.choice(("OR REPLACE", "OR IGNORE"))
        where = r.choice((f"{shape.key(r)} = ?", f"{shape.key(r)} > ?", f"length({shape.key(r)}) % 5 = ?"))
        return [(f"UPDATE {how} {shape.sql} SET {column} = ? WHERE {where}", (value(r), key_value(r)))]

    def change(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        """All rows from what they were: longer, another class, moved to other keys."""
        shape = r.choice(shapes)
        column = quoted(r.choice(shape.columns))
        new = r.choice(
            (f"{column} || 'z'", f"{column} + 1", f"-{column}", f"upper({column})", "NULL", f"CAST({column} AS BLOB)")
        )
        return [f"UPDATE OR {r.choice(('REPLACE', 'IGNORE'))} {shape.sql} SET {column} = {new}"]

    def delete(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        shape = r.choice(shapes)
        return [(f"DELETE FROM {shape.sql} WHERE {shape.key(r)} {r.choice(('=', '<', '>', 'IS'))} ?", (key_value(r),))]

    def thin(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        """Rows all over the tree, so that pages merge."""
        shape = r.choice(shapes)
        return [f"DELETE FROM {shape.sql} WHERE length({shape.key(r)}) % {r.choice((2, 3))} = 0 OR random() % 3 = 0"]

    def empty(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        return [f"DELETE FROM {r.choice(shapes).sql}"]

    def blob(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        """Bytes in the middle of a value, without the row being written."""
        usable = [shape for shape in shapes if not shape.without_rowid]
        if not usable:
            return []
        shape = r.choice(usable)
        column = r.choice(shape.columns)
        found = self._writer.run(
            f"SELECT _rowid_, length(CAST({quoted(column)} AS BLOB)) FROM {shape.sql}"
            f" WHERE typeof({quoted(column)}) = 'blob' AND length({quoted(column)}) > 4"
        )
        if not found:
            return []
        rowid, length = r.choice(found)
        return [(BLOB_WRITE, (shape.name, column, rowid, r.randrange(length - 3), r.randbytes(3)))]

    def savepoint(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        """What is rolled back leaves pages in the log, and dead cells."""
        taken_back = [self.many(r, shapes), self.change(r, shapes), self.empty(r, shapes), self.add_column(r, shapes)]
        inner = r.choice(taken_back)
        return ["SAVEPOINT s", *self.insert(r, shapes), "SAVEPOINT z", *inner, "ROLLBACK TO z", "RELEASE s"]

    # -- definitions ---------------------------------------------------------------------------------

    def create(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        if len(shapes) >= MOST_TABLES:
            return self.drop(r, shapes)
        name = r.choice(TABLES)
        if r.random() < 0.1:
            return [f"CREATE TABLE {quoted(name)} AS SELECT * FROM {r.choice(shapes).sql}"]
        return [random_table(r, name, shapes)]

    def drop(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        return [f"DROP TABLE {r.choice(shapes).sql}"]

    def replace(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        """Another table under the same name, in the same transaction."""
        shape = r.choice(shapes)
        return [f"DROP TABLE {shape.sql}", random_table(r, shape.name)]

    def rename(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        return [f"ALTER TABLE {r.choice(shapes).sql} RENAME TO {quoted(r.choice(TABLES))}"]

    def swap(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        one, other = r.choice(shapes).sql, r.choice(shapes).sql
        return [f"ALTER TABLE {old} RENAME TO {new}" for old, new in ((one, "swap"), (other, one), ("swap", other))]

    def add_column(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        default = r.choice(("", "NOT NULL ", "")) + r.choice(("", f"DEFAULT {r.choice(DEFAULTS)}"))
        shape = r.choice(shapes)
        if r.random() < 0.15:
            default = f"AS ({r.choice(EXPRESSIONS).format(quoted(r.choice(shape.columns)))})"
        column = f"{quoted(r.choice(COLUMNS))} {r.choice((*TYPES, *STRICT_TYPES))} {default}"
        return [f"ALTER TABLE {shape.sql} ADD COLUMN {column}"]

    def drop_column(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        shape = r.choice(shapes)
        return [f"ALTER TABLE {shape.sql} DROP COLUMN {quoted(r.choice(shape.columns))}"]

    def rename_column(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        shape = r.choice(shapes)
        return [
            f"ALTER TABLE {shape.sql} RENAME COLUMN {quoted(r.choice(shape.columns))} TO {quoted(r.choice(COLUMNS))}"
        ]

    def rebuild(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        """The documented way of changing a table: make a new one, copy, drop, rename."""
        shape = r.choice(shapes)
        columns = ", ".join(map(quoted, shape.columns))
        parts = [f"{quoted(column)} {r.choice(TYPES)}" for column in shape.columns]
        if shape.keys and set(shape.keys) <= set(shape.columns):
            parts.append(f"PRIMARY KEY ({', '.join(map(quoted, shape.keys))})")
        return [
            f"CREATE TABLE rebuilt({', '.join(parts)})",
            f"INSERT OR IGNORE INTO rebuilt({columns}) SELECT {columns} FROM {shape.sql}",
            f"DROP TABLE {shape.sql}",
            f"ALTER TABLE rebuilt RENAME TO {shape.sql}",
        ]

    def index(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        shape = r.choice(shapes)
        column = quoted(r.choice(shape.columns))
        on = r.choice((column, f"{column} DESC, {shape.key(r)}", f"length({column})", f"{column} COLLATE NOCASE"))
        where = r.choice(("", "", f" WHERE {column} > 5", f" WHERE {column} IS NOT NULL"))
        name = f"i{r.randrange(4)}"
        kind = r.choice(("", "", "UNIQUE "))
        return [f"DROP INDEX IF EXISTS {name}", f"CREATE {kind}INDEX {name} ON {shape.sql}({on}){where}"]

    def trigger(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        shape, other = r.choice(shapes), r.choice(shapes)
        name, column, event = (
            f"g{r.randrange(2)}",
            quoted(r.choice(other.columns)),
            r.choice(("INSERT", "DELETE", "UPDATE")),
        )
        body = r.choice(
            (
                f"INSERT OR IGNORE INTO {other.sql}({column}) VALUES (random() % 50)",
                f"UPDATE OR IGNORE {other.sql} SET {column} = 'by trigger' WHERE {other.key(r)} = 3",
                f"DELETE FROM {other.sql} WHERE {other.key(r)} = 5",
            )
        )
        made = f"CREATE TRIGGER {name} AFTER {event} ON {shape.sql} BEGIN {body}; END"
        return [f"DROP TRIGGER IF EXISTS {name}", *([made] if r.random() < 0.7 else [])]

    # -- the file ------------------------------------------------------------------------------------

    def checkpoint(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        return [f"PRAGMA wal_checkpoint({r.choice(('PASSIVE', 'FULL', 'RESTART', 'TRUNCATE'))})"]

    def vacuum(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        return [r.choice(("VACUUM", "VACUUM", "PRAGMA auto_vacuum=0", "PRAGMA auto_vacuum=2")), "VACUUM"]

    def incremental_vacuum(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        return [f"PRAGMA incremental_vacuum({r.choice((1, 5, 1000))})"]

    def setting(self, r: random.Random, shapes: list[Shape]) -> list[Statement]:
        return [
            r.choice(
                (
                    *(f"PRAGMA secure_delete={each}" for each in ("ON", "OFF", "FAST")),
                    *(
                        "PRAGMA foreign_keys=ON",
                        "PRAGMA foreign_keys=OFF",
                        "PRAGMA cache_size=5",
                        "PRAGMA cache_size=200",
                    ),
                    *("PRAGMA auto_vacuum=1", "PRAGMA auto_vacuum=2", "ANALYZE", "REINDEX", "PRAGMA user_version=7"),
                )
            )
        ]


_ROWS = ("insert", "insert", "insert", "many", "update", "update", "change", "delete", "thin", "blob", "blob")
_SCHEMA = ("create", "replace", "rename", "swap", "add_column", "drop_column", "rename_column", "rebuild")
_RARE = ("empty", "savepoint", "index", "trigger", "checkpoint", "vacuum", "incremental_vacuum", "setting")
_STEPS: dict[str, Callable[[Program, random.Random, list[Shape]], list[Statement]]] = {
    name: getattr(Program, name) for name in (*_ROWS, *_SCHEMA, "drop", *_RARE)
}
#: Names of steps to draw from, the usual ones more often.
STEPS = (*_ROWS, *_ROWS, *_ROWS, *_RARE, *_RARE, "checkpoint", *_SCHEMA, "drop")


def run(writer: Writer, statements: Sequence[Statement]) -> int:
    """Run statements one by one, also after one that SQLite refuses; return how many it accepted."""
    for statement in statements:
        writer.send(statement)
    return collect(writer, len(statements))


def collect(writer: Writer, count: int) -> int:
    """Wait for ``count`` answers; return how many statements SQLite accepted."""
    done = 0
    for _ in range(count):
        try:
            writer.answer()
            done += 1
        except WriterError:
            pass
    return done
