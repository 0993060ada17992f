"""Which store a SQLite file is, by its tables."""

from __future__ import annotations

from typing import Literal

from mirror.core.errors import SourceError
from mirror.storage.on_sqlite.store import SQLiteStore

#: The tables by which a file is known.
_TABLES: dict[Literal["memory", "dashboard"], frozenset[str]] = {
    "memory": frozenset({"memu_meta", "memory_items", "memory_categories"}),
    "dashboard": frozenset({"tasks", "teams", "team_members"}),
}


def recognised(store: SQLiteStore) -> Literal["memory", "dashboard"] | None:
    """Whether a file is a MemuStore or its dashboard; None for any other. Raises ``SourceError``."""
    if not store.database.is_file():
        step = "check `sources` in mirror.json"
        raise SourceError("open the store", str(store.database), "no such file", next_step=step)
    names = store.tables()
    return next((kind for kind, wanted in _TABLES.items() if wanted <= names), None)
