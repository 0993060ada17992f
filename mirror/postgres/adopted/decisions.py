"""What was decided of a source that is mirrored into an application's own tables, kept in ``mirror.adoptions``.

It is decided once, by ``mirror adopt``: by what was said on the command line, by a preset, and by all values that the
source had then. Later values do not change it: what does not fit is a reject. What can be seen in Postgres (the types
of columns, their limits) is not kept, so that a migration of the application may change it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeVar

import msgspec

from mirror.core.adopted import Unit
from mirror.core.errors import NewerSchemaError, SinkError
from mirror.core.free_sequences import FreeSequences
from mirror.core.rules import OMIT, Rules, folded
from mirror.core.versions import UPGRADE
from mirror.postgres.migrate import statement
from mirror.postgres.target import Conn

#: The form of a record; a mirror refuses a newer one.
VERSION = 2

#: By source table, and in it by source column.
ByColumn = Mapping[str, Mapping[str, str]]
_Found = TypeVar("_Found")


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """All names are the source's, but where it says otherwise."""

    version: int = 1
    """2 where there is what a mirror of before would leave undone: ``after_copy``."""
    schema: str = "public"
    """Where the application's tables are in Postgres."""
    preset: str = ""
    excluded: tuple[str, ...] = ()
    """Patterns of tables that are not mirrored (``*``, ``?``, ``[…]``)."""
    kept: tuple[str, ...] = ()
    """Patterns of tables that each side has its own rows of: the records of migrations."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """The name in Postgres, where it is another one."""
    columns: ByColumn = field(default_factory=dict)
    """Likewise of columns, by table."""
    dropped: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By table, the columns that are not mirrored because Postgres has no place for them."""
    computed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By table, the columns that Postgres computes itself, and nobody writes."""
    zone: str = "UTC"
    """Of times without an offset, an IANA name."""
    units: Mapping[str, Mapping[str, Unit]] = field(default_factory=dict)
    """By table and column: what a number means that is a time, and how an interval is written."""
    only: ByColumn = field(default_factory=dict)
    """By table and column of a key: the only form that is taken (:attr:`mirror.core.adopted.Form.only`)."""
    written: ByColumn = field(default_factory=dict)
    """By table and column, the form in which most values are written: the way back writes them so."""
    rounded: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By table, the columns of integers in which reals are rounded, because the application has them rounded there."""
    keys: Mapping[str, tuple[str, ...] | None] = field(default_factory=dict)
    """By table, the columns by which its rows are found; None: the rowid."""
    sequences: FreeSequences = field(default_factory=dict)
    """By the name of a sequence in Postgres that no column has: where its numbers are, as its program's preset says."""
    empty_is_null: bool = False
    real_digits: int = 17
    replace_rows: bool = False
    """Whether rows in Postgres that the source never had were given up when it was adopted."""
    after_copy: str = ""
    """SQL that is run once the first copy is in Postgres, and again by the switch (:mod:`.after_copy`)."""
    after_copy_file: str = ""
    """The path of the file that it was read from."""

    def left_out(self, table: str) -> str:
        """Why a table is not mirrored, ``excluded`` or ``kept``; empty: it is."""
        if any(_matches(table, pattern) for pattern in self.excluded):
            return "excluded"
        return "kept" if any(_matches(table, pattern) for pattern in self.kept) else ""

    @property
    def rules(self) -> Rules:
        """The rules by which the source's schema is read: without the columns that are dropped or computed."""
        named = (each.items() for each in (self.dropped, self.computed))
        names = (f"{table}.{column}" for each in named for table, columns in each for column in columns)
        return Rules(dict.fromkeys(names, OMIT), excluded=(*self.excluded, *self.kept))

    def target_of(self, table: str) -> str:
        """The name that was given for a table in Postgres; empty: none was."""
        return of_name(self.tables, table) or ""

    def target_column(self, table: str, column: str) -> str:
        """Likewise of a column."""
        return of_name(of_name(self.columns, table) or {}, column) or ""

    def unit_of(self, table: str, column: str) -> Unit:
        """What numbers (or texts) of a column mean that is a time or an interval; empty: not decided."""
        return of_name(of_name(self.units, table) or {}, column) or ""

    def only_of(self, table: str, column: str) -> str:
        """The only form that is taken of a key's column; empty: any."""
        return of_name(of_name(self.only, table) or {}, column) or ""

    def written_of(self, table: str, column: str) -> str:
        """The form in which most values of a column are written; empty: it is not known."""
        return of_name(of_name(self.written, table) or {}, column) or ""

    def rounds(self, table: str, column: str) -> bool:
        """Whether reals with a fraction are rounded in a column of integers."""
        return folded(column) in map(folded, of_name(self.rounded, table) or ())


def of_name(found: Mapping[str, _Found], name: str) -> _Found | None:
    """What a mapping has for a name of the source, in any letters; None: nothing."""
    if name in found:
        return found[name]
    wanted = folded(name)
    return next((value for each, value in found.items() if folded(each) == wanted), None)


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(folded(name), folded(pattern))


def save(conn: Conn, source_id: int, decisions: Decisions) -> None:
    """Keep the decisions of a source, inside the caller's transaction. Raises psycopg's errors."""
    conn.execute(statement("adoption_save"), (str(source_id), msgspec.json.encode(decisions).decode()))


def load(conn: Conn, source_id: int) -> Decisions | None:
    """The decisions of a source; None: it was not adopted, or the schema ``mirror`` is older than adoptions.

    Raises :class:`NewerSchemaError` for those of a newer mirror, :class:`SinkError` if they cannot be read, and
    psycopg's errors.
    """
    if conn.execute("SELECT to_regclass('mirror.adoptions') IS NULL").fetchone() == (True,):
        return None
    query = "SELECT decisions::text, decisions ->> 'version' FROM mirror.adoptions WHERE source_id = $1::bigint"
    row = conn.execute(query, (str(source_id),)).fetchone()
    if row is None:
        return None
    if str(row[1]).isdecimal() and int(row[1]) > VERSION:
        raise NewerSchemaError(
            "read an adoption",
            str(source_id),
            f"a newer mirror has written it (version {row[1]}, not {VERSION})",
            next_step=f"upgrade this one: `{UPGRADE}`",
        )
    try:
        return msgspec.json.decode(row[0], type=Decisions)
    except msgspec.MsgspecError as error:
        step = "give `mirror adopt` again, with the same options"
        raise SinkError(
            "read an adoption", f"mirror.adoptions, source {source_id}", str(error), next_step=step
        ) from error
