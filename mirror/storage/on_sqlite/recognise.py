"""Which store a SQLite file is, by its tables."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from typing import Literal

from mirror.core.errors import SourceError
from mirror.core.place import where
from mirror.storage.on_sqlite.store import SQLiteStore

#: The tables by which a file is known.
_TABLES: dict[Literal["memory", "dashboard"], frozenset[str]] = {
    "memory": frozenset({"memu_meta", "memory_items", "memory_categories"}),
    "dashboard": frozenset({"tasks", "teams", "team_members"}),
}


def recognised(store: SQLiteStore) -> Literal["memory", "dashboard"] | None:
    """Whether a file is a MemuStore or its dashboard; None for any other. Raises ``SourceError``."""
    place = where(store.database)
    if not place.is_file():
        step = "check `sources` in mirror.json"
        raise SourceError("open the store", str(store.database), "no such file", next_step=step)
    if place == store.database:
        names = store.tables()
    else:  # programs were moved to Postgres: they may come back to it
        with closing(SQLiteStore(place)) as there:
            names = there.tables()
    return kind_of(names)


def kind_of(names: Collection[str]) -> Literal["memory", "dashboard"] | None:
    """The same, by the names of a file's tables."""
    return next((kind for kind, wanted in _TABLES.items() if wanted <= set(names)), None)
