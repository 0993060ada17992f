"""A batch's schema changes, applied to Postgres inside the batch's transaction.

Old names are freed before new ones are taken, so that chained and swapped renames (t -> old, new -> t) need no
order of their own. What the source drops is kept in Postgres under another name. A table that is refused
(see :mod:`~mirror.postgres.refusals`) may still be in Postgres, at an older state.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from types import MappingProxyType

from loguru import logger

from mirror.core.errors import ConfigError, RefusedError, SinkError
from mirror.core.positions import Lsn
from mirror.core.rows import SchemaChange
from mirror.core.tables import ANY_TEXT, ANY_VALUE, ColumnType, MapTable, Table
from mirror.postgres import ddl, history, originals_ddl, retype, shared_tables, vector_views, watch, withheld
from mirror.postgres.adopted import tables
from mirror.postgres.defaults import shown_default
from mirror.postgres.dml import Stage
from mirror.postgres.kept import Replaced, drop_replaced, others_wrote
from mirror.postgres.names import free_name
from mirror.postgres.profiles.generic import NO_OVERRIDES
from mirror.postgres.refusals import (
    Refusal,
    attempt,
    forget_refusal,
    forget_rejects,
    rename_rejects,
    save_refusal,
)
from mirror.postgres.signals import RowsNeeded, Seen
from mirror.postgres.target import Conn, Target, forget_target, oid_of, require_free, save_target
from mirror.postgres.typed import encoder, original_member

#: No column needs another type.
NO_WIDENING: Mapping[tuple[str, str], ColumnType] = MappingProxyType({})


class SchemaEditor:
    """Edits the tables of one source, and keeps ``targets`` and ``refusals``, the caller's working copies, current."""

    def __init__(
        self,
        conn: Conn,
        source_id: int,
        schema: str,
        map_table: MapTable,
        targets: dict[str, Target],
        refusals: dict[str, Refusal],
        agent: str | None = None,
        misfits: dict[tuple[str, str], Seen] | None = None,
        *,
        adopted: bool = False,
        replace_rows: bool = False,
    ) -> None:
        """``agent``: owner of the source's rows, in tables shared with other agents; None: its tables are its own.
        ``misfits``: by source table and column, the first values that did not fit. ``adopted``: its tables are those
        that the application made; ``replace_rows``: rows in them that the source does not have may go.
        """
        self.adopted = adopted
        self._replace_rows = replace_rows
        self._conn = conn
        self._agent = agent
        self._source_id = source_id
        self._schema = schema
        self._map_table = map_table
        self.targets = targets
        self.refusals = refusals
        self.misfits = {} if misfits is None else misfits
        self._before = targets.copy()
        self._made: set[object] = set()
        """The tables (oid) that were made in this transaction: they are not watched yet."""
        self._vectors: dict[str, tuple[tuple[str, str], ...]] = {}
        """The vec0 tables of which tables were made: their columns."""
        self._replaced: list[Replaced] = []
        """Tables that are kept, and another one of the source has their rows, or should."""

    def apply(
        self,
        changes: Iterable[SchemaChange],
        lsn: Lsn,
        *,
        widen: Mapping[tuple[str, str], ColumnType],
        rekey: Collection[str],
        careful: bool,
    ) -> None:
        """Make the changes; then give columns the types of ``widen``, by source table and source column.

        Tables in ``rekey`` are rebuilt on ``_rowid``. ``careful``: what Postgres refuses is undone and
        saved as a refusal; otherwise it raises :class:`RefusedError`, or psycopg's error. Raises :class:`RowsNeeded`.
        """
        changes = list(changes)
        if self._agent is not None or self.adopted:
            for change in changes:
                moves = self.adopted or not change.only_adds
                if change.kind in ("rename", "columns") and moves and change.after is not None:
                    raise RowsNeeded(change.after.name)
        refused = dict(self.refusals)
        kept = [(change, self._vacate(change, lsn, rekey)) for change in changes]
        fresh: set[str] = set()
        for change, held in kept:
            table = change.after
            if table is None or table.name in self.refusals:
                continue
            if change.kind == "rename" and held is None and change.before is not None:
                self._remember_refusal(replace(refused[change.before.name], table=table.name))
                continue
            overrides = {column: becomes for (name, column), becomes in widen.items() if name == table.name}
            if change.kind in ("rename", "columns") and held is not None:
                done = self._try(table.name, partial(self._carry, change, table, held, overrides, lsn), careful)
                if not done and held.source != table.name:
                    self._keep_parked(held, lsn, change.withheld)
                continue
            # Once keyed on the rowid, a table stays so: the NULL may still be there.
            by_rowid = (held is not None and held.key is None) or table.name in rekey
            self._try(table.name, partial(self.create, table, overrides=overrides, rowid_key=by_rowid), careful)
            fresh.add(table.name)
        for name in {name for name, _ in widen} - fresh - self.refusals.keys():
            overrides = {column: becomes for (table_name, column), becomes in widen.items() if table_name == name}
            self._try(name, partial(self.widen, name, overrides), careful)

    def _try(self, table: str, action: Callable[[], object], careful: bool) -> bool:
        """Run a change of a table; with ``careful``, one that is refused is undone and saved, and False returned."""
        if not careful:
            action()
            return True
        before = dict(self.targets)
        try:
            with attempt(self._conn, "change a table", table):
                action()
        except RefusedError as error:
            self.targets.clear()
            self.targets.update(before)
            self.refuse(table, error)
            return False
        return True

    def refuse(self, table: str, error: RefusedError) -> None:
        """Save that a table is not kept equal from now on."""
        self._remember_refusal(Refusal.of(table, error))

    def _remember_refusal(self, refusal: Refusal) -> None:
        self.refusals[refusal.table] = refusal
        save_refusal(self._conn, self._source_id, refusal)

    def lift(self, table: str) -> None:
        """Delete a refusal, if there is one."""
        if self.refusals.pop(table, None) is not None:
            forget_refusal(self._conn, self._source_id, table)

    def create(
        self,
        table: Table,
        *,
        overrides: Mapping[str, ColumnType] = NO_OVERRIDES,
        rowid_key: bool = False,
        primary_key: bool = True,
    ) -> Target:
        """Create and save the table; with ``primary_key=False`` the caller fills it, and adds the key later.

        For an agent's source it may be there already, with other agents' rows, and then has its key.
        """
        rowid_key = rowid_key and bool(table.primary_key) and not table.without_rowid
        target = self.mapped(table, overrides, rowid_key)
        if self._agent is not None:
            target = shared_tables.adopt(self._conn, self._source_id, target)
            self.remember(target)
            return target
        if self.adopted:
            tables.adopt(self._conn, self._source_id, target)
            if primary_key:
                if table.name not in self._before:
                    self.require_replaceable(target)
                tables.clear(self._conn, target)
            self.remember(target)
            return target
        require_free(self._conn, self._source_id, target.schema, target.name)
        self._conn.execute(ddl.create_table(target))
        self._made.add(oid_of(self._conn, target))
        if table.virtual is not None and table.unpacked:
            vector_views.keep_uncompressed(self._conn, target)
            self._vectors[table.virtual] = table.unpacked
        if primary_key:
            self._conn.execute(ddl.add_primary_key(target))
        self.remember(self._with_widened(table, target, overrides, rowid_key=rowid_key))
        return target

    def require_replaceable(self, target: Target, stage: Stage | None = None) -> None:
        """See :func:`mirror.postgres.adopted.tables.require_replaceable`."""
        if not self._replace_rows:
            tables.require_replaceable(self._conn, target, stage)

    def _with_widened(
        self, table: Table, target: Target, overrides: Mapping[str, ColumnType], *, rowid_key: bool
    ) -> Target:
        """The target of a table that was made, where columns are jsonb at once for values that would not fit."""
        if ANY_VALUE not in overrides.values():
            return target
        declared = self.mapped(table, NO_OVERRIDES, rowid_key)
        types = {column.source: column.type for column in declared.columns}
        return history.of_made(target, types, self._before.get(table.name), self.misfits)

    def finish(self, send: Callable[[], object] = lambda: None) -> None:
        """To be called when all tables are there with their rows; ``send``: sends what is queued of these.

        Makes the views of the vec0 tables of which tables were made. Of a table that was made anew no copy is left, but
        for one that has more than the table in its place, and one that objects of others use.
        """
        for virtual, columns in self._vectors.items():
            vector_views.make_view(self._conn, self._schema, virtual, columns, self.targets)
        made = [each for each in self._replaced if each.by in self.targets and each.by not in self.refusals]
        if made:
            send()
            drop_replaced(self._conn, self._source_id, [(each, self.targets[each.by]) for each in made])

    def widen(self, table: str, overrides: Mapping[str, ColumnType]) -> Target:
        """Give source columns of a table types that hold more, with their values."""
        held = self._held(table)
        narrow = [c for c in held.columns if overrides.get(c.source) == ANY_VALUE and c.widenable]
        texts = [c for c in held.columns if overrides.get(c.source) == ANY_TEXT and held.may_be_any_text(c)]
        if not narrow and not texts:
            return held
        target = held.with_types({c.source: overrides[c.source] for c in (*narrow, *texts)})
        if narrow:
            shared_tables.widen(self._conn, held, narrow)
            left = {c.source: c.source for c in held.columns if c not in narrow}
            originals_ddl.rename_members(self._conn, held, left)
        originals_ddl.agree(self._conn, held, target)
        self.remember(target)
        return target

    def change_types(self, wanted: Target) -> Target:
        """Give the columns of a table other types; its rows must be sent in the same transaction."""
        target = retype.change_types(self._conn, self._held(wanted.source), wanted)
        self.remember(target)
        return target

    def select(self, wanted: Target) -> Target:
        """Drop the columns of a table that a rule leaves out now, and add those that one has left out before.

        All its rows must be sent in the same transaction. Raises psycopg's errors: where a view uses a column, say.
        """
        target = retype.select_columns(self._conn, self._held(wanted.source), wanted)
        self.remember(target)
        return target

    def retire(
        self,
        table: str,
        lsn: Lsn,
        *,
        drop: bool = False,
        without: Collection[str] = (),
        replaced_by: str | None = None,
    ) -> None:
        """Stop mirroring a table: keep it in Postgres as ``<name>__dropped_<lsn>``, or drop it.

        Of a table that is shared, only the agent's rows. ``without``: the source's columns that are not kept.
        ``replaced_by``: the source's table that has its rows now, so that :meth:`finish` may drop it; not where others
        have written in it.
        """
        target = self.targets[table]
        if target.adopted:
            tables.release(self._conn, target)
            self.forget(table)
            return
        kept = None
        if replaced_by is not None and others_wrote(self._conn, self._source_id, table):
            replaced_by = None
        if target.agent is not None:
            if drop:
                shared_tables.take_out(self._conn, target)
            else:
                kept = shared_tables.move_out(self._conn, self._source_id, target, lsn)
            if kept is not None and replaced_by is not None:
                names = tuple(column.name for column in target.columns)
                self._replaced.append(Replaced(target.schema, kept, replaced_by, names))
            self.forget(table)
            shared_tables.drop_if_unused(self._conn, target)
            return
        vector_views.drop_view(self._conn, target)
        if drop:
            self._conn.execute(ddl.drop_table(target))
        elif oid_of(self._conn, target) not in self._made and not watch.is_watched(
            self._conn, target.schema, target.name
        ):
            # Somebody may have made it in place of the mirror's.
            kept = self._keep(target, target.name, lsn, strange=True)
            replaced_by = None
            words = "{}.{} is not known to be the mirror's own, and is {} from now on"
            logger.warning(words, target.schema, target.name, kept)
        else:
            withheld.take_out(self._conn, target, without)
            kept = self._keep(target, target.name, lsn)
        if kept is not None and replaced_by is not None:
            self._replaced.append(Replaced(target.schema, kept, replaced_by))
        self.forget(table)

    def forget(self, table: str) -> None:
        """Delete the records of a table and its rejects; the table itself stays as it is."""
        self.targets.pop(table, None)
        forget_rejects(self._conn, self._source_id, table)
        self._conn.execute(
            "DELETE FROM mirror.others_wrote WHERE source_id = $1::bigint AND source_table = $2::text",
            (str(self._source_id), table),
        )
        forget_target(self._conn, self._source_id, table)

    def extend(self, table: Table, overrides: Mapping[str, ColumnType] = NO_OVERRIDES) -> Target:
        """Add the columns that ``table`` has and the table in Postgres has not, filled with their defaults."""
        held = self._held(table.name)
        mapped = self._mapped_like(table, held, overrides)
        if self._agent is not None:
            return self._extend_shared(table, held, mapped)
        columns = list(held.columns)
        for index in range(len(held.columns), len(table.columns)):
            column, text = shown_default(table, index, mapped, overrides)
            for step in ddl.add_column(held, column.name, column.pg_type, text):
                self._conn.execute(step)
            columns.append(column)
        target = replace(held, columns=tuple(columns), omitted=mapped.omitted, inherited=mapped.inherited)
        originals_ddl.agree(self._conn, held, target)
        for column, of_source in list(zip(target.columns, table.columns, strict=True))[len(held.columns) :]:
            shown = encoder(column.pg_type, column.codec)(of_source.default)
            if member := original_member(column.codec, of_source.default, shown):
                originals_ddl.add_member(self._conn, target, column.source, member)
        self.remember(target)
        return target

    def _extend_shared(self, table: Table, held: Target, mapped: Target) -> Target:
        """Add the columns that other agents' sources have not added yet; the agent's rows get the defaults."""
        added = range(len(held.columns), len(table.columns))
        shown = [shown_default(table, index, mapped) for index in added]
        wanted = replace(held, columns=(*held.columns, *(column for column, _ in shown)))
        target = shared_tables.adopt(self._conn, self._source_id, wanted)
        for index, (column, text) in zip(added, shown, strict=True):
            if target.columns[index] != column or original_member(column.codec, table.columns[index].default, text):
                raise RowsNeeded(table.name)  # the default fits this type, but with another text
            if text is not None:
                shared_tables.show_default(self._conn, target, column, text)
        self.remember(target)
        return target

    def _vacate(self, change: SchemaChange, lsn: Lsn, rekey: Collection[str]) -> Target | None:
        """Free the old name of a changed table; return the target before the change.

        None for a new table, and for one that was refused.
        """
        if change.before is None:
            return None
        source = change.before.name
        if source in self.refusals:
            # All rows of a rebuilt table come with the batch; a renamed one stays refused under its new name.
            if change.kind != "columns":
                self.lift(source)
                if source in self.targets:
                    self.retire(source, lsn, without=change.withheld)
            return None
        held = self._held(source)
        if change.kind in ("drop", "rebuild"):
            drop = change.kind == "rebuild" and source in rekey
            by = source if change.kind == "rebuild" else change.successor
            self.retire(source, lsn, drop=drop, without=change.withheld, replaced_by=by)
        elif change.after is not None and change.after.name != source:
            del self.targets[source]
            forget_target(self._conn, self._source_id, source)
            parked = self._parked(source)
            vector_views.drop_view(self._conn, held)
            self._conn.execute(ddl.rename_table(held.schema, held.name, parked))
            rename_rejects(self._conn, self._source_id, source, parked)
        return held

    def _carry(
        self, change: SchemaChange, table: Table, held: Target, overrides: Mapping[str, ColumnType], lsn: Lsn
    ) -> None:
        """Finish a rename, or change columns."""
        if table.name != held.source:
            parked = self._parked(held.source)
            name = self._mapped_like(table, held, NO_OVERRIDES).name
            require_free(self._conn, self._source_id, held.schema, name)
            self._conn.execute(ddl.rename_table(held.schema, parked, name))
            rename_rejects(self._conn, self._source_id, parked, table.name)
            held = replace(held, source=table.name, name=name, virtual=table.virtual, inherited=table.inherited)
            self.remember(held)
            if table.virtual is not None and table.unpacked:
                self._vectors[table.virtual] = table.unpacked
        if change.kind == "columns":
            self._rename_columns(table, held, change, lsn)
            self.extend(table, overrides)

    def _rename_columns(self, table: Table, held: Target, change: SchemaChange, lsn: Lsn) -> None:
        """Rename columns that were renamed, and those that were dropped, which keep their values; not those that a rule
        leaves out now.

        Old names are freed first, as with tables.
        """
        kept = [held.columns[at] for at in change.carried if at is not None]
        wanted = self._mapped_names(table, held)
        steps = []
        renamed: dict[str, str] = {}
        taken = {*(column.name for column in held.columns), *wanted.values()}
        free = (name for name in map("mirror_renaming_{}".format, count()) if name not in taken)
        for column, source in zip(kept, table.columns, strict=False):
            name = wanted[source.name]
            if name != column.name:
                parked = next(free)
                steps.append((parked, name))
                self._conn.execute(ddl.rename_column(held, column.name, parked))
            renamed[column.name] = name
        for column in held.columns:
            if column.source in change.withheld:
                self._conn.execute(withheld.drop_columns(held, [column]))
                withheld.clear_rejects(self._conn, self._source_id, table.name)
            elif column not in kept:
                for step in ddl.drop_column(held, column.name, lsn, table.name, self._source_id):
                    self._conn.execute(step)
        for parked, name in steps:
            self._conn.execute(ddl.rename_column(held, parked, name))
        columns = tuple(
            replace(column, source=source.name, name=renamed[column.name])
            for column, source in zip(kept, table.columns, strict=False)
        )
        key = None if held.key is None else tuple(renamed[name] for name in held.key)
        target = replace(held, source=table.name, columns=columns, key=key)
        sources = {old.source: new.source for old, new in zip(kept, columns, strict=True)}
        originals_ddl.rename_members(self._conn, held, sources)
        originals_ddl.agree(self._conn, held, target)
        self.remember(target)

    def _mapped_names(self, table: Table, held: Target) -> dict[str, str]:
        return {column.source: column.name for column in self._mapped_like(table, held, NO_OVERRIDES).columns}

    def _keep_parked(self, held: Target, lsn: Lsn, without: Collection[str]) -> None:
        """Keep a table, of which the new name is refused, like one that was dropped."""
        parked = self._parked(held.source)
        withheld.take_out(self._conn, replace(held, name=parked), without)
        self._keep(held, parked, lsn)
        forget_rejects(self._conn, self._source_id, parked)

    def _keep(self, target: Target, name: str, lsn: Lsn, *, strange: bool = False) -> str:
        """Keep a table that the source has no more, and that has this name now; returns the one that it gets.

        ``strange``: it is not known that a mirror has made it.
        """
        kept = free_name(self._conn, target.schema, ddl.dropped_name(target.name, lsn))
        self._conn.execute(ddl.rename_table(target.schema, name, kept))
        self._conn.execute(ddl.mark_kept(target, kept, self._source_id, strange=strange))
        return kept

    def _parked(self, source: str) -> str:
        """Name of a table between the two halves of its rename; no source table has it."""
        return ddl.dropped_name(f"mirror_renaming_{source}", Lsn(self._source_id, 0))

    def _mapped_like(self, table: Table, held: Target, overrides: Mapping[str, ColumnType]) -> Target:
        """Map ``table`` with the overrides and the kind of key that ``held`` has."""
        return self.mapped(table, {**held.overrides, **overrides}, held.key is None and bool(table.primary_key))

    def mapped(self, table: Table, overrides: Mapping[str, ColumnType], rowid_key: bool) -> Target:
        """Where the profile stores a table; raises :class:`RefusedError` if it cannot."""
        try:
            mapping = self._map_table(
                table,
                self._schema,
                overrides=overrides,
                rowid_key=rowid_key,
                of_agent=self._agent is not None,
            )
        except ConfigError as error:
            raise RefusedError(error.operation, error.place, error.detail, next_step=error.next_step) from error
        return Target.of(mapping, self._agent)

    def stored(self, table: str) -> Target | None:
        """Where a table's rows go; None for a table that is refused. Raises :class:`SinkError` if it is not stored."""
        return None if table in self.refusals else self._held(table)

    def _held(self, table: str) -> Target:
        target = self.targets.get(table)
        if target is None:
            raise SinkError("use a table", table, "it is not stored in Postgres")
        return target

    def remember(self, target: Target) -> None:
        """Save where a table is stored."""
        if (before := self.targets.get(target.source)) is not None:
            target = history.continued(target, before, self.misfits)
        save_target(self._conn, self._source_id, target)
        self.targets[target.source] = target
