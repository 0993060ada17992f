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

#: SQLite's letters for affinities.
_TO_BLOB, _TO_TEXT, _TO_NUMERIC, _TO_REAL = map(ord, "ABCE")


def is_computable(definition: str) -> bool:
    """Whether SQLite can make the table of a CREATE statement without the program that wrote it."""
    try:
        _empty(definition, "utf-8").close()
    except apsw.Error:
        return False
    return True


#: Functions with the same result in every version; the second lot turns its arguments into text first. Of any other
#: (dates, rounding, LIKE, JSON that is made, ...) the result has changed before, or depends on how SQLite was built.
_SAME = frozenset(("abs", "coalesce", "ifnull", "iif", "if", "nullif", "typeof", "min", "max", "sign", "likely"))
_SAME |= frozenset(("unlikely", "likelihood", "json_extract", "->", "->>", "json_type", "json_valid"))
_SAME |= frozenset(("json_array_length",))
_OF_TEXT = frozenset(("lower", "upper", "substr", "substring", "trim", "ltrim", "rtrim", "replace", "length", "instr"))
_OF_TEXT |= frozenset(("octet_length", "hex", "unicode", "char", "quote", "printf", "format", "concat", "concat_ws"))
#: What may give a real.
_GIVE_REALS = frozenset(("json_extract", "->>", "Real", "Add", "Subtract", "Multiply", "Divide", "Remainder"))
_GIVE_REALS |= frozenset(("abs", "RealAffinity"))


def by_version(table: Table, *, strict: bool) -> tuple[str, ...]:
    """The virtual columns with values that may depend on the version of SQLite: where a real may become text.

    3.54 writes reals with up to 17 digits, versions before with 15. SQLite says itself how it computes a column.
    """
    database = _empty(table.definition, "utf-8")
    try:
        info = database.execute("SELECT name FROM pragma_table_xinfo(?) WHERE hidden = 2", (table.name,))
        names = [str(name) for (name,) in info.fetchall()]
        return tuple(name for name in names if _depends(database, table, name, strict=strict))
    finally:
        database.close()


def _depends(database: apsw.Connection, table: Table, column: str, *, strict: bool) -> bool:
    reals = text = False
    exact = ("TEXT", "INTEGER") if strict else ("TEXT",)
    for _, operation, _, second, _, fourth, *_ in database.execute(
        f"EXPLAIN SELECT {quoted(column)} FROM {quoted(table.name)}"
    ):
        if operation == "Column":
            reals = reals or table.columns[table.storage[second]].affinity not in exact
        elif operation in ("Function", "PureFunc"):
            function = str(fourth).partition("(")[0]
            if function not in _SAME and function not in _OF_TEXT:
                return True
            text = text or function in _OF_TEXT
            reals = reals or function in _GIVE_REALS
        elif operation == "Concat":
            text = True
        elif operation == "Cast":
            text = text or second in (_TO_TEXT, _TO_BLOB)  # a blob is made of a number's text
            reals = reals or second in (_TO_NUMERIC, _TO_REAL)
        elif operation == "Affinity":
            text = text or chr(_TO_TEXT) in str(fourth)
            reals = reals or bool({chr(_TO_NUMERIC), chr(_TO_REAL)} & set(str(fourth)))
        else:
            reals = reals or operation in _GIVE_REALS
    return reals and text


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
        return [self._value(kind, value) for kind, value in zip(found[::2], found[1::2], strict=True)]

    def _value(self, kind: Value, value: Value) -> Value:
        if kind == "text" and isinstance(value, bytes):
            return self._text(value)
        if kind == "real" and isinstance(value, int):
            # In an expression, RETURNING gives a whole real as the integer that SQLite keeps (seen in 3.54).
            return float(value)
        return value

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
