"""The decoder: turns two states of a database and the pages that differ into schema changes and row changes.

A batch may hold one commit or thousands: what is compared is the state before the first and after
the last, so each row is given at most once, however often it was written in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from mirror.core.errors import FormatError
from mirror.core.inherited import Known, inherited, withheld
from mirror.core.rows import RowChange, SchemaChange, TableChanges
from mirror.core.tables import Column, Table, begin_alike
from mirror.sqlite.decode.keys import once
from mirror.sqlite.decode.mapping import ReadRun, map_tree
from mirror.sqlite.decode.pagemap import NONE, TREE, MapUpdate, Owner, PageMap
from mirror.sqlite.decode.rows import RowDiff, RowFormat, RowReader
from mirror.sqlite.decode.salvage import readable_rows
from mirror.sqlite.decode.schema import Schema, read_schema
from mirror.sqlite.decode.trees import compare_tree, walk
from mirror.sqlite.format.btree import Geometry, ReadPage, is_interior

#: Pages of each state that are kept while a page set is decoded.
_KEPT_PAGES = 32
#: Overflow pages of which the owner is kept while a page set is assigned to trees: a long chain is walked now and then,
#: not once a page.
_KEPT_OWNERS = 1 << 16

#: ``sqlite_schema`` itself, the table whose root is page 1.
SCHEMA_TABLE = Table(
    name="sqlite_schema",
    root=1,
    columns=(
        Column("type", "TEXT", "TEXT"),
        Column("name", "TEXT", "TEXT"),
        Column("tbl_name", "TEXT", "TEXT"),
        Column("rootpage", "INT", "INTEGER"),
        Column("sql", "TEXT", "TEXT"),
    ),
    primary_key=(),
    rowid_alias=None,
    without_rowid=False,
    storage=(0, 1, 2, 3, 4),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """What stays the same as long as a database keeps its page size: payload limits and text encoding."""

    geometry: Geometry
    encoding: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The changes that a page set contains.

    ``tables`` and the rows in it are computed while they are read; ``update`` is complete, and may
    be applied to the page map, only once all of them have been read.
    """

    schema: Schema
    schema_changes: tuple[SchemaChange, ...]
    tables: Iterator[TableChanges]
    update: MapUpdate


def build_pagemap(
    read: ReadRun, pages: int, schema: Schema, layout: Layout, damaged: dict[str, FormatError] | None = None
) -> PageMap:
    """The page map of a whole database of ``pages`` pages; raises ``FormatError``.

    ``damaged``: gets the first damaged page of each table that has any, which then raises nothing. What such a table
    reaches all the same is mapped, so that a change of it is noticed.
    """
    pagemap = PageMap(pages)
    map_tree(SCHEMA_TABLE.root, read, layout.geometry, False, pagemap)
    for table in schema.tables.values():
        found: list[FormatError] | None = None if damaged is None else []
        map_tree(table.root, read, layout.geometry, table.without_rowid, pagemap, found)
        if found and damaged is not None:
            damaged[table.name] = found[0]
    return pagemap


def all_rows(read: ReadPage, table: Table, schema: Schema, layout: Layout) -> Iterator[RowChange]:
    """All rows of a table as inserts. Raises ``DamagedError`` at the end if not all could be read."""
    pages: ReadPage = _Pages(read).__getitem__
    yield from readable_rows(table, RowReader(schema.format(table, layout.encoding), layout.geometry, pages))


def decode(
    old: ReadPage,
    new: ReadPage,
    changed: Collection[int],
    schema: Schema,
    pagemap: PageMap,
    layout: Layout,
    rebuild: frozenset[str] = frozenset(),
    *,
    verify: bool = False,
) -> Decoded:
    """Decode a page set.

    ``old`` and ``new`` read a page as of before and after; ``changed``: the pages that may differ.
    ``schema`` and ``pagemap`` describe the state before. Tables named in ``rebuild`` give all their
    rows as inserts. ``verify``: the pages may be of a file that was half overwritten, so that a tree has a key
    twice. Raises ``FormatError`` (also while the result is read), then for such a key, too; ``SourceError``.
    """
    return _Decoder(old, new, changed, schema, pagemap, layout, rebuild, verify=verify).run()


class _Decoder:
    def __init__(
        self,
        old: ReadPage,
        new: ReadPage,
        changed: Collection[int],
        schema: Schema,
        pagemap: PageMap,
        layout: Layout,
        rebuild: frozenset[str],
        *,
        verify: bool,
    ) -> None:
        self._old: ReadPage = _Pages(old).__getitem__
        self._new: ReadPage = _Pages(new).__getitem__
        self._schema = schema
        self._layout = layout
        self._rebuild = rebuild
        self._verify = verify
        self._update = MapUpdate()
        self._touched, self._dirty = _touched_trees(changed, pagemap)

    def run(self) -> Decoded:
        schema = self._schema
        changes: tuple[SchemaChange, ...] = ()
        # Page 1 is logged by many commits only for its header: then no row of the schema differs.
        if 1 in self._touched and list(self._compare(SCHEMA_TABLE, SCHEMA_TABLE, self._schema).rows):
            schema = self._read_schema()
        if schema is not self._schema or self._rebuild:
            changes = tuple(self._schema_changes(schema))
        return Decoded(schema, changes, self._tables(schema, changes), self._update)

    def _read_schema(self) -> Schema:
        """The schema as it is now; a column that has the values of one that a rule leaves out is left out, too."""
        rules, layout = self._schema.rules, self._layout
        schema = read_schema(self._new, layout.geometry, layout.encoding, rules)
        known = [Known.of(table, rules) for table in self._schema.tables.values()]
        if (found := inherited(known, schema.tables, rules)) != rules.inherited:
            schema = read_schema(self._new, layout.geometry, layout.encoding, rules.with_inherited(found))
        return schema

    def _schema_changes(self, schema: Schema) -> Iterator[SchemaChange]:
        omitting = [table for table in schema.tables.values() if table.omitted]
        for change in self._changes(schema):
            if change.before is not None and omitting:
                known = Known.of(change.before, self._schema.rules)
                kept_out = {name for table in omitting for name in withheld(known, table)}
                yield replace(change, withheld=tuple(sorted(kept_out)))
            else:
                yield change

    def _changes(self, schema: Schema) -> Iterator[SchemaChange]:
        before, after = self._schema.tables, schema.tables
        dropped = {table.root: table for name, table in before.items() if name not in after}
        for name, table in after.items():
            known = before.get(name)
            if known is None:
                source = dropped.get(table.root)
                if source is not None and source.same_shape(table) and name not in self._rebuild:
                    del dropped[table.root]
                    yield SchemaChange("rename", source, table)
                elif source is not None and (kept := _renamed(source, table)) and name not in self._rebuild:
                    del dropped[table.root]
                    yield SchemaChange("columns", source, table, kept)
                else:
                    yield SchemaChange("create", None, table)
            elif name in self._rebuild or not known.same_shape(table):
                carried = None if name in self._rebuild else carried_columns(known, table)
                if carried is None:
                    yield SchemaChange("rebuild", known, table)
                else:
                    yield SchemaChange("columns", known, table, carried)
        for table in dropped.values():
            heir = schema.by_root.get(table.root)
            is_renamed = heir is not None and (table.same_shape(heir) or _renamed(table, heir) is not None)
            yield SchemaChange("drop", table, None, successor=heir.name if heir is not None and is_renamed else None)

    def _tables(self, schema: Schema, changes: tuple[SchemaChange, ...]) -> Iterator[TableChanges]:
        if schema is self._schema and not changes:
            # Most commits touch one or two tables of however many there are.
            for root in self._touched:
                if table := schema.by_root.get(root):
                    yield self._compare(table, table, schema)
            return
        special = {change.after.name: change for change in changes if change.after is not None}
        for change in changes:
            if change.kind == "drop" and change.before is not None:
                self._forget(change.before)
        for name, table in schema.tables.items():
            special_change = special.get(name)
            known = self._schema.tables.get(name) if special_change is None else special_change.before
            if known is None:
                yield TableChanges(table, self._all_rows(table, schema))
            elif special_change is not None and special_change.kind == "rebuild":
                self._forget(known)
                yield TableChanges(table, self._all_rows(table, schema))
            else:
                carried = () if special_change is None else special_change.carried
                reshaped = bool(carried) and is_reshaped(known, table)
                if reshaped or known.root != table.root or known.root in self._touched:
                    yield self._compare(known, table, schema, carried, reshaped=reshaped)

    def _rows(self, table: Table, schema: Schema, read: ReadPage) -> RowReader:
        return RowReader(schema.format(table, self._layout.encoding), self._layout.geometry, read)

    def _compare(
        self,
        before: Table,
        after: Table,
        schema: Schema,
        carried: tuple[int | None, ...] = (),
        *,
        reshaped: bool = False,
    ) -> TableChanges:
        olds, news = self._rows(before, self._schema, self._old), self._rows(after, schema, self._new)
        if carried:
            olds = RowReader(RowFormat(before, self._layout.encoding, after, carried), self._layout.geometry, self._old)
        rows = RowDiff(olds, news, self._dirty, self._update, reshaped=reshaped)
        changes = self._compared(before, after, rows)
        if self._verify:
            changes = once(changes, after, before.root, olds, news)
        return TableChanges(after, changes)

    def _compared(self, before: Table, after: Table, rows: RowDiff) -> Iterator[RowChange]:
        index = before.without_rowid
        if rows.reshaped or before.root != after.root:
            self._forget(before)
            for pgno in walk(after.root, self._new, interior=True):
                self._update.set(pgno, TREE, after.root)
            return rows.trees(
                sorted(walk(before.root, self._old, interior=index)),
                sorted(walk(after.root, self._new, interior=index)),
            )
        tree = compare_tree(before.root, self._touched[before.root], self._old, self._new, index)
        for pgno in tree.left:
            self._update.clear(pgno)
        for pgno in tree.joined:
            self._update.set(pgno, TREE, after.root)
        if tree.paired:
            return rows.pages(tree.old_rows)
        return rows.trees(tree.old_rows, tree.new_rows)

    def _forget(self, table: Table) -> None:
        for pgno in walk(table.root, self._old, interior=True):
            self._update.clear(pgno)

    def _all_rows(self, table: Table, schema: Schema) -> Iterator[RowChange]:
        rows = self._rows(table, schema, self._new)
        for pgno in walk(table.root, self._new, interior=True):
            self._update.set(pgno, TREE, table.root)
            if not table.without_rowid and is_interior(self._new(pgno)[0]):
                continue
            for entry in rows.entries(pgno, rows.pointers(pgno)):
                chain: list[int] = []
                row = rows.row(entry, chain)
                self._update.set_chain(chain, pgno)
                yield RowChange(None if table.without_rowid else entry[0], None, row)
                del row  # it may be large, and the next one is read before it would be forgotten


class _Pages(dict[int, bytes]):
    """The pages read last: most pages are read more than once, to find what changed and to decode it."""

    def __init__(self, read: ReadPage) -> None:
        self._read = read

    def __missing__(self, pgno: int) -> bytes:
        if len(self) >= _KEPT_PAGES:
            self.clear()
        page = self[pgno] = self._read(pgno)
        return page


def _touched_trees(changed: Collection[int], pagemap: PageMap) -> tuple[dict[int, list[int]], dict[int, int]]:
    """By root page, the tree's pages that changed; and by first page, the owner of overflow chains that changed."""
    touched: dict[int, list[int]] = {}
    dirty: dict[int, int] = {}
    unchanged: set[int] = set()
    owners: dict[int, Owner | None] = {}
    for pgno in changed:
        kind, ref = pagemap.get(pgno)
        if kind == TREE:
            touched.setdefault(ref, []).append(pgno)
        elif kind != NONE:
            if len(owners) >= _KEPT_OWNERS:
                owners.clear()
            owner = pagemap.chain_owner(pgno, owners)
            if owner is not None:
                leaf, head = owner
                leaf_kind, root = pagemap.get(leaf)
                if leaf_kind == TREE:
                    dirty[head] = leaf
                    if leaf not in changed and leaf not in unchanged:
                        unchanged.add(leaf)
                        touched.setdefault(root, []).append(leaf)
    return touched, dirty


def carried_columns(before: Table, after: Table) -> tuple[int | None, ...] | None:
    """For each column of ``after`` its index in ``before``, None for one that was added at the end.

    None instead if more than names, dropped and added columns differ: then the table counts as a new one. The same
    if virtual columns are added or dropped, or stay while others are: rows that were not written then have other
    values; and if a column that was left out is not any more.

    The file does not say what was done. Where a name is at another place now, columns before it were dropped, if
    that can be; otherwise those at the same place have got other names, if all are still alike. Which of the two
    it was makes no difference to the rows that follow (:func:`is_reshaped`), only to what is kept in Postgres.
    """
    if before.whole is not None or after.whole is not None:
        return _carried_of_some(before, after)
    if before.without_rowid or after.without_rowid or before.definition != after.definition:
        return None
    named, placed = _by_name(before.columns, after.columns), _by_place(before.columns, after.columns)
    has_moved = named is not None and any(at not in (None, to) for to, at in enumerate(named))
    places = named if placed is None or has_moved else placed
    if places is None:
        return None
    pairs = zip(places, after.columns, strict=True)
    names = {before.columns[at].name: column.name for at, column in pairs if at is not None}
    key = tuple(names.get(name) for name in before.primary_key)
    alias = None if before.rowid_alias is None else names.get(before.rowid_alias)
    return places if (key, alias) == (after.primary_key, after.rowid_alias) else None


def _by_name(olds: Sequence[Column], news: Sequence[Column]) -> tuple[int | None, ...] | None:
    """The old place of each column, if none has moved before another, and new ones are at the end; or None."""
    known = {column.name: at for at, column in enumerate(olds)}
    places = tuple(known.get(column.name) for column in news)
    kept = [at for at in places if at is not None]
    if any(at is not None for at in places[len(kept) :]) or kept != sorted(kept):
        return None
    return places if all(olds[at] == news[to] for to, at in enumerate(kept)) else None


def _by_place(olds: Sequence[Column], news: Sequence[Column]) -> tuple[int | None, ...] | None:
    """The same, if nothing but the names of the old ones has changed: no record is written for that."""
    return (*range(len(olds)), *[None] * (len(news) - len(olds))) if begin_alike(olds, news) else None


def is_reshaped(before: Table, after: Table) -> bool:
    """Whether a row may have other values although its record is the same, byte by byte.

    It cannot if each column has kept its place in the records and new ones follow.
    """
    carried, known = carried_columns(before.declared, after.declared), len(before.declared.columns)
    return carried is None or any(at != (to if to < known else None) for to, at in enumerate(carried))


def _renamed(before: Table, after: Table) -> tuple[int | None, ...] | None:
    """As :func:`carried_columns`, for a table of which a rule leaves other columns out under its new name."""
    same = before.declared.same_shape(after.declared) and not before.without_rowid
    return _carried_of_some(before, after) if same and before.places != after.places else None


def _carried_of_some(before: Table, after: Table) -> tuple[int | None, ...] | None:
    """As :func:`carried_columns`, for tables of which rules leave columns out."""
    carried = carried_columns(before.declared, after.declared)
    if carried is None:
        return None
    olds = before.places or tuple(range(len(before.columns)))
    places = [carried[at] for at in after.places or range(len(after.columns))]
    if any(at is not None and at not in olds for at in places):
        return None
    return tuple(None if at is None else olds.index(at) for at in places)
