"""How one source is mirrored into an application's own tables: what was decided, and what Postgres has now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Self

from msgspec import structs

from mirror.core.adopted import form_of_codec
from mirror.core.errors import ConfigError
from mirror.core.rows import RowChange
from mirror.core.rules import Rules
from mirror.core.tables import ColumnMapping, ColumnType, Table, TableMapping
from mirror.postgres.adopted import decisions as decided
from mirror.postgres.adopted import guards
from mirror.postgres.adopted.catalog import read_tables
from mirror.postgres.adopted.decisions import Decisions, of_name
from mirror.postgres.adopted.found import FoundTable
from mirror.postgres.adopted.mapping import map_table, pair_tables
from mirror.postgres.adopted.writing import chosen_form, form_of
from mirror.postgres.profiles.generic import NO_OVERRIDES
from mirror.postgres.target import Conn, Target

_OPERATION = "map a table"


class Adoption:
    """The adoption of one source. Thread: the sink's."""

    def __init__(self, conn: Conn, source_id: int, decisions: Decisions) -> None:
        self._conn = conn
        self._source_id = source_id
        self._decisions = decisions
        self._found: dict[str, FoundTable] = {}

    @classmethod
    def begin(cls, conn: Conn, source_id: int) -> Self | None:
        """The adoption of a source, whose session is to write into the tables; None: it was not adopted.

        No foreign key and no trigger acts on what the session writes from now on: see :mod:`.guards`. Raises
        :class:`SinkError`, and psycopg's errors.
        """
        decisions = decided.load(conn, source_id)
        if decisions is None:
            return None
        adoption = cls(conn, source_id, decisions)
        adoption.look()
        left_out = {name for name in adoption._found if decisions.left_out(name)}
        guards.suspend(conn, source_id, decisions.schema, adoption._found.keys() - left_out)
        return adoption

    def look(self) -> None:
        """Look at the application's tables as they are now: its migrations may have changed them."""
        self._found = read_tables(self._conn, self._decisions.schema, count=False)

    @property
    def rules(self) -> Rules:
        """What of the source is not mirrored."""
        return self._decisions.rules

    @property
    def replace_rows(self) -> bool:
        """Whether rows that the source does not have may go, when a table is first filled."""
        return self._decisions.replace_rows

    def decide(self, table: Table, rows: Callable[[Table], Iterable[RowChange]]) -> None:
        """Decide by its rows how the key of a table is written, where that was not decided when it was adopted: it had
        none then. Saved at once. Raises psycopg's errors.
        """
        try:
            target = self.target(table)
        except ConfigError:
            return  # it is refused
        counts = {name: Counter[str]() for name in target.undecided}
        if not counts:
            return
        kinds = {each.source: form_of_codec(each.codec).kind for each in target.columns}
        places = [(table.position(name), kinds[name], found) for name, found in counts.items()]
        for change in rows(table):
            for at, kind, found in places:
                if change.after is not None and change.after[at] is not None:
                    found[form_of(kind, change.after[at])] += 1
        chosen = {name: form for name, found in counts.items() if (form := chosen_form(found)[0])}
        if chosen:
            self._decisions = _with_only(self._decisions, table.name, chosen)
            # It may have been adopted again since this mirror has begun: then the rest of that is as it was decided.
            with self._conn.transaction():
                self._conn.execute(
                    "SELECT FROM mirror.sources WHERE source_id = $1::bigint FOR UPDATE", (str(self._source_id),)
                )
                kept = decided.load(self._conn, self._source_id)
                decided.save(self._conn, self._source_id, _with_only(kept or self._decisions, table.name, chosen))

    def target(self, table: Table) -> Target:
        """Where a table is to be stored by now; raises :class:`ConfigError`."""
        return Target.of(self.map_table(table, self._decisions.schema), None)

    def map_table(
        self,
        table: Table,
        schema: str,
        *,
        overrides: Mapping[str, ColumnType] = NO_OVERRIDES,
        rowid_key: bool = False,
        of_agent: bool = False,
    ) -> TableMapping:
        """As :class:`~mirror.core.tables.MapTable`: the table and the columns are there, and decide.

        Raises :class:`ConfigError` with the first problem.
        """
        pairs = pair_tables([table.name], self._found, self._decisions)
        problems = [*pairs.problems]
        if (name := pairs.tables.get(table.name)) is not None:
            found = self._found[name]
            mapped = map_table(table, found, self._decisions)
            if mapped.mapping is not None:
                return _with_uniques(mapped.mapping, found)
            problems += mapped.problems
        first = next((each for each in problems if each.level == "blocker"), None)
        place = ".".join(filter(None, (table.name, first.column if first else "")))
        detail = first.detail if first else "it is left out"
        raise ConfigError(_OPERATION, place, detail, next_step=first.next_step if first else "")


def _with_only(decisions: Decisions, table: str, chosen: Mapping[str, str]) -> Decisions:
    """The decisions, with the forms of these columns of a key decided, where they were not."""
    held = of_name(decisions.only, table) or {}
    return replace(decisions, only={**decisions.only, table: {**chosen, **held}})


def _with_uniques(mapping: TableMapping, found: FoundTable) -> TableMapping:
    """The mapping, with the columns marked that unique keys beside its own key are of."""
    key = set(mapping.key or ())
    others = [each for each in found.uniques if set(each.columns) != key]
    names = {name for each in others for name in each.columns}
    if None in names or found.excludes or any(each.condition for each in others):
        # What an expression, a condition or EXCLUDE looks at may be any column.
        names |= {column.name for column in mapping.columns}

    def marked(column: ColumnMapping) -> ColumnMapping:
        if column.name not in names or column.name in key:
            return column
        return replace(column, codec=structs.replace(form_of_codec(column.codec), unique=True).codec)

    return replace(mapping, columns=tuple(map(marked, mapping.columns)))
