"""Tables that Citus has spread over the nodes of a cluster, or copied to each of them.

A statement that changes such a table is made for its nodes, and a temporary table is on none of them. Citus refuses
nearly all joins of the two in UPDATE, DELETE and MERGE (FeatureNotSupported, "is not distributed"), and where it does
join them, it may move whole tables. What it takes: INSERT … SELECT … ON CONFLICT from a temporary table, a temporary
table made of what was selected, and keys as arrays. So rows that are to be compared are fetched, and compared here; and
keys go to the nodes in arrays. All statements name the agent, so that each goes to one node.

Where one node is written to, Citus commits there before it commits here, so that the position is never ahead of the
rows; after a crash between the two the same rows are written once more. Where several are, it is in two phases.

Which tables these are is asked in each transaction that needs to know, because they are distributed while mirrors
run. Without Citus that is one look at the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable

from psycopg.sql import SQL, Composed, Identifier, Literal

from mirror.postgres.ddl import table_sql
from mirror.postgres.dml import Stage
from mirror.postgres.profiles.generic import AGENT
from mirror.postgres.target import Conn, Target

#: Keys in one statement.
_KEYS = 10_000

_HAS_CITUS = "SELECT pg_catalog.to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"
_WHICH = (
    "SELECT n.nspname, c.relname FROM pg_catalog.pg_dist_partition p"
    " JOIN pg_catalog.pg_class c ON c.oid = p.logicalrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " JOIN unnest($1::text[], $2::text[]) AS w (s, t) ON w.s = n.nspname AND w.t = c.relname"
)
#: Otherwise Citus refuses an INSERT … SELECT of more than a gigabyte.
_NO_LIMIT = "SET LOCAL citus.max_intermediate_result_size = -1"


def distributed(conn: Conn, targets: Iterable[Target]) -> set[tuple[str, str]]:
    """Schema and name of those tables that Citus has; raises psycopg's errors."""
    names = {(target.schema, target.name) for target in targets}
    if not names or conn.execute(_HAS_CITUS).fetchone() != (True,):
        return set()
    found = conn.execute(_WHICH, ([schema for schema, _ in names], [name for _, name in names]))
    return {(schema, name) for schema, name in found}


def stage_for(conn: Conn, target: Target, name: str, *, whole: bool = False) -> Stage:
    """A stage for a target, wherever that is; inside the transaction that uses it. Raises psycopg's errors."""
    if not distributed(conn, [target]):
        return Stage(target, name, whole=whole)
    conn.execute(_NO_LIMIT)
    return DistributedStage(target, name, whole=whole)


def rows_here(conn: Conn, target: Target, name: str) -> Identifier:
    """Where a statement that has temporary tables can read a target's rows: the table, or a copy of them of that name.

    Inside a transaction, at the end of which the copy is dropped. Raises psycopg's errors.
    """
    if not distributed(conn, [target]):
        return table_sql(target)
    copy = Identifier("pg_temp", name)
    conn.execute(SQL("DROP TABLE IF EXISTS {}").format(copy))
    conn.execute(_copied(target, Identifier(name)))
    return copy


def look(conn: Conn, stage: Stage) -> None:
    """What has to come before a statement of the stage that compares, and again after the target has changed."""
    for step in stage.look():
        conn.execute(step)


class DistributedStage(Stage):
    """A stage for a target that Citus has: see the module."""

    def __init__(self, target: Target, name: str, *, whole: bool = False) -> None:
        super().__init__(target, name, whole=whole)
        self._copy = Identifier(f"{name}_rows")
        self._rows = Identifier("pg_temp", f"{name}_rows")
        self._given = [name for name in target.key_columns if target.agent is None or name != AGENT]
        """The columns of the key but for the agent, which is the same in all rows."""

    def look(self) -> list[Composed]:
        """Fetch the rows that are to be compared: all of the agent's, or those with staged keys."""
        steps = [SQL("DROP TABLE IF EXISTS {}").format(self._rows)]
        if self._whole:
            steps.append(_copied(self.target, self._copy))
        else:
            into = SQL("INSERT INTO {} SELECT t.* FROM {} AS t JOIN {} ON {}").format(
                self._rows, table_sql(self.target), self._arrays(), self._same_as_given()
            )
            columns = SQL(", ").join(self._staged[name] for name in self._given)
            keys = SQL("SELECT DISTINCT {} FROM {}").format(columns, self.table)
            steps += [_copied(self.target, self._copy, rows=False), self._for_keys(keys, into)]
        names = SQL(", ").join(map(Identifier, self.target.key_columns))
        return [*steps, SQL("ANALYZE {} ({})").format(self._rows, names)]

    def delete_changed(self) -> Composed:
        """As :meth:`Stage.delete_changed`."""
        columns = SQL(", ").join(SQL("d.{}").format(self._staged[name]) for name in self._given)
        keys = SQL(
            "SELECT DISTINCT {columns} FROM {stage} AS d WHERE d.op = 'd'"
            " AND NOT EXISTS (SELECT 1 FROM {stage} AS u WHERE u.op IN ('u', 'b') AND {again})"
        ).format(
            columns=columns,
            stage=self.table,
            again=self._same_key(SQL("u"), SQL("d"), both_staged=True),
        )
        return self._for_keys(keys, self._delete())

    def delete_absent(self) -> Composed:
        """As :meth:`Stage.delete_absent`; after :meth:`look`."""
        columns = SQL(", ").join(SQL("t.{} AS {}").format(Identifier(name), self._staged[name]) for name in self._given)
        keys = SQL("SELECT {} FROM {} AS t WHERE {}").format(columns, self._rows, self._absent())
        return self._for_keys(keys, self._delete())

    def _delete(self) -> Composed:
        return SQL("DELETE FROM {} AS t USING {} WHERE {}").format(
            table_sql(self.target), self._arrays(), self._same_as_given()
        )

    def _arrays(self) -> Composed:
        """FROM item of the keys that :meth:`_for_keys` gives."""
        columns = [self._staged[name] for name in self._given]
        arrays = SQL(", ").join(SQL("given.{}").format(column) for column in columns)
        return SQL("unnest({}) AS k ({})").format(arrays, SQL(", ").join(columns))

    def _same_as_given(self) -> Composed:
        """Whether a row of the target, ``t``, is the agent's and has a key of :meth:`_arrays`."""
        same = [SQL("t.{} = k.{}").format(Identifier(name), self._staged[name]) for name in self._given]
        if self.target.agent is not None:
            same.insert(0, SQL("t.{} = {}").format(Identifier(AGENT), Literal(self.target.agent)))
        return SQL(" AND ").join(same)

    def _for_keys(self, keys: Composed, statement: Composed) -> Composed:
        """A block that runs a statement for all keys of a query, some at a time.

        ``keys``: SELECT of the key's columns, named as they are staged. The server makes the arrays itself: the keys
        are on its disk, and are not sent to the mirror and back.
        """
        arrays = SQL(", ").join(SQL("array_agg(n.{0}) AS {0}").format(self._staged[name]) for name in self._given)
        block = SQL(
            "DECLARE given record; BEGIN FOR given IN SELECT {arrays} FROM ("
            "SELECT q.*, (row_number() OVER () - 1) / {size} AS part FROM ({keys}) AS q) AS n GROUP BY n.part"
            " LOOP {statement}; END LOOP; END"
        ).format(arrays=arrays, size=Literal(_KEYS), keys=keys, statement=statement)
        return SQL("DO {}").format(Literal(block.as_string()))


def _copied(target: Target, name: Identifier, *, rows: bool = True) -> Composed:
    """CREATE TEMP TABLE of a target's columns, with the agent's rows."""
    made = SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT * FROM {} AS t").format(name, table_sql(target))
    if not rows:
        return made + SQL(" WITH NO DATA")
    if target.agent is None:
        return made
    return made + SQL(" WHERE t.{} = {}").format(Identifier(AGENT), Literal(target.agent))
