"""Virtual generated columns: SQLite does not store them, so SQLite computes them here too.

The table's own CREATE statement makes an empty table in a database in memory. A row's stored values are inserted, the
generated ones are returned, and the row is deleted: affinities, collations and functions are those of the
source. A function or collation that only the program has registered is unknown here; the virtual columns of
such a table are left out (:attr:`~mirror.core.tables.Table.left_out`).
"""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from mirror.core.quote import quoted
from mirror.core.tables import Table
from mirror.core.values import BadText, Uncomputed, Value


def is_computable(definition: str) -> bool:
    """Whether SQLite can make the table of a CREATE statement without the program that wrote it."""
    try:
        _empty(definition, "utf-8").close()
    except apsw.Error:
        return False
    return True


class VirtualColumns:
    """Computes the virtual columns of one table's rows."""

    def __init__(self, table: Table, encoding: str) -> None:
        """``table``: its :attr:`~mirror.core.tables.Table.definition` is computable; ``encoding``: of its text."""
        self._db = _empty(table.definition, encoding)
        self._encoding = encoding
        hidden = dict(self._db.execute("SELECT name, hidden FROM pragma_table_xinfo(?)", (table.name,)))
        stored = [table.columns[index].name for index in table.storage]
        # A stored generated column takes no value: it is computed like the virtual ones.
        self._given = [at for at, name in enumerate(stored) if not hidden[name]]
        self._names = ", ".join(quoted(stored[at]) for at in self._given)
        virtual = [quoted(column.name) for column in table.columns if hidden[column.name] == 2]
        # As bytes, because SQLite would repair broken UTF-16 on the way out.
        results = (f"typeof({c}), CASE typeof({c}) WHEN 'text' THEN CAST({c} AS BLOB) ELSE {c} END" for c in virtual)
        self._table = quoted(table.name)
        self._returning = ", ".join(results)
        self._width = len(virtual)

    def of(self, values: Sequence[Value]) -> list[Value]:
        """The virtual columns of a row with these stored values, both in storage order.

        All are :class:`~mirror.core.values.Uncomputed` where SQLite cannot compute one: no program can read that row.
        """
        given = [values[at] for at in self._given]
        marks = ",".join("CAST(? AS TEXT)" if isinstance(value, BadText) else "?" for value in given)
        bound = [value.raw if isinstance(value, BadText) else value for value in given]
        insert = f"INSERT INTO {self._table}({self._names}) VALUES ({marks}) RETURNING {self._returning}"
        try:
            [found] = self._db.execute(insert, bound).fetchall()
        except apsw.Error as error:
            return [Uncomputed(str(error))] * self._width
        self._db.execute(f"DELETE FROM {self._table}")
        return [
            self._text(value) if kind == "text" and isinstance(value, bytes) else value
            for kind, value in zip(found[::2], found[1::2], strict=True)
        ]

    def _text(self, value: bytes) -> Value:
        try:
            return value.decode(self._encoding)
        except UnicodeDecodeError:
            return BadText(value)


def _empty(definition: str, encoding: str) -> apsw.Connection:
    database = apsw.Connection(":memory:")
    try:
        database.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 1)  # as the program's library may have had it
        database.pragma("encoding", encoding.replace("16-", "16"))
        database.execute(definition)
        # The program's own library has checked these, with the functions that the program has.
        database.pragma("ignore_check_constraints", True)
        database.execute("BEGIN")
    except apsw.Error:
        database.close()
        raise
    return database
