"""The statements that change rows of one target, rendered once and kept.

Comparisons of whole rows are of the record *images*, as those of the operator ``*<>``: for Postgres 0.0 = -0.0, and
1 = 1.0 in numeric and jsonb, but for the mirror those are changes. (Its function is called, and not the operator: the
parser would split that into one comparison a column, unless both sides are cast to ``record``; and where Citus writes
the statement for its nodes, it leaves those casts out.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import LiteralString

from psycopg.sql import SQL, Composable, Composed, Identifier, Literal

from mirror.postgres.ddl import names_sql, table_sql, type_sql
from mirror.postgres.profiles.generic import AGENT, MAX_COLUMNS
from mirror.postgres.target import Target

#: Bytes of a row's texts and blobs up to which ``mirror.repairs`` has it whole.
_LOGGED_BYTES = 32_000_000
#: Of a longer row, each value up to so many bytes.
_SHORT_BYTES = 1_000_000
#: Types in which two values can be equal and not the same, so that an upsert must set the key too.
_INEXACT_KEY_TYPES = frozenset({"jsonb", "numeric", "double precision"})


@dataclass(frozen=True, slots=True)
class RowStatements:
    """``upsert``: parameters are the stored columns. ``delete``: the key columns."""

    upsert: bytes
    delete: bytes


@lru_cache(maxsize=4096)
def row_statements(target: Target) -> RowStatements:
    """Return the statements for single rows.

    Every parameter is cast, so that a statement prepared before a column was widened has another
    text than the one after.
    """
    values = SQL(", ").join(
        SQL(f"${number}::{{}}").format(type_sql(pg_type)) for number, (_, pg_type) in enumerate(target.stored, 1)
    )
    names = tuple(name for name, _ in target.stored)
    upsert = SQL("INSERT INTO {} ({}){} VALUES ({}) ON CONFLICT ({}) {}").format(
        table_sql(target),
        names_sql(names),
        overriding(target),
        values,
        names_sql(target.key_columns),
        _on_conflict(target),
    )
    types = dict(target.stored)
    tests = SQL(" AND ").join(
        SQL(f"{{}} = ${number}::{{}}").format(Identifier(name), type_sql(types[name]))
        for number, name in enumerate(target.key_columns, 1)
    )
    delete = SQL("DELETE FROM {} WHERE {}").format(table_sql(target), tests)
    return RowStatements(upsert.as_bytes(), delete.as_bytes())


def overriding(target: Target) -> Composable:
    """What an INSERT needs that gives an identity column of an application's table its value."""
    return SQL(" OVERRIDING SYSTEM VALUE") if target.adopted else SQL("")


def on_conflict(target: Target) -> Composed:
    """What an INSERT of whole rows ends with, for rows that are there."""
    return SQL("ON CONFLICT ({}) {}").format(names_sql(target.key_columns), _on_conflict(target))


def _on_conflict(target: Target) -> Composable:
    """DO UPDATE of the columns that can have changed, or DO NOTHING where no column can."""
    settable = _settable(target)
    if not settable:
        return SQL("DO NOTHING")
    assignments = SQL(", ").join(SQL("{0} = excluded.{0}").format(Identifier(name)) for name in settable)
    return SQL("DO UPDATE SET {}").format(assignments)


def _settable(target: Target) -> tuple[str, ...]:
    return tuple(
        name for name, pg_type in target.stored if name not in target.key_columns or pg_type in _INEXACT_KEY_TYPES
    )


def is_wide(target: Target) -> bool:
    """Whether a target has so many columns that a stage has no room for ``op`` and ``k`` beside them."""
    return len(target.stored) + 2 > MAX_COLUMNS


class Stage:
    """A temporary table for the rows of one target: ``op`` ('u' upsert, 'd' delete, 'r' reject gone,
    'b' the key of a large row that is upserted by itself),
    ``k`` (the key as ``mirror.rejects`` has it, where there are rejects), and c0, c1, ... for the
    target's stored columns (numbered, because a source column may be called anything).

    ``whole``: without ``op`` and ``k``, for all rows of the target. One with both has no room for a target that is
    :func:`wide <is_wide>`.
    """

    def __init__(self, target: Target, name: str, *, whole: bool = False) -> None:
        self.target = target
        self._whole = whole
        self._name = name
        self.table = Identifier("pg_temp", name)
        self._names = tuple(name for name, _ in target.stored)
        self._staged = {name: Identifier(f"c{index}") for index, name in enumerate(self._names)}
        self._rows = table_sql(target)
        """Where comparisons read the target's rows."""

    def create(self) -> Composed:
        """CREATE TEMP TABLE; it is dropped when the transaction ends."""
        if self.target.adopted:
            return self._create_like()
        columns: list[Composable] = [] if self._whole else [SQL('op "char"'), SQL("k text")]
        for name, pg_type in self.target.stored:
            column = SQL("{} {}").format(self._staged[name], type_sql(pg_type))
            columns.append(column + SQL(' COLLATE "C"') if pg_type == "text" else column)
        return SQL("CREATE TEMP TABLE {} ({}) ON COMMIT DROP").format(Identifier(self._name), SQL(", ").join(columns))

    def _create_like(self) -> Composed:
        """:meth:`create` for a table of the application: its columns' limits and collations are the stage's, too, so
        that a value has one image in both.
        """
        columns: list[Composable] = [] if self._whole else [SQL('NULL::"char" AS op'), SQL("NULL::text AS k")]
        columns += [SQL("t.{} AS {}").format(Identifier(name), self._staged[name]) for name in self._names]
        return SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} AS t WITH NO DATA").format(
            Identifier(self._name), SQL(", ").join(columns), table_sql(self.target)
        )

    def copy_changes(self) -> Composed:
        """COPY of op, reject key and values, in text format."""
        columns = SQL(", ").join([SQL("op"), SQL("k"), *self._staged.values()])
        return SQL("COPY {} ({}) FROM STDIN").format(self.table, columns)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns for the target's stored columns."""
        return tuple(f"c{index}" for index in range(len(self._names)))

    def analyze(self) -> Composed:
        """ANALYZE of the columns that joins use: the server has no statistics of a new temporary table."""
        columns: list[Composable] = [] if self._whole else [SQL("op")]
        columns += [self._staged[name] for name in self.target.key_columns]
        return SQL("ANALYZE {} ({})").format(self.table, SQL(", ").join(columns))

    def look(self) -> list[Composed]:
        """What has to be executed before a statement that compares: nothing, where the target itself is read."""
        return []

    def key_texts(self) -> Composed:
        """SELECT of the staged keys, as ``mirror.others_wrote`` has them."""
        texts = SQL(", ").join(SQL("{}::text").format(self._staged[name]) for name in own_key(self.target))
        return SQL("SELECT ARRAY[{}] FROM {}").format(texts, self.table)

    def _same_key(self, left: Composable, right: Composable, *, both_staged: bool = False) -> Composed:
        return SQL(" AND ").join(
            SQL("{}.{} = {}.{}").format(
                left, self._staged[name] if both_staged else Identifier(name), right, self._staged[name]
            )
            for name in self.target.key_columns
        )

    def delete_changed(self) -> Composed:
        """DELETE the rows of all 'd' keys that do not come back as 'u' or 'b'; of a table with unique keys beside the
        key those that come back as 'u', too, so that rows can exchange values. What is 'b' is there already.
        """
        back = SQL("('b')") if self.target.unique_columns else SQL("('u', 'b')")
        return SQL(
            "DELETE FROM {target} AS t USING {stage} AS d WHERE d.op = 'd' AND {joined}"
            " AND NOT EXISTS (SELECT 1 FROM {stage} AS u WHERE u.op IN {back} AND {again})"
        ).format(
            target=table_sql(self.target),
            stage=self.table,
            joined=self._same_key(SQL("t"), SQL("d")),
            back=back,
            again=self._same_key(SQL("u"), SQL("d"), both_staged=True),
        )

    def upsert_changed(self) -> Composed:
        """INSERT the 'u' rows, or update those that are there and differ."""
        statement = SQL(
            "INSERT INTO {target} AS t ({names}){overriding} SELECT {staged} FROM {stage} WHERE op = 'u'"
            " ON CONFLICT ({key}) {action}"
        ).format(
            target=table_sql(self.target),
            names=names_sql(self._names),
            overriding=overriding(self.target),
            staged=SQL(", ").join(list(self._staged.values())),
            stage=self.table,
            key=names_sql(self.target.key_columns),
            action=_on_conflict(self.target),
        )
        settable = _settable(self.target)
        if not settable:
            return statement
        old = SQL(", ").join(SQL("t.{}").format(Identifier(name)) for name in settable)
        new = SQL(", ").join(SQL("excluded.{}").format(Identifier(name)) for name in settable)
        return statement + SQL(" WHERE pg_catalog.record_image_ne(ROW({}), ROW({}))").format(old, new)

    def forget_rejects(self) -> Composed:
        """Mark the reject entries of all staged keys as gone. $1 source, $2 source table."""
        return SQL(
            "UPDATE mirror.rejects AS r SET generation = -1 FROM {} AS s WHERE r.source_id = $1::bigint"
            " AND r.source_table = $2::text AND md5(r.key) = md5(s.k) AND r.key = s.k"
        ).format(self.table)

    def create_different(self, name: str, size: int) -> Composed:
        """CREATE TEMP TABLE for what :meth:`delete_absent` and :meth:`upsert_different` would do, row by row.

        Its columns are ``range``, 0 for the first ``size`` rows in key order, and those of a stage; it outlives the
        transaction.
        """
        keys = self.target.key_columns
        gone = [SQL("t.{}").format(Identifier(n)) if n in keys else SQL("NULL") for n in self._names]
        return SQL(
            "CREATE TEMP TABLE {name} AS SELECT (row_number() OVER (ORDER BY {keys}) - 1) / {size} AS range, * FROM ("
            "SELECT 'u'::\"char\" AS op, NULL AS k, {new} FROM {stage} AS s LEFT JOIN {target} AS t ON {joined}"
            " WHERE {differs} UNION ALL SELECT 'd', NULL, {gone} FROM {target} AS t WHERE {absent}) AS different"
        ).format(
            name=Identifier(name),
            keys=SQL(", ").join(self._staged[key] for key in keys),
            size=Literal(size),
            new=SQL(", ").join(SQL("s.{}").format(column) for column in self._staged.values()),
            stage=self.table,
            target=self._rows,
            joined=self._same_key(SQL("t"), SQL("s")),
            differs=self._differs(),
            gone=SQL(", ").join(gone),
            absent=self._absent(),
        )

    def fill_from(self, name: str) -> Composed:
        """INSERT one range of what :meth:`create_different` has found. $1 its number."""
        columns = SQL(", ").join([SQL("op"), SQL("k"), *self._staged.values()])
        return SQL("INSERT INTO {} ({}) SELECT {} FROM {} WHERE range = $1::bigint").format(
            self.table, columns, columns, Identifier("pg_temp", name)
        )

    def count_different(self) -> Composed:
        """SELECT how many staged rows differ from the target, or are still in it, after :meth:`upsert_changed`."""
        return SQL(
            "SELECT count(*) FROM {stage} AS s LEFT JOIN {target} AS t ON {joined}"
            " WHERE CASE WHEN s.op = 'd' THEN t.{first} IS NOT NULL ELSE {differs} END"
        ).format(
            stage=self.table,
            target=self._rows,
            joined=self._same_key(SQL("t"), SQL("s")),
            first=Identifier(self.target.key_columns[0]),
            differs=self._differs(),
        )

    def log_repairs(self, *, whole: bool) -> tuple[Composed, Composed]:
        """INSERT into ``mirror.repairs`` what is about to be changed. $1 source.

        By :meth:`delete_absent` and :meth:`upsert_different` if the stage holds the ``whole`` table, else by
        :meth:`delete_changed` and :meth:`upsert_changed`.
        """
        into = SQL(
            "INSERT INTO mirror.repairs (source_id, target_schema, target_table, kind, before, after)"
            " SELECT $1::bigint, {}, {}, "
        ).format(Literal(self.target.schema), Literal(self.target.name))
        staged = SQL("EXISTS (SELECT FROM {} AS s WHERE s.op = 'd' AND {})").format(
            self.table, self._same_key(SQL("t"), SQL("s"))
        )
        before, after = self._as_json("t", Identifier), self._as_json("s", self._staged.__getitem__)
        extra = into + SQL("'extra', {}, NULL FROM {} AS t WHERE {}").format(
            before, self._rows, self._absent() if whole else staged
        )
        first = Identifier(self.target.key_columns[0])
        others = into + SQL(
            "CASE WHEN t.{first} IS NULL THEN 'missing' ELSE 'different' END,"
            " CASE WHEN t.{first} IS NOT NULL THEN {before} END, {after}"
            " FROM {stage} AS s LEFT JOIN {target} AS t ON {joined} WHERE {staying} AND {differs}"
        ).format(
            staying=SQL("true") if self._whole else SQL("s.op IS DISTINCT FROM 'd'"),
            first=first,
            before=before,
            after=after,
            stage=self.table,
            target=self._rows,
            joined=self._same_key(SQL("t"), SQL("s")),
            differs=self._differs(),
        )
        return extra, others

    def _as_json(self, row: LiteralString, column_of: Callable[[str], Identifier]) -> Composed:
        """A row as jsonb, which holds less than 256 MB: of a large value there is only its size in bytes."""
        columns = {name: SQL(row + ".{}").format(column_of(name)) for name in self._names}
        sizes = {
            name: SQL("octet_length({})").format(columns[name])
            for name, pg_type in self.target.stored
            if pg_type in ("bytea", "text")
        }
        shown = SQL(", ").join(
            SQL("CASE WHEN {size} > {most} THEN jsonb_build_object('left_out', {size}) ELSE to_jsonb({c}) END AS {n}")
            .format(size=sizes[name], most=Literal(_SHORT_BYTES), c=column, n=Identifier(name))
            if name in sizes
            else SQL("{} AS {}").format(column, Identifier(name))
            for name, column in columns.items()
        )  # fmt: skip
        whole = SQL("to_jsonb(t)") if row == "t" else SQL("(SELECT to_jsonb(x) FROM (SELECT {}) AS x)").format(
            SQL(", ").join(SQL("{} AS {}").format(column, Identifier(name)) for name, column in columns.items())
        )  # fmt: skip
        if not sizes:
            return Composed([whole])
        return SQL("CASE WHEN {} > {} THEN (SELECT to_jsonb(x) FROM (SELECT {}) AS x) ELSE {} END").format(
            SQL(" + ").join(SQL("coalesce({}, 0)::bigint").format(size) for size in sizes.values()),
            Literal(_LOGGED_BYTES), shown, whole,
        )  # fmt: skip

    def _absent(self) -> Composed:
        """Whether a row of the target, ``t``, is not staged."""
        absent = SQL("NOT EXISTS (SELECT 1 FROM {} AS s WHERE {})").format(
            self.table, self._same_key(SQL("t"), SQL("s"))
        )
        if self.target.agent is None:
            return absent
        return absent + SQL(" AND t.{} = {}").format(Identifier(AGENT), Literal(self.target.agent))

    def _differs(self) -> Composed:
        """Whether a staged row, ``s``, is not in the target, or differs from the target's row, ``t``."""
        old = SQL(", ").join(SQL("t.{}").format(Identifier(name)) for name in self._names)
        new = SQL(", ").join(SQL("s.{}").format(column) for column in self._staged.values())
        return SQL("(t.{} IS NULL OR pg_catalog.record_image_ne(ROW({}), ROW({})))").format(
            Identifier(self.target.key_columns[0]), old, new
        )

    def delete_absent(self) -> Composed:
        """DELETE the rows with a key that is not staged (the stage has the whole table, or all of the agent's rows)."""
        return SQL("DELETE FROM {} AS t WHERE {}").format(table_sql(self.target), self._absent())

    def count_absent(self) -> Composed:
        """SELECT how many rows :meth:`delete_absent` would delete."""
        return SQL("SELECT count(*) FROM {} AS t WHERE {}").format(self._rows, self._absent())

    def delete_exchanged(self) -> Composed | None:
        """DELETE the rows that have another value in a unique key than the staged ones; None: there is no such key."""
        if not (names := self.target.unique_columns):
            return None
        old = SQL(", ").join(SQL("t.{}").format(Identifier(name)) for name in names)
        new = SQL(", ").join(SQL("s.{}").format(self._staged[name]) for name in names)
        return SQL(
            "DELETE FROM {} AS t USING {} AS s WHERE {} AND pg_catalog.record_image_ne(ROW({}), ROW({}))"
        ).format(table_sql(self.target), self.table, self._same_key(SQL("t"), SQL("s")), old, new)

    def upsert_different(self) -> Composed:
        """INSERT or update only the staged rows that differ from the target's.

        A join finds them first: ON CONFLICT would lock, and so write, every row with the same key.
        """
        new = SQL(", ").join(SQL("s.{}").format(column) for column in self._staged.values())
        return SQL(
            "INSERT INTO {target} ({names}){overriding} SELECT {new} FROM {stage} AS s"
            " LEFT JOIN {rows} AS t ON {joined} WHERE {differs}"
            " ON CONFLICT ({key}) {action}"
        ).format(
            target=table_sql(self.target),
            rows=self._rows,
            names=names_sql(self._names),
            overriding=overriding(self.target),
            new=new,
            stage=self.table,
            joined=self._same_key(SQL("t"), SQL("s")),
            differs=self._differs(),
            key=names_sql(self.target.key_columns),
            action=_on_conflict(self.target),
        )


def own_key(target: Target) -> list[str]:
    """The columns of a key as ``mirror.others_wrote`` has it: in the order of their names, without ``agent_id``."""
    return sorted(name for name in target.key_columns if target.agent is None or name != AGENT)


def row_json(target: Target) -> Composed:
    """A row of the target, ``t``, as jsonb; of a value that is too large for that there is only its size."""
    return Stage(target, "")._as_json("t", Identifier)
